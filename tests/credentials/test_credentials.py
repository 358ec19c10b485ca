import copy
import json
import multiprocessing
import os
import pickle
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import alibabacloud_oss_v2.credentials
import oss2.credentials
import pytest

from osstorchconnector import OssClient, OssConfig, OssConfigError, OssCredentialsError
from osstorchconnector.connection.config import resolve
from osstorchconnector.credentials import (
    Credentials,
    EnvironmentCredentials,
    ExplicitCredentials,
    FileCredentials,
    ProviderCredentials,
)

ENDPOINT = "http://oss-cn-hangzhou-internal.aliyuncs.com"
SECRET = "a-secret-that-must-not-show"
DOCUMENT = {"AccessKeyId": "file-id", "AccessKeySecret": SECRET}
EXPLICIT = OssConfig(access_key_id="explicit-id", access_key_secret=SECRET)

Write = Callable[[object], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(document: object) -> str:
        path = tmp_path / "credentials"
        path.write_text(document if isinstance(document, str) else json.dumps(document))
        return str(path)

    return write


class Provider:
    def __init__(self, found: object) -> None:
        self.found = found
        self.calls = 0

    def get_credentials(self) -> object:
        self.calls += 1
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


class Getters:
    """What alibabacloud-credentials returns."""

    def get_access_key_id(self) -> str:
        return "getter-id"

    def get_access_key_secret(self) -> str:
        return SECRET

    def get_security_token(self) -> str:
        return "token"


def source_of(**arguments: Any) -> Credentials:
    source = resolve(ENDPOINT, **arguments).credentials
    assert source is not None
    return source()


def test_provider_wins_over_keys_over_file_over_environment(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(DOCUMENT)
    provider = Provider(SimpleNamespace(access_key_id="provider-id", access_key_secret=SECRET))
    monkeypatch.setenv("OSS_ACCESS_KEY_ID", "oss-id")
    monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", SECRET)
    monkeypatch.setenv("ALIBABA_CLOUD_ACCESS_KEY_ID", "alibaba-id")
    monkeypatch.setenv("ALIBABA_CLOUD_ACCESS_KEY_SECRET", SECRET)
    assert source_of(cred_provider=provider, cred_path=path, config=EXPLICIT).access_key_id == "provider-id"
    assert source_of(cred_path=path, config=EXPLICIT).access_key_id == "explicit-id"
    assert source_of(cred_path=path).access_key_id == "file-id"
    assert source_of().access_key_id == "oss-id"
    monkeypatch.delenv("OSS_ACCESS_KEY_ID")
    monkeypatch.delenv("OSS_ACCESS_KEY_SECRET")
    assert source_of().access_key_id == "alibaba-id"


def test_without_credentials_the_error_names_the_ways_to_give_them() -> None:
    with pytest.raises(OssCredentialsError) as caught:
        resolve(ENDPOINT)
    for way in ("cred_path", "cred_provider", "OssConfig(access_key_id", "anonymous=True", "OSS_ACCESS_KEY_ID"):
        assert way in str(caught.value)


@pytest.mark.parametrize(("name", "token_name"), [("OSS", "OSS_SESSION_TOKEN"), ("ALIBABA_CLOUD", None)])
def test_the_environment_is_read_at_each_call(
    monkeypatch: pytest.MonkeyPatch, name: str, token_name: str | None
) -> None:
    monkeypatch.setenv(f"{name}_ACCESS_KEY_ID", "first")
    with pytest.raises(OssCredentialsError, match=f"{name}_ACCESS_KEY_SECRET is missing"):
        resolve(ENDPOINT)
    monkeypatch.setenv(f"{name}_ACCESS_KEY_SECRET", SECRET)
    source = EnvironmentCredentials()
    assert source() == ("first", SECRET, None, None)
    assert source_of() == source()
    monkeypatch.setenv(f"{name}_ACCESS_KEY_ID", "second")
    monkeypatch.setenv(token_name or f"{name}_SECURITY_TOKEN", "token")
    assert source() == ("second", SECRET, "token", None)
    assert pickle.loads(pickle.dumps(source)) == source
    assert SECRET.encode() not in pickle.dumps(source)


def test_the_file_in_its_documented_form(write: Write) -> None:
    path = write({**DOCUMENT, "SecurityToken": "token", "Expiration": "2034-08-02T15:04:05Z"})
    expected = datetime(2034, 8, 2, 15, 4, 5, tzinfo=UTC).timestamp()
    assert FileCredentials(path)() == ("file-id", SECRET, "token", expected)
    assert FileCredentials(write(DOCUMENT))() == ("file-id", SECRET, None, None)


def test_the_file_is_read_again_when_it_changes_and_only_then(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(DOCUMENT)
    reads = 0
    original = Path.read_bytes

    def read_bytes(self: Path) -> bytes:
        nonlocal reads
        reads += 1
        return original(self)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    source = FileCredentials(path)
    assert source().access_key_id == "file-id"
    assert source().access_key_id == "file-id"
    assert reads == 1
    # The new file has the same size, as after a rotation. The time is set, so that the clock's resolution cannot hide
    # it.
    replacement = Path(f"{path}.new")
    replacement.write_text(json.dumps({**DOCUMENT, "AccessKeyId": "next-id"}))
    replacement.replace(path)
    os.utime(path, ns=(1, 1))
    assert source().access_key_id == "next-id"
    assert source().access_key_id == "next-id"
    assert reads == 2


def test_an_expired_key_is_read_again_though_the_file_is_unchanged(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    expiration = datetime(2034, 8, 2, 15, 4, 5, tzinfo=UTC)
    source = FileCredentials(write({**DOCUMENT, "Expiration": expiration.isoformat()}))
    first = source()
    assert source() is first
    monkeypatch.setattr(time, "time", lambda: expiration.timestamp() + 1)
    assert source() is not first


def test_a_key_read_earlier_lasts_while_the_file_cannot_be_read(
    write: Write, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expiration = datetime(2034, 8, 2, 15, 4, 5, tzinfo=UTC)
    path = write({**DOCUMENT, "Expiration": expiration.isoformat()})
    source = FileCredentials(path)
    first = source()
    write('{"AccessKeyId": "half-wri')
    assert source() == first
    assert "is not JSON" in caplog.text
    monkeypatch.setattr(time, "time", lambda: expiration.timestamp() + 1)
    with pytest.raises(OssCredentialsError, match="is not JSON"):
        source()


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        (f'{{"AccessKeySecret": "{SECRET}"', "is not JSON"),
        (f"[default]\naccess_key_secret = {SECRET}", "is not JSON"),
        ([SECRET], "must hold a JSON object"),
        ({"AccessKeySecret": SECRET}, "has no field AccessKeyId"),
        ({"AccessKeyId": "id"}, "has no field AccessKeySecret"),
        ({**DOCUMENT, "AccessKeySecret": [SECRET]}, "AccessKeySecret must be a non-empty string"),
        ({**DOCUMENT, "AccessKeySecret": ""}, "AccessKeySecret must be a non-empty string"),
        ({**DOCUMENT, "AccessKeyId": None}, "AccessKeyId must be a non-empty string"),
        ({**DOCUMENT, "SecurityToken": 3}, "SecurityToken must be a non-empty string"),
        ({**DOCUMENT, "Expiration": "tomorrow"}, "Expiration must be a time like"),
        ({**DOCUMENT, "Expiration": 3}, "Expiration must be a non-empty string"),
    ],
)
def test_a_malformed_file_is_refused_by_file_and_field(write: Write, document: object, complaint: str) -> None:
    path = write(document)
    with pytest.raises(OssCredentialsError) as caught:
        OssClient(ENDPOINT, path)
    assert repr(path) in str(caught.value)
    assert complaint in str(caught.value)
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    assert caught.value.__cause__ is None


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(OssConfigError, match="nothing-here' cannot be read: No such file"):
        OssClient(ENDPOINT, str(tmp_path / "nothing-here"))


@pytest.mark.parametrize(
    "provider",
    [
        oss2.credentials.StaticCredentialsProvider("sdk-id", SECRET, "token"),
        alibabacloud_oss_v2.credentials.StaticCredentialsProvider("sdk-id", SECRET, "token"),
    ],
)
def test_providers_of_both_sdks(provider: object) -> None:
    assert source_of(cred_provider=provider) == ("sdk-id", SECRET, "token", None)


def test_getters_are_used_if_there_are_no_attributes() -> None:
    assert source_of(cred_provider=Provider(Getters())) == ("getter-id", SECRET, "token", None)
    provider = SimpleNamespace(get_credential=Getters)
    assert source_of(cred_provider=provider) == ("getter-id", SECRET, "token", None)


def test_attributes_win_over_getters() -> None:
    found = Getters()
    found.access_key_id = "attribute-id"  # type: ignore[attr-defined]
    assert source_of(cred_provider=Provider(found)).access_key_id == "attribute-id"


@pytest.mark.parametrize(
    ("expiration", "seconds"),
    [
        (datetime(2034, 8, 2, 15, 4, 5, tzinfo=UTC), 2038143845.0),
        (datetime(2034, 8, 2, 15, 4, 5), 2038143845.0),  # noqa: DTZ001 - without a zone is the case
        ("2034-08-02T15:04:05Z", 2038143845.0),
        (2038143845, 2038143845.0),
        (None, None),
    ],
)
def test_an_expiration_is_understood(expiration: object, seconds: float | None) -> None:
    found = SimpleNamespace(access_key_id="id", access_key_secret=SECRET, expiration=expiration)
    assert source_of(cred_provider=Provider(found)).expiration == seconds


@pytest.mark.parametrize(
    ("found", "complaint"),
    [
        (RuntimeError(f"no {SECRET}"), "failed with RuntimeError"),
        (None, "returned no access_key_id"),
        (SimpleNamespace(access_key_id="", access_key_secret=SECRET), "returned no access_key_id"),
        (SimpleNamespace(access_key_id="id", access_key_secret=None), "returned no access_key_secret"),
        (
            SimpleNamespace(access_key_id="id", access_key_secret=SECRET, security_token=3),
            "returned a security_token that is not a string",
        ),
        (
            SimpleNamespace(access_key_id="id", access_key_secret=SECRET, expiration="soon"),
            "returned an expiration that is not a time",
        ),
    ],
)
def test_a_wrong_result_of_a_provider_is_reported(found: object, complaint: str) -> None:
    with pytest.raises(OssCredentialsError) as caught:
        ProviderCredentials(Provider(found))()
    assert complaint in str(caught.value)
    assert "test_credentials.Provider" in str(caught.value)
    assert SECRET not in str(caught.value)


def test_an_object_without_the_method_of_a_provider_is_reported_at_construction() -> None:
    with pytest.raises(OssCredentialsError, match=r"builtins\.dict has no method get_credentials"):
        OssClient(ENDPOINT, cred_provider={})


def test_a_provider_is_not_called_at_construction() -> None:
    provider = Provider(SimpleNamespace(access_key_id="id", access_key_secret=SECRET))
    OssClient(ENDPOINT, cred_provider=provider)
    assert provider.calls == 0


def test_secrets_do_not_show() -> None:
    source = ExplicitCredentials("id", SECRET, None)
    for value in (source, source(), EXPLICIT, OssClient(ENDPOINT, config=EXPLICIT)):
        assert SECRET not in repr(value)
        assert SECRET not in str(value)


def test_secrets_are_not_pickled_but_copied() -> None:
    provider = Provider(SimpleNamespace(access_key_id="id", access_key_secret=SECRET))
    for client in (OssClient(ENDPOINT, config=EXPLICIT), OssClient(ENDPOINT, cred_provider=provider)):
        with pytest.raises(OssCredentialsError, match="cred_path") as caught:
            pickle.dumps(client)
        assert SECRET not in str(caught.value)
        assert copy.deepcopy(client)._resolved.credentials is client._resolved.credentials


def test_of_a_file_only_the_path_is_pickled(write: Write) -> None:
    client = OssClient(ENDPOINT, write(DOCUMENT))
    pickled = pickle.dumps(client)
    assert SECRET.encode() not in pickled
    source = pickle.loads(pickled)._resolved.credentials
    assert source().access_key_secret == SECRET


def _report(source: Callable[[], Credentials], found: Any) -> None:
    found.put(tuple(source()))


@pytest.mark.slow(60)
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_process_that_is_started_gets_the_key(method: str) -> None:
    context: Any = multiprocessing.get_context(method)
    source = ExplicitCredentials("id", SECRET, "token")
    found = context.SimpleQueue()
    process = context.Process(target=_report, args=(source, found))
    process.start()
    try:
        assert found.get() == ("id", SECRET, "token", None)
    finally:
        process.join()
    assert process.exitcode == 0
