"""What writes and other requests carry: storage class, encryption, metadata, headers; who pays; presigned URLs."""

import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp

from osstorchconnector import (
    OssCheckpoint,
    OssClient,
    OssConfig,
    OssConfigError,
    OssError,
    OssFileSystem,
    OssIntegrityError,
    OssIterableDataset,
    OssSafetensor,
    WriteOptions,
)
from osstorchconnector.testing import Emulator
from tests.faults.objects import ObjectServer
from tests.faults.server import Answer, Exchange, ScriptedServer

PART = 100 * 1024
EVERYTHING = WriteOptions(
    storage_class="IA",
    encryption="AES256",
    acl="private",
    tags={"team": "vision", "état": "a b/c"},
    metadata={"Step": "1200"},
    content_type="image/jpeg",
    cache_control="no-cache",
    content_disposition='attachment; filename="a.jpg"',
    content_encoding="identity",
    expires=datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC),
)


def connected(emulator: Emulator, options: WriteOptions | None = None, **settings: Any) -> OssClient:
    return OssClient(**emulator.connection, config=OssConfig(part_size=PART, write_options=options, **settings))


def acl_of(client: OssClient, uri: str) -> bytes:
    bucket, _, key = uri.removeprefix("oss://").partition("/")
    return client._native_client.request("GET", bucket, key, query=[("acl", "")])[1]


def check_everything(client: OssClient, uri: str) -> None:
    found = client.stat(uri)
    assert (found.storage_class, found.encryption, found.tag_count) == ("IA", "AES256", 2)
    assert found.metadata == {"step": "1200"}
    assert found.content_type == "image/jpeg"
    named = ("cache-control", "content-disposition", "content-encoding", "expires")
    assert [found.headers[name] for name in named] == [
        "no-cache",
        'attachment; filename="a.jpg"',
        "identity",
        "Wed, 02 Jan 2030 03:04:05 GMT",
    ]
    assert b"<Grant>private</Grant>" in acl_of(client, uri)


@pytest.mark.parametrize("size", [10, 3 * PART])
def test_every_way_to_write_an_object_takes_the_options(emulator: Emulator, bucket: str, size: int) -> None:
    client = connected(emulator)
    data = bytes(size)
    uri = f"oss://{bucket}/put"
    client.put(uri, data, options=EVERYTHING)
    check_everything(client, uri)
    for name, options in (("writer", {}), ("seekable", {"seekable": True})):
        with client.writer(f"oss://{bucket}/{name}", options=EVERYTHING, **options) as writer:
            writer.write(data)
        check_everything(client, f"oss://{bucket}/{name}")
    checkpoint = OssCheckpoint(**emulator.connection, config=OssConfig(part_size=PART))
    checkpoint.save(torch.zeros(size), f"oss://{bucket}/checkpoint", options=EVERYTHING)
    check_everything(client, f"oss://{bucket}/checkpoint")


@pytest.mark.slow(60)
@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_the_options_of_the_configuration_apply_to_every_write(emulator: Emulator, bucket: str) -> None:
    config = OssConfig(part_size=PART, write_options=EVERYTHING)
    client = OssClient(**emulator.connection, config=config)
    weight = torch.zeros(50_000)
    state = {"weight": weight, "step": 3}
    client.put(f"oss://{bucket}/put", b"x")
    with client.put_object(bucket, "put_object") as writer:
        writer.write(bytes(3 * PART))
    OssCheckpoint(**emulator.connection, config=config).save(state, f"oss://{bucket}/checkpoint.pt")
    OssSafetensor(**emulator.connection, config=config).save_file(
        {"weight": weight}, f"oss://{bucket}/weights.safetensors"
    )
    storage_writer = OssFileSystem(**emulator.connection, config=config).writer(f"oss://{bucket}/dcp")
    dcp.save(state, storage_writer=storage_writer, no_dist=True)
    names = [item.name for item in client.list(f"oss://{bucket}/")]
    assert len(names) > 5
    for name in names:
        found = client.stat(f"oss://{bucket}/{name}")
        assert (found.storage_class, found.encryption, found.tag_count) == ("IA", "AES256", 2)
        assert found.metadata == {"step": "1200"}


