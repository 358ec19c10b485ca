"""Wrong input raises at construction, with its name, and before the network is used."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from osstorchconnector import (
    OssClient,
    OssConfig,
    OssConfigError,
    OssCredentialsError,
    OssError,
    OssIterableDataset,
    OssMapDataset,
)
from tests.faults.readers import settings
from tests.faults.server import ScriptedServer

#: One of the ways to connect to an endpoint, with keyword arguments.
Door = Callable[..., Any]


def client(endpoint: str, **given: Any) -> OssClient:
    return OssClient(endpoint, **given)


def iterable(endpoint: str, **given: Any) -> OssIterableDataset:
    return OssIterableDataset.from_prefix("oss://some-bucket/", endpoint, **given)


def mapped(endpoint: str, **given: Any) -> OssMapDataset:
    return OssMapDataset.from_objects("oss://some-bucket/a", endpoint, **given)


@pytest.fixture(params=[client, iterable, mapped], ids=lambda door: door.__name__)
def door(request: pytest.FixtureRequest) -> Door:
    found: Door = request.param
    return found


@pytest.fixture(autouse=True)
def server() -> Iterator[ScriptedServer]:
    """A server that must not get any request."""

    def refuse(_: object) -> None:
        raise AssertionError("the network was used")

    with ScriptedServer(refuse) as listening:
        yield listening
        assert listening.count() == 0


@pytest.mark.parametrize(
    ("uri", "quoted"),
    [
        ("", "the URI is empty"),
        ("some-bucket", "some-bucket"),
        ("some-bucket/a", "some-bucket/a"),
        ("s3://some-bucket/a", "s3://some-bucket/a"),
        ("http://some-bucket/a", "http://some-bucket/a"),
        ("oss:/some-bucket/a", "oss:/some-bucket/a"),
        ("oss://", "oss://"),
        ("oss:///", "oss:///"),
        ("oss:///a", "oss:///a"),
        ("/", "/"),
        ("//a", "//a"),
        ("oss://Some-Bucket/a", "Some-Bucket"),
        ("oss://some_bucket/a", "some_bucket"),
        ("oss://-some-bucket/a", "-some-bucket"),
        ("oss://ab/a", "ab"),
        (f"oss://{'a' * 64}/a", "a" * 64),
        ("oss://some-bucket/" + "é" * 512, "é"),
        ("oss://some-bucket//a", "oss://some-bucket//a"),
        ("oss://some-bucket/\\a", "\\"),
    ],
)
def test_a_malformed_uri_is_quoted(server: ScriptedServer, uri: str, quoted: str) -> None:
    connection: dict[str, Any] = {"endpoint": server.endpoint, "region": "cn-hangzhou", "config": settings()}
    for kind in (OssIterableDataset, OssMapDataset):
        for build in (kind.from_prefix, kind.from_objects):
            with pytest.raises(OssConfigError) as caught:
                build(uri, **connection)
            assert quoted in str(caught.value)
    one = OssClient(**connection)
    calls: list[Callable[[], object]] = [
        lambda: one.get(uri),
        lambda: one.head(uri),
        lambda: one.open(uri),
        lambda: one.put(uri, b""),
        lambda: one.writer(uri),
        lambda: one.list(uri),
        lambda: one.delete(uri),
        lambda: one.delete_many(["oss://some-bucket/a", uri]),
        lambda: one.copy(uri, "oss://some-bucket/a"),
        lambda: one.copy("oss://some-bucket/a", uri),
    ]
    for call in calls:
        with pytest.raises(OssConfigError) as caught:
            call()
        assert quoted in str(caught.value)


@pytest.mark.parametrize("uri", ["oss://some-bucket", "oss://some-bucket/"])
def test_a_bucket_is_no_object(server: ScriptedServer, uri: str) -> None:
    connection: dict[str, Any] = {"endpoint": server.endpoint, "region": "cn-hangzhou", "config": settings()}
    for kind in (OssIterableDataset, OssMapDataset):
        with pytest.raises(OssConfigError, match=uri):
            kind.from_objects(uri, **connection)
    with pytest.raises(OssConfigError, match=uri):
        OssClient(**connection).get(uri)


@pytest.mark.parametrize("bucket", ["", "a", "No", "with/slash", "a.b"])
def test_the_originals_methods_refuse_a_malformed_bucket(server: ScriptedServer, bucket: str) -> None:
    one = OssClient(server.endpoint, region="cn-hangzhou", config=settings())
    calls: list[Callable[[], object]] = [
        lambda: one.get_object(bucket, "a"),
        lambda: one.put_object(bucket, "a"),
        lambda: one.head_object(bucket, "a"),
        lambda: one.remove_object(bucket, "a"),
        lambda: list(one.list_objects(bucket)),
        lambda: one.rename_object(bucket, "a", "some-bucket", "b"),
        lambda: one.create_bucket(bucket),
        lambda: one.delete_bucket(bucket),
    ]
    for call in calls:
        with pytest.raises(OssConfigError):
            call()


def test_the_originals_methods_refuse_an_empty_key(server: ScriptedServer) -> None:
    one = OssClient(server.endpoint, region="cn-hangzhou", config=settings())
    calls: list[Callable[[], object]] = [
        lambda: one.get_object("some-bucket", ""),
        lambda: one.put_object("some-bucket", ""),
        lambda: one.head_object("some-bucket", ""),
        lambda: one.remove_object("some-bucket", ""),
        lambda: one.rename_object("some-bucket", "", "some-bucket", "b"),
        lambda: one.rename_object("some-bucket", "a", "some-bucket", ""),
    ]
    for call in calls:
        with pytest.raises(OssConfigError):
            call()


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ("oss-cn-hangzhou.aliyuncs.com", "https://oss-cn-hangzhou.aliyuncs.com"),
        ("oss-cn-hangzhou-internal.aliyuncs.com", "https://oss-cn-hangzhou-internal.aliyuncs.com"),
        ("http://oss-cn-hangzhou.aliyuncs.com", "http://oss-cn-hangzhou.aliyuncs.com"),
        ("127.0.0.1:9400", "http://127.0.0.1:9400"),
        ("localhost:9400", "http://localhost:9400"),
    ],
)
def test_an_endpoint_without_a_scheme_gets_the_documented_one(given: str, made: str) -> None:
    assert OssClient(given, region="cn-hangzhou", config=settings()).endpoint == made


@pytest.mark.parametrize(
    "endpoint", ["ftp://host", "https://", "https://host/path", "host:port", "host:99999", "a b", "user:word@host"]
)
def test_a_malformed_endpoint_is_reported(door: Door, endpoint: str) -> None:
    with pytest.raises(OssConfigError, match="endpoint"):
        door(endpoint, region="cn-hangzhou", config=settings())


@pytest.mark.parametrize("endpoint", ["127.0.0.1:9400", "https://storage.example.com", "oss-accelerate.aliyuncs.com"])
def test_a_region_that_cannot_be_derived_names_the_argument(door: Door, endpoint: str) -> None:
    with pytest.raises(OssConfigError, match=r"give the argument region, .* or set OSS_REGION") as caught:
        door(endpoint, config=settings())
    assert endpoint in str(caught.value)


@pytest.mark.parametrize("region", ["CN-Hangzhou", "cn hangzhou", "cn-", "cn/hangzhou", "\n"])
def test_a_malformed_region_is_reported(door: Door, region: str) -> None:
    with pytest.raises(OssConfigError, match="region must be a region ID"):
        door("oss-cn-hangzhou.aliyuncs.com", region=region, config=settings())


def test_a_malformed_region_of_the_environment_is_reported(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSS_REGION", "Not A Region")
    with pytest.raises(OssConfigError, match="OSS_REGION in the environment"):
        door("127.0.0.1:9400", config=settings())


def test_missing_credentials_name_the_ways_to_give_them(door: Door) -> None:
    with pytest.raises(OssCredentialsError) as caught:
        door("oss-cn-hangzhou.aliyuncs.com")
    for way in ("cred_path", "cred_provider", "access_key_id", "anonymous", "OSS_ACCESS_KEY_ID"):
        assert way in str(caught.value)


def test_half_an_access_key_in_the_environment_names_the_other_half(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OSS_ACCESS_KEY_ID", "id")
    with pytest.raises(OssCredentialsError, match="OSS_ACCESS_KEY_SECRET is missing"):
        door("oss-cn-hangzhou.aliyuncs.com")


@pytest.mark.parametrize("argument", ["cred_path", "config_path"])
def test_a_missing_file_is_named(door: Door, tmp_path: Path, argument: str) -> None:
    path = tmp_path / "missing.json"
    with pytest.raises(OssConfigError) as caught:
        door("oss-cn-hangzhou.aliyuncs.com", **{argument: str(path)})
    assert f"file {str(path)!r} cannot be read: No such file or directory" in str(caught.value)


@pytest.mark.parametrize("argument", ["cred_path", "config_path"])
def test_a_directory_is_no_file(door: Door, tmp_path: Path, argument: str) -> None:
    with pytest.raises(OssConfigError) as caught:
        door("oss-cn-hangzhou.aliyuncs.com", **{argument: str(tmp_path)})
    assert f"file {str(tmp_path)!r} cannot be read: Is a directory" in str(caught.value)


@pytest.mark.parametrize("argument", ["cred_path", "config_path"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b"AccessKeyId=id", "is not JSON"),
        (b"\xff\xfe\xfd", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[]", "must hold a JSON object"),
        (b"null", "must hold a JSON object"),
        (b'"text"', "must hold a JSON object"),
    ],
)
def test_a_file_that_is_no_json_object_is_named(
    door: Door, tmp_path: Path, argument: str, content: bytes, message: str
) -> None:
    path = tmp_path / "file.json"
    path.write_bytes(content)
    with pytest.raises(OssConfigError) as caught:
        door("oss-cn-hangzhou.aliyuncs.com", **{argument: str(path)})
    assert f"file {str(path)!r} {message}" in str(caught.value)


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({"AccessKeySecret": "x"}, "AccessKeyId"),
        ({"AccessKeyId": "id"}, "AccessKeySecret"),
        ({"accessKeyId": "id", "accessKeySecret": "x"}, "AccessKeyId"),
        ({"AccessKeyId": "", "AccessKeySecret": "x"}, "AccessKeyId"),
        ({"AccessKeyId": 5, "AccessKeySecret": "x"}, "AccessKeyId"),
        ({"AccessKeyId": "id", "AccessKeySecret": None}, "AccessKeySecret"),
        ({"AccessKeyId": "id", "AccessKeySecret": "x", "SecurityToken": 5}, "SecurityToken"),
        ({"AccessKeyId": "id", "AccessKeySecret": "x", "Expiration": "soon"}, "Expiration"),
        ({"AccessKeyId": "id", "AccessKeySecret": "x", "Expiration": 5}, "Expiration"),
    ],
)
def test_a_wrong_field_of_the_credential_file_is_named(
    door: Door, tmp_path: Path, document: dict[str, Any], field: str
) -> None:
    path = tmp_path / "credentials.json"
    path.write_text(json.dumps(document))
    with pytest.raises(OssCredentialsError) as caught:
        door("oss-cn-hangzhou.aliyuncs.com", cred_path=str(path))
    assert str(path) in str(caught.value)
    assert field in str(caught.value)


@pytest.mark.parametrize(
    ("document", "key", "value"),
    [
        ({"logLevel": "info"}, "logLevel", "'info'"),
        ({"logLevel": 9}, "logLevel", "9"),
        ({"logPath": 5}, "logPath", "5"),
        ({"datasetConfig": []}, "datasetConfig", ""),
        ({"datasetConfig": {"prefetchConcurrency": "24"}}, "datasetConfig.prefetchConcurrency", "'24'"),
        ({"datasetConfig": {"prefetchConcurrency": 0}}, "datasetConfig.prefetchConcurrency", "0"),
        ({"datasetConfig": {"prefetchConcurrency": True}}, "datasetConfig.prefetchConcurrency", "True"),
        ({"checkpointConfig": {"uploadConcurrency": -1}}, "checkpointConfig.uploadConcurrency", "-1"),
        ({"uploadIoSizeMB": 0}, "uploadIoSizeMB", "0"),
        ({"timeoutMs": -5}, "timeoutMs", "-0.005"),
        ({"prefetchMB": 10**12}, "prefetchMB", str(10**12 * 1024 * 1024)),
    ],
)
def test_a_wrong_key_of_the_configuration_file_is_named(
    door: Door, tmp_path: Path, document: dict[str, Any], key: str, value: str
) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(document))
    with pytest.raises(OssConfigError) as caught:
        door("oss-cn-hangzhou.aliyuncs.com", config_path=str(path), config=settings())
    for quoted in (str(path), key, value):
        assert quoted in str(caught.value)


def test_a_ca_bundle_without_certificates_is_named(door: Door, tmp_path: Path) -> None:
    path = tmp_path / "bundle.pem"
    with pytest.raises(OssConfigError, match=r"ca_bundle.*bundle.pem"):
        door("oss-cn-hangzhou.aliyuncs.com", config=settings(ca_bundle=str(path)))
    path.write_text("no certificate")
    one = OssClient("oss-cn-hangzhou.aliyuncs.com", config=settings(ca_bundle=str(path)))
    with pytest.raises(OssConfigError, match=r"ca_bundle.*bundle.pem.*no certificate"):
        one.get("oss://some-bucket/a")


def test_a_log_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "log"
    one = OssClient("oss-cn-hangzhou.aliyuncs.com", config=settings(log_path=str(path)))
    with pytest.raises(OssConfigError, match=r"log file .* cannot be written"):
        one.get("oss://some-bucket/a")


def test_a_configuration_of_the_wrong_kind_is_reported(door: Door) -> None:
    with pytest.raises(OssConfigError, match="must be an OssConfig, not dict"):
        door("oss-cn-hangzhou.aliyuncs.com", config={"max_attempts": 2})
    with pytest.raises(TypeError, match="max_attempt"):
        OssConfig(max_attempt=2)  # type: ignore[call-arg]


def test_every_error_of_this_kind_is_a_value_error_of_our_tree(door: Door) -> None:
    with pytest.raises(ValueError, match="endpoint") as caught:
        door("ftp://host", config=settings())
    assert isinstance(caught.value, OssError)


def test_a_client_needs_an_endpoint() -> None:
    with pytest.raises(OssConfigError, match="endpoint"):
        OssClient("", region="cn-hangzhou", config=settings())
