import copy
import dataclasses
import inspect
import json
import pickle
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from osstorchconnector import OssConfig, OssConfigError, OssCredentialsError
from osstorchconnector.connection import config_file
from osstorchconnector.connection.config import MIB, resolve

ENDPOINT = "http://oss-cn-hangzhou-internal.aliyuncs.com"
ANONYMOUS = OssConfig(anonymous=True)
SECRET = "a-secret-that-must-not-show"

Write = Callable[[object], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(document: object) -> str:
        path = tmp_path / "config.json"
        path.write_text(document if isinstance(document, str) else json.dumps(document))
        return str(path)

    return write


def config_of(path: str, config: OssConfig = ANONYMOUS) -> OssConfig:
    return resolve(ENDPOINT, config_path=path, config=config).config


def test_defaults() -> None:
    values = {field.name: getattr(OssConfig(), field.name) for field in dataclasses.fields(OssConfig)}
    assert values == {
        "connect_timeout": 10.0,
        "read_timeout": 20.0,
        "total_timeout": 600.0,
        "max_attempts": 6,
        "prefetch_bytes": 256 * 1024 * 1024,
        "reader_window": 256 * 1024 * 1024,
        "prefetch_concurrency": 24,
        "max_concurrency": 512,
        "part_size": 8 * 1024 * 1024,
        "upload_concurrency": 16,
        "upload_bytes": 256 * 1024 * 1024,
        "fast_list": True,
        "io_threads": None,
        "signature_version": "v4",
        "addressing": None,
        "ca_bundle": None,
        "proxy": None,
        "write_options": None,
        "request_payer": False,
        "headers": None,
        "credential_refresh_seconds": 60.0,
        "access_key_id": None,
        "access_key_secret": None,
        "security_token": None,
        "anonymous": False,
        "log_level": "info",
        "log_path": None,
        "audit_path": None,
        "audit_slow_seconds": 0.1,
    }


def test_it_is_frozen_and_keyword_only() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        OssConfig().max_attempts = 3  # type: ignore[misc]
    with pytest.raises(TypeError):
        OssConfig(10.0)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        OssConfig(max_atempts=3)  # type: ignore[call-arg]
    assert list(inspect.signature(OssConfig).parameters) == [field.name for field in dataclasses.fields(OssConfig)]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("connect_timeout", 0),
        ("connect_timeout", -1.0),
        ("read_timeout", float("nan")),
        ("read_timeout", float("inf")),
        ("total_timeout", "10"),
        ("total_timeout", True),
        ("max_attempts", 0),
        ("max_attempts", 65_536),
        ("prefetch_bytes", 1 << 50),
        ("io_threads", 1025),
        ("max_attempts", 1.5),
        ("max_attempts", True),
        ("prefetch_bytes", 0),
        ("prefetch_concurrency", 0),
        ("max_concurrency", -3),
        ("part_size", 100 * 1024 - 1),
        ("part_size", 5 * 1024**3 + 1),
        ("upload_concurrency", 0),
        ("upload_bytes", 0),
        ("io_threads", 0),
        ("signature_version", "v2"),
        ("addressing", "virtual"),
        ("log_level", 1),
        ("anonymous", 1),
        ("ca_bundle", ""),
        ("log_path", 3),
        ("credential_refresh_seconds", 0),
        ("audit_slow_seconds", 0),
    ],
)
def test_a_wrong_value_is_refused_by_name_and_value(field: str, value: Any) -> None:
    with pytest.raises(OssConfigError) as caught:
        OssConfig(**{field: value})
    assert f"OssConfig.{field} is {value!r}: allowed is" in str(caught.value)


def test_a_given_concurrency_bound_moves_the_other_one() -> None:
    assert OssConfig(prefetch_concurrency=1000).max_concurrency == 1000
    assert OssConfig(max_concurrency=8).prefetch_concurrency == 8
    with pytest.raises(OssConfigError, match="prefetch_concurrency is 9: allowed is at most max_concurrency"):
        OssConfig(prefetch_concurrency=9, max_concurrency=8)


