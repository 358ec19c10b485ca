"""Tracebacks with the locals of frames, as pytest -l, rich and error trackers show them, hold no secret."""

import dataclasses
import json
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from osstorchconnector import OssCheckpoint, OssClient, OssConfig, OssConfigError, OssFileSystem, OssSafetensor
from osstorchconnector.credentials import (
    CliProfileCredentials,
    DefaultCredentials,
    EcsRoleCredentials,
    EnvironmentCredentials,
    ExplicitCredentials,
    FileCredentials,
    IniProfileCredentials,
    OidcRoleCredentials,
    ProviderCredentials,
    RamRoleCredentials,
    UriCredentials,
)
from tests.faults.server import Answer, Exchange, ScriptedServer

SECRET = "the-secret-9a7f3c"
TOKEN = "the-token-51c20e"
KEY = {"AccessKeyId": "id", "AccessKeySecret": SECRET, "SecurityToken": TOKEN}


def shown(error: BaseException, seen: set[int] | None = None) -> Iterator[str]:
    """Yield the texts of an error, of its causes and contexts, and of the locals of all frames of this package."""
    seen = set() if seen is None else seen
    if id(error) in seen:
        return
    seen.add(id(error))
    yield from (str(error), repr(error), repr(vars(error)), *getattr(error, "__notes__", ()))
    step: TracebackType | None = error.__traceback__
    while step is not None:
        # The initializer that a dataclass generates has no file.
        if "osstorchconnector" in step.tb_frame.f_code.co_filename or step.tb_frame.f_code.co_filename == "<string>":
            yield from (f"{name} = {value!r}" for name, value in step.tb_frame.f_locals.items())
        step = step.tb_next
    for other in (error.__cause__, error.__context__):
        if other is not None:
            yield from shown(other, seen)


def assert_hidden(call: Callable[[], object]) -> BaseException:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - any error
        call()
    leaks = [text for text in shown(caught.value) if SECRET in text or TOKEN in text]
    assert leaks == []
    assert not any(SECRET in line for line in traceback.format_exception(caught.value))
    return caught.value


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true")
    for name in ("OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET", "OSS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("made", [OssClient, OssCheckpoint, OssSafetensor, OssFileSystem])
def test_a_traceback_with_locals_can_be_made_of_a_failed_initializer(made: Callable[..., object]) -> None:
    with pytest.raises(OssConfigError) as caught:
        made("ftp://example.com")
    shown = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    assert "ftp" in shown


def test_a_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"htp://user:{SECRET}@127.0.0.1:1")
    config = OssConfig(access_key_id="id", access_key_secret="other")
    error = assert_hidden(lambda: OssClient("http://oss.example.com", region="cn-hangzhou", config=config))
    assert "HTTP_PROXY" in str(error)


def test_the_value_of_a_header_is_not_shown() -> None:
    error = assert_hidden(lambda: OssConfig(headers={"x-gateway": f"{TOKEN}\n"}))
    assert r"OssConfig.headers['x-gateway'] holds '\n'" in str(error)
    assert repr(OssConfig(headers={"x-gateway": TOKEN})) == "OssConfig(headers={'x-gateway': '***'})"


def test_the_check_finds_a_secret_in_a_frame_of_this_package() -> None:
    namespace: dict[str, Any] = {}
    exec(compile(f"def leak():\n    key = {SECRET!r}\n    raise ValueError", "<string>", "exec"), namespace)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - without a message
        namespace["leak"]()
    assert any(SECRET in text for text in shown(caught.value))


def test_half_a_key_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", SECRET)
    monkeypatch.setenv("OSS_SESSION_TOKEN", TOKEN)
    assert_hidden(EnvironmentCredentials())
    assert_hidden(DefaultCredentials())
    assert_hidden(DefaultCredentials().check)
    assert_hidden(lambda: OssClient("oss-cn-hangzhou.aliyuncs.com"))


MALFORMED = {
    "no JSON": json.dumps(KEY)[:-1],
    "a list": json.dumps([KEY]),
    "no ID": json.dumps({"AccessKeySecret": SECRET, "SecurityToken": TOKEN}),
    "wrong type": json.dumps({**KEY, "SecurityToken": [TOKEN]}),
    "no time": json.dumps({**KEY, "Expiration": "soon"}),
    "nested": "[" * 100_000 + SECRET,
}


