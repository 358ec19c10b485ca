"""Profiles of other tools, and the order of places."""

import json
import logging
import os
import pickle
import re
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from osstorchconnector import OssClient, OssCredentialsError
from osstorchconnector.connection.config import resolve
from osstorchconnector.credentials import (
    CliProfileCredentials,
    DefaultCredentials,
    EcsRoleCredentials,
    FileCredentials,
    IniProfileCredentials,
    OidcRoleCredentials,
    RamRoleCredentials,
    UriCredentials,
)
from tests.credentials.stand_in import Asked, key_document, standing_in

ENDPOINT = "http://oss-cn-hangzhou-internal.aliyuncs.com"
SECRET = "a-secret-that-must-not-show"
KEY = {"access_key_id": "profile-id", "access_key_secret": SECRET}

Write = Callable[[str, object], Path]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def write(home: Path) -> Write:
    def write(name: str, content: object) -> Path:
        path = home / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


def cli(*profiles: dict[str, Any], current: str = "default") -> dict[str, Any]:
    return {"current": current, "profiles": [{"name": "default", **profile} for profile in profiles]}


def test_cli_profiles_with_keys(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    token = {**KEY, "mode": "StsToken", "name": "temporary", "sts_token": "token"}
    write(".aliyun/config.json", cli({**KEY, "mode": "AK"}, token))
    assert CliProfileCredentials()() == ("profile-id", SECRET, None, None)
    assert CliProfileCredentials(profile="temporary")() == ("profile-id", SECRET, "token", None)
    monkeypatch.setenv("ALIBABA_CLOUD_PROFILE", "temporary")
    assert CliProfileCredentials()().security_token == "token"
    with pytest.raises(OssCredentialsError, match="has no profile 'absent'"):
        CliProfileCredentials(profile="absent")()


def test_cli_profiles_with_roles(write: Write) -> None:
    role = {"ram_role_arn": "role", "ram_session_name": "session", "expired_seconds": 900, "external_id": "partner"}
    write(
        ".aliyun/config.json",
        cli(
            {**KEY, "name": "ram", "mode": "RamRoleArn", **role, "sts_region": "cn-beijing", "enable_vpc": True},
            {"name": "chained", "mode": "ChainableRamRoleArn", "source_profile": "ram", **role},
            {"name": "ecs", "mode": "EcsRamRole", "ram_role_name": "node"},
            {"name": "ram-ecs", "mode": "RamRoleArnWithEcs", "ram_role_name": "node", **role},
            {"name": "oidc", "mode": "OIDC", **role, "oidc_provider_arn": "p", "oidc_token_file": "/token"},
            {"name": "uri", "mode": "CredentialsURI", "credentials_uri": "http://127.0.0.1:9/"},
        ),
    )

    def made(name: str) -> tuple[type, tuple[Any, ...]]:
        source: Any = CliProfileCredentials(profile=name).source()
        return type(source), source._arguments

    common = ("role", "session", 900, "")
    kind, (source, *arguments) = made("ram")
    assert (kind, tuple(arguments)) == (
        RamRoleCredentials,
        (*common, "partner", "https://sts-vpc.cn-beijing.aliyuncs.com"),
    )
    assert source().access_key_id == "profile-id"
    kind, (source, *arguments) = made("chained")
    assert isinstance(source, RamRoleCredentials)
    assert (kind, tuple(arguments)) == (RamRoleCredentials, (*common, "partner", ""))
    assert made("ecs") == (EcsRoleCredentials, ("node", ""))
    assert isinstance(made("ram-ecs")[1][0], EcsRoleCredentials)
    assert made("oidc") == (OidcRoleCredentials, ("role", "p", "/token", "session", 900, "", ""))
    assert made("uri") == (UriCredentials, ("http://127.0.0.1:9/",))


def test_ini_profiles(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(
        ".alibabacloud/credentials.ini",
        "[default]\nenable = true\ntype = access_key # the usual one\naccess_key_id = ini-id\n"
        f"access_key_secret = {SECRET}\n"
        f"[temporary]\ntype = sts\naccess_key_id = ini-id\naccess_key_secret = {SECRET}\nsecurity_token = to%ken\n"
        f"[ram]\ntype = ram_role_arn\naccess_key_id = ini-id\naccess_key_secret = {SECRET}\nrole_arn = role\n"
        "role_session_name = session\npolicy = {}\n"
        "[oidc]\ntype = oidc_role_arn\nrole_arn = role\noidc_provider_arn = p\noidc_token_file_path = /token\n"
        "[ecs]\ntype = ecs_ram_role\nrole_name = node\n"
        "[rsa]\ntype = rsa_key_pair\n",
    )
    assert IniProfileCredentials()() == ("ini-id", SECRET, None, None)
    assert IniProfileCredentials(profile="temporary")().security_token == "to%ken"
    kinds = {"ram": RamRoleCredentials, "oidc": OidcRoleCredentials, "ecs": EcsRoleCredentials}
    for name, kind in kinds.items():
        assert type(IniProfileCredentials(profile=name).source()) is kind
    with pytest.raises(OssCredentialsError, match=r"'rsa_key_pair' of section \[rsa\] is not supported"):
        IniProfileCredentials(profile="rsa")()
    moved = path.rename(path.with_name("elsewhere"))
    monkeypatch.setenv("ALIBABA_CLOUD_CREDENTIALS_FILE", str(moved))
    assert IniProfileCredentials()().access_key_id == "ini-id"


def test_the_connectors_json_is_read_in_the_place_of_an_ini_file(write: Write) -> None:
    write(".alibabacloud/credentials", {"AccessKeyId": "json-id", "AccessKeySecret": SECRET})
    assert isinstance(IniProfileCredentials().source(), FileCredentials)
    assert DefaultCredentials()().access_key_id == "json-id"
    write(".alibabacloud/credentials", f"[default]\naccess_key_id = older-id\naccess_key_secret = {SECRET}\n")
    assert DefaultCredentials()().access_key_id == "older-id"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (f'{{"profiles": "{SECRET}', "is not JSON"),
        ([SECRET], "must hold a JSON object"),
        (cli({"mode": "AK", "access_key_id": SECRET}), "has no access_key_secret"),
        (cli({"mode": "AK", **KEY, "access_key_secret": [SECRET]}), "access_key_secret must be a string"),
        (cli({"mode": "CloudSSO", **KEY}), "mode 'CloudSSO' of profile 'default' is not supported"),
        (cli({"mode": "RamRoleArn", **KEY}), "has no ram_role_arn"),
        (cli({"mode": "RamRoleArn", **KEY, "ram_role_arn": "r", "expired_seconds": "9"}), "must be a whole number"),
        (cli({"mode": "RamRoleArn", **KEY, "ram_role_arn": "r", "expired_seconds": 9}), "must be at least 900, not 9"),
        (cli({"mode": "ChainableRamRoleArn", "source_profile": "default"}), "leads in a circle"),
    ],
)
def test_a_malformed_cli_profile_is_reported_at_construction(write: Write, content: object, complaint: str) -> None:
    write(".aliyun/config.json", content)
    with pytest.raises(ValueError, match=complaint) as caught:
        OssClient(ENDPOINT)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (f"access_key_secret = {SECRET}", "is not an INI file"),
        (f"[default]\n{SECRET}", "is not an INI file"),
        (f"[default]\ntype = access_key\naccess_key_secret = {SECRET}", "has no access_key_id"),
        (f"[other]\naccess_key_secret = {SECRET}", r"has no section \[default\]"),
    ],
)
def test_a_malformed_ini_profile_is_reported_at_construction(write: Write, content: str, complaint: str) -> None:
    write(".alibabacloud/credentials.ini", content)
    with pytest.raises(OssCredentialsError, match=complaint) as caught:
        OssClient(ENDPOINT)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_a_profile_is_read_again_when_it_changes(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    path = write(".aliyun/config.json", cli({**KEY, "mode": "AK"}))
    source = DefaultCredentials()
    assert source().access_key_id == "profile-id"
    write(".aliyun/config.json", cli({**KEY, "access_key_id": "next-id", "mode": "AK"}))
    # The time is set, so that no clock resolution hides the change.
    os.utime(path, ns=(1, 1))
    assert source().access_key_id == "next-id"
    path.write_text('{"half-wri')
    with caplog.at_level(logging.WARNING):
        assert source().access_key_id == "next-id"
    assert "is not JSON" in caplog.text


def test_the_order_of_places(write: Write, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    def answer(asked: Asked) -> tuple[int, Any]:
        if asked.method == "PUT":
            return 200, "token"
        name = {"/": "oidc" if asked.method == "POST" else "uri"}.get(asked.path, "ecs")
        if asked.path.endswith("/security-credentials/"):
            return 200, "role"
        key = key_document(f"STS.{name}", SECRET, "token")
        return 200, {"Credentials": key} if name == "oidc" else key

    def found() -> str:
        return DefaultCredentials()().access_key_id

    with standing_in(answer) as service:
        monkeypatch.setattr("osstorchconnector.credentials.sts.sts_endpoint", lambda: service.url)
        monkeypatch.setattr("osstorchconnector.credentials.ecs.METADATA_ENDPOINT", service.url)
        monkeypatch.setenv("ALIBABA_CLOUD_CREDENTIALS_URI", f"{service.url}/")
        assert found() == "STS.uri"
        monkeypatch.delenv("ALIBABA_CLOUD_ECS_METADATA_DISABLED")
        assert found() == "STS.ecs"
        write(".alibabacloud/credentials.ini", f"[default]\naccess_key_id = ini-id\naccess_key_secret = {SECRET}\n")
        assert found() == "ini-id"
        write(".aliyun/config.json", cli({**KEY, "mode": "AK"}))
        assert found() == "profile-id"
        monkeypatch.setenv("ALIBABA_CLOUD_CLI_PROFILE_DISABLED", "true")
        assert found() == "ini-id"
        write("token", "an-oidc-token")
        for name, value in {"ROLE_ARN": "r", "OIDC_PROVIDER_ARN": "p", "OIDC_TOKEN_FILE": str(home / "token")}.items():
            monkeypatch.setenv(f"ALIBABA_CLOUD_{name}", value)
        assert found() == "STS.oidc"
        monkeypatch.setenv("ALIBABA_CLOUD_ACCESS_KEY_ID", "alibaba-id")
        monkeypatch.setenv("ALIBABA_CLOUD_ACCESS_KEY_SECRET", SECRET)
        assert found() == "alibaba-id"
        monkeypatch.setenv("OSS_ACCESS_KEY_ID", "oss-id")
        monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", SECRET)
        assert found() == "oss-id"


def test_a_place_that_is_configured_and_fails_does_not_give_way_to_the_next(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = write("token", "an-oidc-token")
    write(".aliyun/config.json", cli({**KEY, "mode": "AK"}))
    for name, value in {"ROLE_ARN": "r", "OIDC_PROVIDER_ARN": "p", "OIDC_TOKEN_FILE": str(token)}.items():
        monkeypatch.setenv(f"ALIBABA_CLOUD_{name}", value)
    with standing_in(lambda _: (403, {"Code": "NoPermission"})) as service:
        monkeypatch.setattr("osstorchconnector.credentials.sts.sts_endpoint", lambda: service.url)
        with pytest.raises(OssCredentialsError, match="NoPermission"):
            DefaultCredentials()()


def test_later_keys_come_from_the_same_place(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write(".aliyun/config.json", cli({**KEY, "mode": "AK"}))
    source = DefaultCredentials()
    assert source().access_key_id == "profile-id"
    monkeypatch.setenv("OSS_ACCESS_KEY_ID", "oss-id")
    monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", SECRET)
    assert source().access_key_id == "profile-id"
    assert pickle.loads(pickle.dumps(source))().access_key_id == "oss-id"
    assert SECRET.encode() not in pickle.dumps(source)


def test_if_nothing_is_configured_the_error_names_each_place(home: Path) -> None:
    with pytest.raises(OssCredentialsError) as caught:
        resolve(ENDPOINT)
    text = str(caught.value)
    for reason in (
        "environment: OSS_ACCESS_KEY_ID and ALIBABA_CLOUD_ACCESS_KEY_ID are not set",
        "OIDC role: ALIBABA_CLOUD_ROLE_ARN and ALIBABA_CLOUD_OIDC_PROVIDER_ARN and ALIBABA_CLOUD_OIDC_TOKEN_FILE are",
        f"profile of the aliyun CLI: there is no file '{home}/.aliyun/config.json'",
        f"INI profile: there is no file '{home}/.alibabacloud/credentials.ini'",
        "ECS RAM role: ALIBABA_CLOUD_ECS_METADATA_DISABLED is true",
        "credentials URI: ALIBABA_CLOUD_CREDENTIALS_URI is not set",
    ):
        assert reason in text


@pytest.mark.usefixtures("home")
def test_without_a_metadata_service_the_first_request_names_each_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ALIBABA_CLOUD_ECS_METADATA_DISABLED")
    monkeypatch.setattr("osstorchconnector.credentials.ecs.METADATA_ENDPOINT", "http://127.0.0.1:9")
    client = OssClient(ENDPOINT)
    with pytest.raises(OssCredentialsError) as caught:
        client.get("oss://bucket/key")
    assert "ECS RAM role: ECS metadata service: http://127.0.0.1:9/latest/api/token cannot be reached" in str(
        caught.value
    )
    assert "credentials URI: ALIBABA_CLOUD_CREDENTIALS_URI is not set" in str(caught.value)


def test_empty_profiles_are_ignored(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write(".aliyun/config.json", cli({"mode": "AK", "access_key_id": "", "access_key_secret": ""}))
    write(".alibabacloud/credentials.ini", "")
    with standing_in(lambda _: (200, key_document("STS.uri", SECRET, "token"))) as service:
        monkeypatch.setenv("ALIBABA_CLOUD_CREDENTIALS_URI", service.url)
        assert DefaultCredentials()().access_key_id == "STS.uri"


def test_the_guide_names_every_variable_and_file() -> None:
    root = Path(__file__).parents[2]
    guide = (root / "docs" / "guides" / "credentials.md").read_text()
    source = "".join(path.read_text() for path in (root / "python" / "osstorchconnector" / "credentials").glob("*.py"))

    def read(text: str) -> set[str]:
        return set(re.findall(r"\b(?:ALIBABA_CLOUD|OSS)_[A-Z0-9_]+\b", text))

    assert read(guide) == read(source)
    profiles = (root / "python" / "osstorchconnector" / "credentials" / "profile.py").read_text()
    makers = set(re.findall(r'^            "(\w+)": ', profiles, flags=re.MULTILINE))
    assert {"AK", "access_key"} < makers
    assert [kind for kind in makers if f"`{kind}`" not in guide] == []