@pytest.mark.parametrize("size", [10, 250 * 1024 * 1024])
def test_a_copy_changes_what_the_options_name_and_keeps_the_rest(emulator: Emulator, bucket: str, size: int) -> None:
    client = OssClient(**emulator.connection)
    source, target = f"oss://{bucket}/source", f"oss://{bucket}/target"
    client.put(source, bytes(size), options=EVERYTHING)
    client.copy(source, target, options=WriteOptions(content_type="image/png", metadata={"more": "1"}))
    found = client.stat(target)
    assert found.content_type == "image/png"
    assert found.metadata == {"step": "1200", "more": "1"}
    assert found.headers["cache-control"] == "no-cache"
    assert found.tag_count == 2
    client.copy(source, target, options=WriteOptions(storage_class="Standard", tags={"only": "one"}))
    found = client.stat(target)
    assert (found.storage_class, found.content_type, found.tag_count) == ("Standard", "image/jpeg", 1)
    with pytest.raises(OssError, match="FileAlreadyExists"):
        client.copy(source, target, options=WriteOptions(forbid_overwrite=True))


def test_a_copy_with_another_description_is_of_the_version_that_was_described() -> None:
    def answer(exchange: Exchange) -> None:
        if exchange.request.method == "HEAD":
            headers = {"etag": '"A"', "content-type": "text/plain", "x-oss-meta-a": "1", "x-oss-request-id": "ID"}
            exchange.reply(Answer(200, headers), length=5)
        else:
            sent.update(exchange.request.headers)
            exchange.reply(Answer(412, {"x-oss-request-id": "ID"}))

    sent: dict[str, str] = {}
    with ScriptedServer(answer) as server:
        config = OssConfig(access_key_id="id", access_key_secret="secret")
        client = OssClient(server.endpoint, region="cn-hangzhou", config=config)
        with pytest.raises(OssIntegrityError, match="replaced while it was being copied"):
            client.copy("oss://bucket/a", "oss://bucket/b", options=WriteOptions(content_type="image/png"))
    assert sent["x-oss-copy-source-if-match"] == '"A"'
    assert (sent["content-type"], sent["x-oss-meta-a"]) == ("image/png", "1")


@pytest.mark.parametrize("size", [10, 3 * PART])
def test_an_object_that_must_not_be_replaced_stays(emulator: Emulator, bucket: str, size: int) -> None:
    client = connected(emulator, WriteOptions(forbid_overwrite=True))
    uri = f"oss://{bucket}/k"
    client.put(uri, b"first")
    for write in (lambda: client.put(uri, bytes(size)), lambda: write_all(client, uri, bytes(size))):
        with pytest.raises(OssError, match="FileAlreadyExists"):
            write()
    assert client.get(uri) == b"first"


def write_all(client: OssClient, uri: str, data: bytes) -> None:
    with client.writer(uri) as writer:
        writer.write(data)


def test_options_of_a_call_win_over_those_of_the_configuration(emulator: Emulator, bucket: str) -> None:
    client = connected(emulator, WriteOptions(storage_class="IA", encryption="KMS", kms_key_id="one", tags={"a": "1"}))
    uri = f"oss://{bucket}/k"
    client.put(uri, b"x", content_type="text/plain", options=WriteOptions(encryption="AES256", content_type="a/b"))
    found = client.stat(uri)
    assert (found.storage_class, found.encryption, found.kms_key_id) == ("IA", "AES256", None)
    assert (found.tag_count, found.content_type) == (1, "text/plain")