def test_secrets_do_not_show() -> None:
    config = OssConfig(access_key_id="the-id", access_key_secret=SECRET, security_token="the-token", max_attempts=2)
    for text in (repr(config), str(config), f"{config}", repr(resolve(ENDPOINT, config=config))):
        assert SECRET not in text
        assert "the-id" not in text
        assert "the-token" not in text
        assert "max_attempts=2" in text


def test_a_secret_of_the_wrong_type_does_not_show() -> None:
    with pytest.raises(OssConfigError, match=r"OssConfig\.access_key_secret is a bytes") as caught:
        OssConfig(access_key_id="id", access_key_secret=SECRET.encode())  # type: ignore[arg-type]
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ({"access_key_id": "id"}, "access_key_secret"),
        ({"access_key_secret": "secret"}, "access_key_id"),
        ({"security_token": "token"}, "access_key_id"),
    ],
)
def test_half_an_access_key_is_refused(given: dict[str, Any], missing: str) -> None:
    with pytest.raises(OssConfigError, match=f"{missing} is missing"):
        OssConfig(**given)


def test_anonymous_excludes_access_keys(tmp_path: Path) -> None:
    with pytest.raises(OssConfigError, match="anonymous is True, but access_key_id is given"):
        OssConfig(anonymous=True, access_key_id="id", access_key_secret="secret")
    with pytest.raises(OssConfigError, match="anonymous is True, but cred_path is given"):
        resolve(ENDPOINT, str(tmp_path), config=ANONYMOUS)
    assert resolve(ENDPOINT, config=ANONYMOUS).credentials is None


def test_it_pickles_with_what_was_given() -> None:
    config = OssConfig(max_attempts=2, ca_bundle="/ca.pem")
    restored = pickle.loads(pickle.dumps(config))
    assert restored == config
    assert repr(restored) == repr(config)


def test_a_pickle_with_a_secret_is_refused_and_a_copy_is_not() -> None:
    config = OssConfig(access_key_id="id", access_key_secret=SECRET)
    with pytest.raises(OssCredentialsError, match="cred_path") as caught:
        pickle.dumps(config)
    assert SECRET not in str(caught.value)
    assert copy.deepcopy(config) is config
    assert copy.copy(config) is config


def test_replace_keeps_the_rest() -> None:
    assert dataclasses.replace(OssConfig(max_attempts=2), read_timeout=1).max_attempts == 2


@pytest.mark.parametrize(
    ("document", "field", "value"),
    [
        ({"logLevel": 0}, "log_level", "debug"),
        ({"logLevel": 3}, "log_level", "error"),
        ({"logPath": "/var/log/a.log"}, "log_path", "/var/log/a.log"),
        ({"logPath": ""}, "log_path", None),
        ({"auditPath": "/var/log/b.log"}, "audit_path", "/var/log/b.log"),
        ({"auditSlowMs": 250}, "audit_slow_seconds", 0.25),
        ({"datasetConfig": {"prefetchConcurrency": 48}}, "prefetch_concurrency", 48),
        ({"datasetConfig": {"prefetchConcurrency": 24}}, "max_concurrency", 512),
        ({"datasetConfig": {"prefetchConcurrency": 600}}, "max_concurrency", 600),
        ({"datasetConfig": {"maxConcurrency": 64}}, "max_concurrency", 64),
        ({"maxConcurrency": 64, "datasetConfig": {"maxConcurrency": 65}}, "max_concurrency", 65),
        ({"datasetConfig": {"maxConcurrency": 65}, "maxConcurrency": 64}, "max_concurrency", 65),
        ({"datasetConfig": {"maxConcurrency": 1}, "checkpointConfig": {"maxConcurrency": 2}}, "max_concurrency", 1),
        ({"checkpointConfig": {"uploadConcurrency": 64}}, "upload_concurrency", 64),
        ({"checkpointConfig": {"prefetchConcurrency": 48}}, "prefetch_concurrency", 24),
        ({"datasetConfig": {"prefetchMB": 64}}, "prefetch_bytes", 64 * MIB),
        ({"prefetchMB": 64, "checkpointConfig": {"prefetchMB": 32}}, "prefetch_bytes", 64 * MIB),
        ({"datasetConfig": {"enableFastList": False}}, "fast_list", False),
        ({"datasetConfig": {"enableFastList": True}}, "fast_list", True),
        ({"checkpointConfig": {"uploadIoSizeMB": 16}}, "part_size", 16 * MIB),
        ({"timeoutMs": 1500}, "read_timeout", 1.5),
    ],
)
def test_a_key_of_the_file_sets_its_field(write: Write, document: dict[str, Any], field: str, value: object) -> None:
    assert getattr(config_of(write(document)), field) == value