@pytest.mark.parametrize("text", MALFORMED.values(), ids=MALFORMED)
def test_malformed_files(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "key.json"
    path.write_text(text)
    for call in (
        FileCredentials(str(path)),
        FileCredentials(str(path)).get_credentials,
        lambda: OssClient("oss-cn-hangzhou.aliyuncs.com", cred_path=str(path)),
    ):
        assert isinstance(assert_hidden(call), OssConfigError)
    monkeypatch.setenv("ALIBABA_CLOUD_CREDENTIALS_FILE", str(path))
    assert_hidden(IniProfileCredentials())
    assert_hidden(DefaultCredentials())


PROFILE = {"name": "default", "access_key_id": "id", "access_key_secret": SECRET, "sts_token": TOKEN}


@pytest.mark.parametrize(
    "document",
    [
        {"profiles": [{**PROFILE, "mode": "Unheard"}]},
        {"profiles": [{**PROFILE, "mode": "AK", "access_key_id": 5}]},
        {"profiles": [{**PROFILE, "mode": "RamRoleArn"}]},
        {"profiles": [{**PROFILE, "mode": "StsToken", "access_key_id": ""}]},
        {"profiles": [PROFILE], "current": "other"},
        {"profiles": [{**PROFILE, "mode": "RamRoleArn", "ram_role_arn": "role", "expired_seconds": "x"}]},
        [SECRET],
    ],
)
def test_malformed_profiles(document: object, tmp_path: Path) -> None:
    path = tmp_path / ".aliyun" / "config.json"
    path.parent.mkdir()
    path.write_text(json.dumps(document))
    for call in (CliProfileCredentials(), CliProfileCredentials().source, DefaultCredentials().check):
        assert_hidden(call)
    assert_hidden(CliProfileCredentials.from_environment)


@pytest.mark.parametrize("section", ["[default]\n[default]\n", "[other]\n", "[default]\ntype = unheard\n", "key\n"])
def test_malformed_sections(section: str, tmp_path: Path) -> None:
    path = tmp_path / "credentials.ini"
    path.write_text(f"{section}access_key_secret = {SECRET}\nsecurity_token = {TOKEN}\n")
    assert_hidden(IniProfileCredentials(str(path)))


ANSWERS = {
    "refused": Answer(403, {}, json.dumps({"Code": "No", "Message": SECRET}).encode()),
    "no JSON": Answer(200, {}, json.dumps(KEY).encode()[:-1]),
    "no time": Answer(200, {}, json.dumps({**KEY, "Expiration": "soon"}).encode()),
    "not all": Answer(200, {}, json.dumps({**KEY, "AccessKeyId": 5}).encode()),
    "another code": Answer(200, {}, json.dumps({**KEY, "Code": "Failed"}).encode()),
    "too long": Answer(200, {}, SECRET.encode() * 10_000),
    "empty": Answer(200),
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_answers_of_services(answer: Answer, tmp_path: Path) -> None:
    def reply(exchange: Exchange) -> None:
        # The service of ECS gives a token first.
        exchange.reply(Answer(200, {}, TOKEN.encode()) if exchange.request.method == "PUT" else answer)

    token_file = tmp_path / "token"
    token_file.write_text(TOKEN)
    explicit = ExplicitCredentials("id", SECRET, TOKEN)
    with ScriptedServer(reply) as server:
        for source in (
            UriCredentials(f"{server.endpoint}/?token={TOKEN}"),
            EcsRoleCredentials("role", server.endpoint),
            OidcRoleCredentials("role", "provider", str(token_file), endpoint=server.endpoint),
            RamRoleCredentials(explicit, "role", endpoint=server.endpoint),
        ):
            assert_hidden(source)
            # The second caller gets the same failure again.
            assert_hidden(source)


def test_requests_that_cannot_be_sent(tmp_path: Path) -> None:
    token_file = tmp_path / "token"
    token_file.write_text(TOKEN)
    explicit = ExplicitCredentials("id", SECRET, TOKEN)
    for endpoint in ("http://127.0.0.1:1", "ftp://127.0.0.1", "http://127.0.0.1:x", "http://[::1"):
        assert_hidden(UriCredentials(f"{endpoint}/?token={TOKEN}"))
        assert_hidden(OidcRoleCredentials("role", "provider", str(token_file), endpoint=endpoint))
        assert_hidden(RamRoleCredentials(explicit, "role", endpoint=endpoint))
    token_file.write_bytes(TOKEN.encode() + b"\xff")
    assert_hidden(OidcRoleCredentials("role", "provider", str(token_file)))


class Found:
    """What a provider returns."""

    access_key_id: object = "id"
    access_key_secret: object = SECRET
    security_token: object = TOKEN
    expiration: object = None

    def __repr__(self) -> str:
        return f"Found({SECRET})"


class Provider:
    """Returns a key with one field replaced, or fails after it has a key."""

    def __init__(self, **fields: object) -> None:
        self._fields = fields

    def get_credentials(self) -> Found:
        found = Found()
        if not self._fields:
            raise ValueError("no more keys")
        for name, value in self._fields.items():
            setattr(found, name, value)
        return found


@pytest.mark.parametrize(
    "fields", [{}, {"access_key_id": None}, {"security_token": [TOKEN]}, {"expiration": "soon"}, {"access_key_id": ""}]
)
def test_providers(fields: dict[str, object]) -> None:
    error = assert_hidden(ProviderCredentials(Provider(**fields)))
    if not fields:
        # The provider's own frames are kept: they are no frames of this package, and say where it failed.
        assert error.__cause__ is not None
        frames = traceback.extract_tb(error.__cause__.__traceback__)
        assert [frame.name for frame in frames] == ["get_credentials"]


def test_configurations() -> None:
    given: dict[str, Any] = {"access_key_id": "id", "access_key_secret": SECRET, "security_token": TOKEN}
    good = OssConfig(**given)
    for wrong in ({"read_timeout": -1}, {"anonymous": True}, {"access_key_id": 5}, {"unheard": 1}, {"log_level": "x"}):
        assert_hidden(lambda wrong=wrong: OssConfig(**{**given, **wrong}))  # type: ignore[misc]
    assert_hidden(lambda: dataclasses.replace(good, read_timeout=-1))
    assert_hidden(good.__reduce__)
    assert_hidden(ExplicitCredentials("id", SECRET, TOKEN).__reduce__)


def test_requests() -> None:
    def refuse(exchange: Exchange) -> None:
        text = json.dumps(dict(exchange.request.headers))
        exchange.reply(Answer(403, {}, f"<Error><Code>AccessDenied</Code><Message>{text}</Message></Error>".encode()))

    config = OssConfig(access_key_id="id", access_key_secret=SECRET, security_token=TOKEN, max_attempts=1)
    with ScriptedServer(refuse) as server:
        client = OssClient(server.endpoint, region="cn-hangzhou", config=config)
        for call in (
            lambda: client.get("oss://some-bucket/a"),
            lambda: client.put("oss://some-bucket/a", b"a"),
            lambda: next(client.list("oss://some-bucket/")),
            lambda: client.writer("oss://some-bucket/a").close(),
            lambda: client.get("some-bucket"),
        ):
            assert_hidden(call)