BAD: list[tuple[dict[str, Any], str]] = [
    ({"storage_class": "Cold"}, "storage_class is 'Cold': allowed is"),
    ({"encryption": "aes"}, "encryption is 'aes': allowed is"),
    ({"acl": "public"}, "acl is 'public': allowed is"),
    ({"kms_key_id": "one"}, "kms_key_id needs encryption='KMS'"),
    ({"tags": {str(number): "" for number in range(11)}}, "has 11 tags"),
    ({"tags": {"a" * 129: ""}}, "1 to 128 characters"),
    ({"tags": {"a": "?"}}, "allowed are letters"),
    ({"tags": [("a", "b")]}, "must be a dict of strings"),
    ({"metadata": {"a_b": "1"}}, "'a_b': a name has ASCII letters"),
    ({"metadata": {"a": "é"}}, "percent-encode other text"),
    ({"metadata": {"a": "1", "A": "2"}}, "differ only in upper and lower case"),
    ({"metadata": {"a": "x" * 9000}}, "OSS stores at most 8192"),
    ({"content_type": "text/plain\r\nHost: evil"}, "without line breaks"),
    ({"expires": datetime(2030, 1, 1)}, "without a zone"),  # noqa: DTZ001 - on purpose
    ({"headers": {"Authorization": "x"}}, "'Authorization' is set by the client itself"),
    ({"headers": {"Range": "bytes=0-1"}}, "'Range' is set by the client itself"),
    ({"headers": {"a b": "x"}}, "is not a name that a header can have"),
    ({"headers": {"x-a": "b\nc"}}, "without line breaks"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_a_wrong_option_is_reported_with_its_name(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OssConfigError, match=f"WriteOptions.*{message}"):
        WriteOptions(**options)


@pytest.mark.parametrize(
    "action",
    [
        lambda client: client.get("oss://bucket/k"),
        lambda client: client.head("oss://bucket/k"),
        lambda client: list(client.list("oss://bucket/")),
        lambda client: client.put("oss://bucket/k", b"x"),
        lambda client: list(OssIterableDataset.from_objects("oss://bucket/k", client.endpoint, config=client.config)),
    ],
)
def test_every_request_carries_the_headers_of_the_configuration(
    action: Callable[[OssClient], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET"):
        monkeypatch.setenv(name, "value")
    monkeypatch.setenv("OSS_REGION", "cn-hangzhou")
    with ObjectServer({"k": b"bytes"}) as server:
        config = OssConfig(request_payer=True, headers={"X-Trace": "1"}, max_attempts=1)
        client = OssClient(server.endpoint, config=config)
        action(client)
        assert server.requests
        for request in server.requests:
            assert request.headers["x-oss-request-payer"] == "requester"
            assert request.headers["x-trace"] == "1"
            assert "AdditionalHeaders=" in request.headers["authorization"]
            assert "x-trace" in request.headers["authorization"]


def test_headers_of_ones_own_are_signed(emulator: Emulator, bucket: str) -> None:
    client = connected(emulator, headers={"X-Trace": "1"})
    uri = f"oss://{bucket}/k"
    client.put(uri, b"bytes", options=WriteOptions(headers={"x-oss-meta-a": "1", "Content-Language": "de"}))
    assert client.get(uri) == b"bytes"
    assert client.stat(uri).metadata == {"a": "1"}


def fetch(url: str, method: str = "GET", data: bytes | None = None, **headers: str) -> bytes:
    request = urllib.request.Request(url, method=method, data=data, headers=headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.read()  # type: ignore[no-any-return]


@pytest.mark.parametrize("version", ["v4", "v1"])
def test_a_presigned_url_works_without_an_access_key(emulator: Emulator, bucket: str, version: Any) -> None:
    client = connected(emulator, signature_version=version)
    uri = f"oss://{bucket}/a b+c?"
    url = client.presign(uri, method="PUT", headers={"Content-Type": "text/plain"})
    fetch(url, "PUT", b"bytes", **{"Content-Type": "text/plain"})
    with pytest.raises(urllib.error.HTTPError, match="403"):
        fetch(url, "PUT", b"bytes", **{"Content-Type": "text/html"})
    assert fetch(client.presign(uri, expires=60)) == b"bytes"
    with pytest.raises(urllib.error.HTTPError, match="403"):
        fetch(client.presign(uri).replace("a%20b", "other"))
    fetch(client.presign(uri, method="DELETE"), "DELETE")
    with pytest.raises(urllib.error.HTTPError, match="404"):
        fetch(client.presign(uri, method="HEAD"), "HEAD")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "PATCH"}, "method is 'PATCH'"),
        ({"expires": 0}, "expires is 0"),
        ({"expires": 604_801}, "604800|604,800"),
        ({"headers": {"Host": "x"}}, "'Host' is set by the client itself"),
    ],
)
def test_a_url_that_cannot_be_signed_is_reported(emulator: Emulator, options: Any, message: str) -> None:
    with pytest.raises(OssConfigError, match=message):
        connected(emulator).presign("oss://bucket/k", **options)
    anonymous = OssClient(emulator.endpoint, region="cn-hangzhou", config=OssConfig(anonymous=True))
    with pytest.raises(OssConfigError, match="anonymous"):
        anonymous.presign("oss://bucket/k")