def test_every_key_of_the_original_is_accepted(write: Write) -> None:
    document = {
        "logLevel": 1,
        "logPath": "/var/log/oss-connector/connector.log",
        "auditPath": "/var/log/oss-connector/audit.log",
        "datasetConfig": {
            "prefetchConcurrency": 24,
            "prefetchWorker": 2,
            "enableFastList": False,
            "listConcurrency": 16,
            "listWorker": 1,
            "enableBatchGet": True,
            "batchGetSize": 4,
            "prefetchIoSizeMB": 1,
            "prefetchMB": 32,
            "prefetchUnitMB": 1,
            "timeoutMs": 60000,
            "ioEngineType": "psync",
        },
        "checkpointConfig": {
            "prefetchConcurrency": 24,
            "prefetchWorker": 4,
            "uploadConcurrency": 64,
            "uploadBufferSizeMB": 32,
            "uploadIoSizeMB": 8,
            "writeIoSizeMB": 8,
            "ioEngineType": 1,
        },
        "prefetch": {"vcpus": 16, "workers": 16},
        "fastList": {"vcpus": 1, "workers": 16},
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        config_of(write(document))


def test_an_unknown_key_warns_once_and_is_named(write: Write) -> None:
    path = write({"datasetConfig": {"prefetchConcurency": 5}, "surprise": {}})
    with pytest.warns(UserWarning, match="unknown key") as caught:
        config = config_of(path)
    assert config.prefetch_concurrency == 24
    texts = [str(warning.message) for warning in caught]
    assert [path in text for text in texts] == [True, True]
    assert "unknown key surprise " in texts[0]
    assert "unknown key datasetConfig.prefetchConcurency " in texts[1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        config_of(path)


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        ("{", "is not JSON"),
        ("", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ([], "must hold a JSON object"),
        ({"datasetConfig": 3}, "datasetConfig must be a JSON object"),
        ({"logLevel": "1"}, "logLevel is '1': a whole number is needed"),
        ({"logLevel": True}, "logLevel is True: a whole number is needed"),
        ({"logLevel": 7}, "logLevel: OssConfig.log_level is 7: allowed is 'debug'"),
        ({"logPath": 3}, "logPath is 3: a string is needed"),
        ({"datasetConfig": {"enableFastList": 1}}, "datasetConfig.enableFastList is 1: true or false is needed"),
        ({"datasetConfig": {"prefetchConcurrency": 2.5}}, "datasetConfig.prefetchConcurrency is 2.5: a whole number"),
        ({"datasetConfig": {"prefetchConcurrency": 0}}, "datasetConfig.prefetchConcurrency: OssConfig.prefetch_con"),
        ({"timeoutMs": None}, "timeoutMs is None: a number is needed"),
    ],
)
def test_a_malformed_file_is_refused_by_file_and_key(write: Write, document: object, complaint: str) -> None:
    path = write(document)
    with pytest.raises(OssConfigError) as caught:
        config_of(path)
    assert repr(path) in str(caught.value)
    assert complaint in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "missing.json"
    with pytest.raises(OssConfigError, match=r"missing\.json' cannot be read: No such file"):
        resolve(ENDPOINT, config_path=path, config=ANONYMOUS)


def test_a_given_field_wins_over_the_file_even_if_it_equals_the_default(write: Write) -> None:
    path = write({"datasetConfig": {"maxConcurrency": 64, "prefetchMB": 1}})
    config = config_of(path, OssConfig(anonymous=True, max_concurrency=512))
    assert config.max_concurrency == 512
    assert config.prefetch_bytes == MIB


def test_the_resolved_configuration_holds_no_secret() -> None:
    resolved = resolve(ENDPOINT, config=OssConfig(access_key_id="id", access_key_secret=SECRET, max_attempts=2))
    assert resolved.config.access_key_secret is None
    assert resolved.config.max_attempts == 2
    assert resolved.credentials is not None
    assert resolved.credentials().access_key_secret == SECRET


def test_a_missing_ca_bundle_is_named(tmp_path: Path) -> None:
    config = OssConfig(anonymous=True, ca_bundle=str(tmp_path / "ca.pem"))
    with pytest.raises(OssConfigError, match=r"OssConfig\.ca_bundle names a file that cannot be read: .*ca\.pem"):
        resolve(ENDPOINT, config=config)


def test_the_wrong_kind_of_config_is_named() -> None:
    with pytest.raises(OssConfigError, match="config must be an OssConfig, not dict"):
        resolve(ENDPOINT, config={})  # type: ignore[arg-type]


REPLACED = [
    ({"datasetConfig": {"prefetchWorker": 4}}, "datasetConfig.prefetchWorker", "io_threads"),
    ({"datasetConfig": {"listWorker": 4}}, "datasetConfig.listWorker", "io_threads"),
    ({"datasetConfig": {"listConcurrency": 4}}, "datasetConfig.listConcurrency", "requests are in flight"),
    ({"datasetConfig": {"enableBatchGet": True}}, "datasetConfig.enableBatchGet", "a request of its own"),
    ({"datasetConfig": {"batchGetSize": 4}}, "datasetConfig.batchGetSize", "a request of its own"),
    ({"datasetConfig": {"prefetchUnitMB": 4}}, "datasetConfig.prefetchUnitMB", "requests are as large"),
    ({"datasetConfig": {"prefetchIoSizeMB": 4}}, "datasetConfig.prefetchIoSizeMB", "requests are as large"),
    ({"checkpointConfig": {"prefetchWorker": 4}}, "checkpointConfig.prefetchWorker", "io_threads"),
    ({"checkpointConfig": {"prefetchConcurrency": 4}}, "checkpointConfig.prefetchConcurrency", "reader_window"),
    ({"uploadBufferSizeMB": 4}, "uploadBufferSizeMB", "part_size"),
    ({"writeIoSizeMB": 4}, "writeIoSizeMB", "part_size"),
    ({"ioEngineType": 1}, "ioEngineType", "one engine"),
    ({"prefetch": {"vcpus": 1}}, "prefetch.vcpus", "io_threads"),
    ({"fastList": {"workers": 1}}, "fastList.workers", "a listing decides itself"),
]


@pytest.mark.parametrize(("document", "key", "instead"), REPLACED)
def test_the_log_says_once_what_takes_the_place_of_a_key(
    write: Write, caplog: pytest.LogCaptureFixture, document: object, key: str, instead: str
) -> None:
    path = write(document)
    with caplog.at_level("INFO", "osstorchconnector"):
        assert config_of(path) == config_of(path) == dataclasses.replace(ANONYMOUS)
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith(f"configuration file {path!r}: {key} has no effect: ")
    assert instead in line


def test_the_guide_has_every_key() -> None:
    guide = (Path(__file__).resolve().parents[2] / "docs" / "guides" / "migration.md").read_text()
    _, _, section = guide.partition("\n## The configuration file\n")
    named = set(re.findall(r"`([a-zA-Z.]+)`", "".join(re.findall(r"^\| ([^|]*) \|", section, flags=re.MULTILINE))))
    sections = {f"{section}.{key}" for section, keys in config_file._SECTIONS.items() for key in keys}
    everywhere = {f"{section}.{key}" for section in config_file._SECTIONS for key in config_file._ANYWHERE}
    assert named == (sections - everywhere) | set(config_file._TOP)
