"""`osst configure` and `osst env`, and what other commands make of profiles."""

import json
import os
import shlex
import stat
import subprocess
from pathlib import Path

import pytest

from osstorchconnector import OssClient
from osstorchconnector.cli.__main__ import main
from osstorchconnector.connection.profiles import profiles_path
from osstorchconnector.testing import Emulator

from .conftest import PROGRAM, Ended, Osst

Run = Osst


@pytest.fixture(autouse=True)
def _directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command without options of the connection."""

    def run(*arguments: object) -> Ended:
        capsys.readouterr()
        try:
            status = main([*map(str, arguments)])
        except SystemExit as ending:
            status = int(ending.code or 0)
        captured = capsys.readouterr()
        return Ended(status, captured.out, captured.err)

    return run


@pytest.fixture
def profile(run: Run, emulator: Emulator) -> str:
    place = f"file:{emulator.cred_path}"
    options = ["--endpoint", emulator.endpoint, "--region", emulator.region, "--credentials", place]
    assert run("configure", "there", *options).status == 0
    return "there"


def test_a_profile_is_made_changed_shown_and_removed(run: Run) -> None:
    assert run("configure", "--endpoint", "oss-cn-hangzhou.aliyuncs.com").status == 0
    assert run("configure", "other", "--credentials", "ecs:role").status == 0
    assert run("configure", "--region", "cn-hangzhou").status == 0
    assert stat.S_IMODE(profiles_path().stat().st_mode) == 0o600
    assert run("configure", "--list").lines == [
        "default: endpoint oss-cn-hangzhou.aliyuncs.com, region cn-hangzhou, chain",
        "other: endpoint -, region -, ecs:role",
    ]
    assert run("configure", "--show", "other", "--json").documents == [
        {"name": "other", "endpoint": "", "region": "", "credentials": "ecs:role"}
    ]
    assert run("configure", "--remove", "other").status == 0
    assert len(run("configure", "--list").lines) == 1
    assert run("configure", "--remove", "other").status == 1


@pytest.mark.parametrize(
    ("arguments", "status", "complaint"),
    [
        ([], 2, "there is no terminal to ask on"),
        (["--list", "--region", "r"], 2, "take no values"),
        (["--list", "--show"], 2, "not allowed with"),
        (["a\nb", "--region", "r"], 2, "printable characters"),
        (["--region", "oss-cn-hangzhou"], 1, "is a bucket location"),
        (["--endpoint", "http://user:MadeUp@host"], 1, "must not contain a user name"),
        (["--credentials", "LTAIMadeUp:MadeUpSecret"], 1, "never the access key itself"),
        (["--show", "absent"], 1, "has no profile 'absent'"),
    ],
)
def test_what_is_refused(run: Run, arguments: list[str], status: int, complaint: str) -> None:
    ended = run("configure", *arguments)
    assert (ended.status, ended.out) == (status, "")
    assert complaint in ended.err
    assert "MadeUp" not in ended.err
    assert not profiles_path().exists()


def test_a_directory_that_cannot_be_written_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    # Nobody can make a directory there, not even root.
    monkeypatch.setenv("XDG_CONFIG_HOME", "/proc")
    ended = run("configure", "--region", "cn-hangzhou")
    assert ended.status == 1
    assert "profiles.json' cannot be written: No such file or directory" in ended.err


def test_commands_use_the_profile_that_is_named(
    run: Run, profile: str, client: OssClient, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.put(f"oss://{bucket}/a", b"x")
    expected = [f"oss://{bucket}/a"]
    assert run("ls", "-1", "--profile", profile, f"oss://{bucket}").lines == expected
    # A profile wins over the environment, and an option over the profile.
    monkeypatch.setenv("OSS_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OSS_REGION", "cn-beijing")
    monkeypatch.setenv("OSS_PROFILE", profile)
    assert run("ls", "-1", f"oss://{bucket}").lines == expected
    assert "127.0.0.1:8" in run("ls", "--endpoint", "http://127.0.0.1:8", f"oss://{bucket}").err
    monkeypatch.setenv("OSS_PROFILE", "absent")
    assert "has no profile 'absent'" in run("ls", f"oss://{bucket}").err


def test_the_default_profile_is_used_if_nothing_names_an_endpoint(
    run: Run, emulator: Emulator, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "no endpoint: give --endpoint" in run("ls", f"oss://{bucket}").err
    place = f"file:{emulator.cred_path}"
    run("configure", "--endpoint", emulator.endpoint, "--region", emulator.region, "--credentials", place)
    assert run("ls", f"oss://{bucket}").status == 0
    monkeypatch.setenv("OSS_ENDPOINT", "http://127.0.0.1:9")
    assert run("ls", f"oss://{bucket}").status == 1


def test_an_anonymous_profile_signs_nothing(run: Run, emulator: Emulator, bucket: str) -> None:
    options = ["--endpoint", emulator.endpoint, "--region", emulator.region, "--credentials", "anonymous"]
    run("configure", "open", *options)
    ended = run("cat", "--profile", "open", f"oss://{bucket}/a")
    assert ended.status == 1
    assert "AccessDenied" in ended.err


def in_a_shell(lines: str, command: str, **environment: str) -> str:
    script = f"{lines}\n{' '.join(map(shlex.quote, PROGRAM))} {command}"
    ended = subprocess.run(
        ["sh", "-c", script], capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )
    return ended.stdout + ended.stderr


def test_the_lines_make_a_shell_use_the_profile(run: Run, profile: str, client: OssClient, bucket: str) -> None:
    client.put(f"oss://{bucket}/a", b"x")
    ended = run("env", "--profile", profile)
    assert ended.status == 0
    # Keys that the shell has are of another account.
    found = in_a_shell(ended.out, f"ls -1 oss://{bucket}", OSS_ACCESS_KEY_ID="other", OSS_ACCESS_KEY_SECRET="other")
    assert found == f"oss://{bucket}/a\n"


def test_secrets_are_printed_only_if_they_are_asked_for(
    run: Run, profile: str, emulator: Emulator, bucket: str
) -> None:
    secret = json.loads(Path(emulator.cred_path).read_text())["AccessKeySecret"]
    assert secret not in run("env", "--profile", profile).out
    (document,) = run("env", "--profile", profile, "--secrets", "--json").documents
    assert document["OSS_ACCESS_KEY_SECRET"] == secret
    assert document["OSS_ENDPOINT"] == emulator.endpoint
    ended = run("env", "--profile", profile, "--secrets")
    assert in_a_shell(ended.out, f"ls oss://{bucket}") == ""


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ("aliyun:a b'c", "export ALIBABA_CLOUD_PROFILE='a b'\"'\"'c'"),
        ("ini:x", "export ALIBABA_CLOUD_CLI_PROFILE_DISABLED=true"),
        ("environment", "unset OSS_REGION"),
    ],
)
def test_values_are_quoted_for_the_shell(run: Run, place: str, line: str) -> None:
    run("configure", "p", "--endpoint", "oss-cn-hangzhou.aliyuncs.com", "--credentials", place)
    assert line in run("env", "--profile", "p").lines
    fish = run("env", "--profile", "p", "--shell", "fish").lines
    assert "set -gx OSS_ENDPOINT 'oss-cn-hangzhou.aliyuncs.com'" in fish
    assert "set -e OSS_PROFILE" in fish


@pytest.mark.parametrize("place", ["ecs", "uri:http://127.0.0.1:9/key", "anonymous"])
def test_a_place_that_no_variable_names_is_said(run: Run, place: str) -> None:
    run("configure", "p", "--credentials", place)
    ended = run("env", "--profile", "p")
    assert (ended.status, ended.out) == (1, "")
    assert f"no variables can name the place '{place}' alone" in ended.err


def test_a_running_emulator(run: Run, bucket: str, client: OssClient) -> None:
    client.put(f"oss://{bucket}/a", b"x")
    with Emulator(buckets=["demo"], access_key_id="emulator", access_key_secret="emulator-secret") as own:
        lines = run("env", "--emulator", own.endpoint).out
        assert f"export OSS_ENDPOINT={own.endpoint}\n" in lines
        assert "export OSS_ACCESS_KEY_SECRET=emulator-secret\n" in lines
        assert in_a_shell(lines, "ls") == "oss://demo/\n"
    ended = run("env", "--emulator", own.endpoint)
    assert (ended.status, ended.out) == (1, "")
    assert f"no emulator answers at {own.endpoint}" in ended.err
    with Emulator(tls=True) as own:
        assert run("env", "--emulator", own.endpoint).status == 0
