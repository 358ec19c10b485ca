"""What writes and other requests carry: storage class, encryption, metadata, headers; who pays; presigned URLs."""

import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
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
    OssExistsError,
    OssFileSystem,
    OssIntegrityError,
    OssIterableDataset,
    OssPermissionError,
    OssSafetensor,
    WriteOptions,
)
from osstorchconnector.fsspec import FsspecFileSystem
from osstorchconnector.testing import Emulator
from tests.faults.objects import ObjectServer
from tests.faults.server import Answer, Exchange, ScriptedServer

PART = 100 * 1024
ENCRYPTION = "x-oss-server-side-encryption"
OBJECT_ACL = "x-oss-object-acl"
SETTINGS = OssConfig(access_key_id="id", access_key_secret="secret", max_attempts=1)
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


def test_a_call_may_replace_an_object_that_the_configuration_protects(emulator: Emulator, bucket: str) -> None:
    client = connected(emulator, WriteOptions(forbid_overwrite=True))
    uri = f"oss://{bucket}/k"
    client.put(uri, b"first")
    client.put(uri, b"second", forbid_overwrite=False)
    client.put(uri, b"third", options=WriteOptions(forbid_overwrite=False))
    with client.writer(uri, options=WriteOptions(forbid_overwrite=False)) as writer:
        writer.write(b"fourth")
    assert client.get(uri) == b"fourth"
    for not_said in (WriteOptions(), WriteOptions(content_type="a/b"), None):
        with pytest.raises(OssError, match="FileAlreadyExists"):
            client.put(uri, b"fifth", options=not_said)
    with pytest.raises(OssError, match="FileAlreadyExists"):
        client.put(uri, b"fifth", forbid_overwrite=True, options=WriteOptions(forbid_overwrite=False))


def test_a_kms_key_without_rights_is_a_permission_error_with_the_rights_to_give() -> None:
    def refuse(exchange: Exchange) -> None:
        text = b"<Error><Code>AccessDenied</Code><Message>This request is forbidden by kms.</Message></Error>"
        exchange.reply(Answer(403, {"x-oss-request-id": "ID"}, text))

    with ScriptedServer(refuse) as server:
        config = OssConfig(access_key_id="id", access_key_secret="secret")
        client = OssClient(server.endpoint, region="cn-hangzhou", config=config)
        options = WriteOptions(encryption="KMS", kms_key_id="key")
        for write in (
            lambda: client.put("oss://bucket/k", b"x", options=options),
            lambda: client.get("oss://bucket/k"),
        ):
            with pytest.raises(OssPermissionError, match="allow it kms:GenerateDataKey and kms:Decrypt") as caught:
                write()
            assert (caught.value.code, caught.value.key, caught.value.attempts) == ("AccessDenied", "k", 1)


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
    ({"headers": {"Range": "bytes=0-1"}}, "give start and end to get"),
    ({"headers": {"Accept-Encoding": "gzip"}}, "the client needs the bytes as they are stored"),
    ({"headers": {"X-Oss-Symlink-Target": "k"}}, "call OssClient.symlink"),
    ({"headers": {"x-oss-request-payer": "requester"}}, "give OssConfig.request_payer"),
    ({"headers": {"X-Oss-Forbid-Overwrite": "false"}}, "is the field forbid_overwrite: give it there"),
    ({"headers": {"x-b": "1", "X-B": "2"}}, "'X-B' is given twice"),
    ({"headers": {"Content-Type": "a/b"}, "content_type": "c/d"}, "'content-type' is given beside .*content_type"),
    ({"headers": {"X-Oss-Meta-A": "1"}, "metadata": {"a": "2"}}, "'x-oss-meta-a' is given beside .*metadata"),
    ({"headers": {"x-oss-tagging": "a=1"}, "tags": {}}, "'x-oss-tagging' is given beside .*tags"),
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


BAD_OF_ALL_REQUESTS: list[tuple[str, str]] = [
    *((name, "is set by the client itself: give the conditions") for name in ("If-Match", "If-None-Match", "If-Range")),
    *((name, "is set by the client itself: give the cond") for name in ("If-Modified-Since", "If-Unmodified-Since")),
    *(
        (name, "the client decides about its connections")
        for name in ("Connection", "Transfer-Encoding", "TE", "Expect")
    ),
    ("Range", "give start and end to get"),
    ("Host", "the endpoint and OssConfig.addressing decide it"),
    ("Accept-Encoding", "the client needs the bytes as they are stored"),
    ("X-Oss-Request-Payer", "give OssConfig.request_payer"),
    ("X-Oss-Symlink-Target", "call OssClient.symlink"),
    ("Content-Encoding", r"give OssConfig.write_options=WriteOptions\(content_encoding=...\)"),
    ("Content-Type", r"WriteOptions\(content_type="),
    ("X-Oss-Server-Side-Encryption", r"WriteOptions\(encryption="),
    ("x-oss-server-side-encryption-key-id", r"WriteOptions\(kms_key_id="),
    ("x-oss-server-side-data-encryption", r"WriteOptions\(headers="),
    ("x-oss-forbid-overwrite", r"WriteOptions\(forbid_overwrite="),
    ("x-oss-storage-class", r"WriteOptions\(storage_class="),
    ("x-oss-object-acl", r"WriteOptions\(acl="),
    ("x-oss-tagging", r"WriteOptions\(tags="),
    ("x-oss-meta-a", r"WriteOptions\(metadata="),
    ("x-oss-callback", r"WriteOptions\(headers="),
    ("x-oss-callback-var", r"WriteOptions\(headers="),
]


@pytest.mark.parametrize(("name", "message"), BAD_OF_ALL_REQUESTS)
def test_a_header_that_not_every_request_may_have_is_refused_with_what_to_give_instead(name: str, message: str) -> None:
    with pytest.raises(OssConfigError, match=f"OssConfig.headers: '{name}' .*{message}"):
        OssConfig(headers={name: "1"})


def test_a_header_is_given_once() -> None:
    with pytest.raises(OssConfigError, match=r"OssConfig.headers: 'X-B' is given twice"):
        OssConfig(headers={"x-b": "1", "X-B": "2"})


@pytest.mark.parametrize(
    ("call", "defaults", "expected"),
    [
        (
            {"content_type": "a/b"},
            {"headers": {"content-type": "c/d", "x-a": "1"}},
            {"content-type": "a/b", "x-a": "1"},
        ),
        ({"headers": {"Expires": "a"}}, {"expires": "b", "acl": "private"}, {"expires": "a", OBJECT_ACL: "private"}),
        ({"metadata": {"A": "1"}}, {"headers": {"x-oss-meta-a": "2"}}, {"x-oss-meta-a": "1"}),
        ({"headers": {"x-oss-meta-a": "1"}}, {"metadata": {"a": "2", "b": "3"}}, {"x-oss-meta-a": "1"}),
        ({"encryption": "AES256"}, {"headers": {f"{ENCRYPTION}-key-id": "one"}}, {ENCRYPTION: "AES256"}),
        ({"headers": {ENCRYPTION: "AES256"}}, {"encryption": "KMS", "kms_key_id": "one"}, {ENCRYPTION: "AES256"}),
    ],
)
def test_a_call_wins_over_the_configuration_in_field_and_header(
    call: dict[str, Any], defaults: dict[str, Any], expected: dict[str, str]
) -> None:
    headers = WriteOptions(**call).over(WriteOptions(**defaults)).to_headers()
    assert sorted(headers) == sorted(expected.items())


def test_headers_of_a_write_win_over_those_of_all_requests() -> None:
    with ObjectServer({}) as server:
        config = OssConfig(access_key_id="id", access_key_secret="secret", headers={"X-Trace": "all"})
        client = OssClient(server.endpoint, region="cn-hangzhou", config=config)
        client.put("oss://bucket/k", b"x", options=WriteOptions(headers={"x-trace": "write"}))
        assert [request.headers["x-trace"] for request in server.requests] == ["write"]


@pytest.mark.parametrize(
    "write",
    [
        lambda client, options: client.put("oss://bucket/k", b"", options=options),
        lambda client, options: client.writer("oss://bucket/k", options=options),
        lambda client, options: client.copy("oss://bucket/k", "oss://bucket/l", options=options),
        lambda client, options: client.append("oss://bucket/k", b"", 5, options=options),
        lambda client, options: client.symlink("oss://bucket/k", "oss://bucket/l", options=options),
        lambda _client, options: OssCheckpoint("127.0.0.1:9", config=SETTINGS).save(
            1, "oss://bucket/k", options=options
        ),
        lambda _client, options: OssCheckpoint("127.0.0.1:9", config=SETTINGS).writer(
            "oss://bucket/k", options=options
        ),
        lambda client, options: FsspecFileSystem(client=client).open("bucket/k", "wb", write_options=options),
        lambda client, options: FsspecFileSystem(client=client).open("bucket/k", "xb", write_options=options),
        lambda client, options: FsspecFileSystem(client=client).open("bucket/k", "ab", write_options=options),
        lambda client, options: FsspecFileSystem(client=client).pipe_file("bucket/k", b"", write_options=options),
    ],
)
def test_options_of_another_kind_are_refused_before_anything_is_sent(
    write: Callable[[OssClient, Any], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OSS_REGION", "cn-hangzhou")
    # Nothing listens there.
    client = OssClient("127.0.0.1:9", config=SETTINGS)
    for options in ({"storage_class": "IA"}, {}, "IA"):
        with pytest.raises(OssConfigError, match=r"options is .*: allowed is WriteOptions or None"):
            write(client, options)


def test_links_and_appends_take_the_options_of_the_configuration(emulator: Emulator, bucket: str) -> None:
    client = connected(emulator, WriteOptions(storage_class="IA", metadata={"step": "1"}, content_type="a/b"))
    uri = f"oss://{bucket}/log"
    client.append(uri, b"one", options=WriteOptions(content_type="c/d"))
    client.append(uri, b"two", options=WriteOptions(content_type="e/f"))
    found = client.stat(uri)
    assert (found.size, found.storage_class, found.metadata, found.content_type) == (6, "IA", {"step": "1"}, "c/d")
    with FsspecFileSystem(client=client, skip_instance_cache=True).open(f"{bucket}/other", "ab") as file:
        file.write(b"one")
    assert client.stat(f"oss://{bucket}/other").storage_class == "IA"
    link = f"oss://{bucket}/link"
    client.symlink(link, uri)
    headers, _ = client._native_client.request("GET", bucket, "link", query=[("symlink", "")])
    assert dict(headers)["x-oss-meta-step"] == "1"


def test_a_link_replaces_no_object_that_the_configuration_protects(emulator: Emulator, bucket: str) -> None:
    client = connected(emulator, WriteOptions(forbid_overwrite=True))
    uri = f"oss://{bucket}/k"
    client.put(uri, b"first")
    with pytest.raises(OssExistsError, match="FileAlreadyExists"):
        client.symlink(uri, f"oss://{bucket}/other")
    assert client.get(uri) == b"first"
    client.symlink(uri, f"oss://{bucket}/other", options=WriteOptions(forbid_overwrite=False))
    assert client.readlink(uri) == f"oss://{bucket}/other"
    # An append replaces nothing.
    assert [client.append(f"oss://{bucket}/log", b"one") for _ in range(2)] == [3, 6]


@pytest.mark.parametrize("way", ["cp_file", "copy", "mv", "touch"])
def test_a_copy_of_the_file_system_takes_options(emulator: Emulator, bucket: str, way: str) -> None:
    files = FsspecFileSystem(client=connected(emulator), skip_instance_cache=True)
    source, target = f"{bucket}/source", f"{bucket}/source" if way == "touch" else f"{bucket}/target"
    files.pipe_file(source, b"bytes")
    arguments = [False] if way == "touch" else [target]
    getattr(files, way)(source, *arguments, write_options=WriteOptions(storage_class="IA"))
    assert files.client.stat(f"oss://{target}").storage_class == "IA"
    files.pipe_file(source, b"bytes")
    with pytest.raises(OssConfigError, match=r"options is \{\}: allowed is WriteOptions or None"):
        getattr(files, way)(f"{bucket}/source", *arguments, write_options={})


@pytest.mark.parametrize(
    "write",
    [
        lambda files, name, _: files.pipe_file(name, b"second"),
        lambda files, name, _: files.pipe({name: b"second"}),
        lambda files, name, _: files.touch(name),
        lambda files, name, _: files.get_mapper(name.rpartition("/")[0]).update({"k": b"second"}),
        lambda files, name, _: files.write_bytes(name, b"second"),
        lambda files, name, local: files.put_file(local, name),
        lambda files, name, local: files.put(local, name),
        lambda files, name, _: files.cp_file(name.replace("/k", "/other"), name),
        lambda files, name, _: files.cp(name.replace("/k", "/other"), name),
    ],
)
def test_no_call_of_the_file_system_replaces_a_protected_object(
    emulator: Emulator, bucket: str, tmp_path: Path, write: Callable[[FsspecFileSystem, str, str], object]
) -> None:
    emulator.client().put(f"oss://{bucket}/other", b"second")
    (tmp_path / "second").write_bytes(b"second")
    client = connected(emulator, WriteOptions(forbid_overwrite=True))
    client.put(f"oss://{bucket}/k", b"first")
    files = FsspecFileSystem(client=client, skip_instance_cache=True)
    with pytest.raises(OssExistsError):
        write(files, f"{bucket}/k", str(tmp_path / "second"))
    assert client.get(f"oss://{bucket}/k") == b"first"


@pytest.mark.parametrize("way", ["cp", "mv"])
def test_what_marks_a_directory_is_protected_and_stops_no_copy(emulator: Emulator, bucket: str, way: str) -> None:
    client = connected(emulator, WriteOptions(forbid_overwrite=True))
    for key in ("d/", "d/file", "t/"):
        client.put(f"oss://{bucket}/{key}", key.encode())
    files = FsspecFileSystem(client=client, skip_instance_cache=True)
    getattr(files, way)(f"{bucket}/d/", f"{bucket}/t/", recursive=True)
    assert client.get(f"oss://{bucket}/t/file") == b"d/file"
    assert [client.get(f"oss://{bucket}/{key}") for key in ("d/", "t/")] == [b"d/", b"t/"]


@pytest.mark.parametrize("size", [10, 2 * PART])
def test_a_protected_object_is_appended_to_if_the_call_says_so(emulator: Emulator, bucket: str, size: int) -> None:
    client = connected(emulator, WriteOptions(forbid_overwrite=True))
    files = FsspecFileSystem(client=client, skip_instance_cache=True)
    files.pipe_file(f"{bucket}/k", bytes(size))
    with pytest.raises(OssExistsError), files.open(f"{bucket}/k", "ab") as file:
        file.write(b"end")
    with files.open(f"{bucket}/k", "ab", write_options=WriteOptions(forbid_overwrite=False)) as file:
        file.write(b"end")
    assert client.get(f"oss://{bucket}/k") == bytes(size) + b"end"


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


@pytest.mark.parametrize("version", ["v4", "v1"])
def test_a_presigned_url_says_who_pays(emulator: Emulator, bucket: str, version: Any) -> None:
    client = connected(emulator, signature_version=version, request_payer=True)
    uri = f"oss://{bucket}/k"
    client.put(uri, b"bytes")
    url = client.presign(uri)
    assert "x-oss-request-payer=requester" in url
    assert fetch(url) == b"bytes"
    with pytest.raises(urllib.error.HTTPError, match="403"):
        # The signature covers it.
        fetch(url.replace("x-oss-request-payer=requester&", ""))
    assert "request-payer" not in connected(emulator, signature_version=version).presign(uri)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "PATCH"}, "method is 'PATCH'"),
        ({"expires": 0}, "expires is 0"),
        ({"expires": 604_801}, "604800|604,800"),
        ({"expires": -1}, "expires is -1: a whole number of seconds above 0"),
        ({"expires": 60.0}, "expires is 60.0: a whole number of seconds above 0"),
        ({"expires": True}, "expires is True: a whole number of seconds above 0"),
        ({"expires": timedelta(hours=1)}, "a whole number of seconds above 0"),
        ({"expires": 10**30}, "expires is more than a hundred years"),
        ({"expires": 10**5000}, "expires is more than a hundred years"),
        ({"headers": {"x-a": "1", "X-A": "2"}}, "'X-A' is given twice"),
        ({"headers": {"Host": "x"}}, "'Host' is set by the client itself"),
    ],
)
def test_a_url_that_cannot_be_signed_is_reported(emulator: Emulator, options: Any, message: str) -> None:
    with pytest.raises(OssConfigError, match=message):
        connected(emulator).presign("oss://bucket/k", **options)
    anonymous = OssClient(emulator.endpoint, region="cn-hangzhou", config=OssConfig(anonymous=True))
    with pytest.raises(OssConfigError, match="anonymous"):
        anonymous.presign("oss://bucket/k")


@pytest.mark.parametrize("way", ["put", "symlink"])
def test_a_lost_answer_over_a_connection_in_use_is_an_attempt_of_a_write_that_must_not_replace(
    emulator: Emulator, bucket: str, way: str
) -> None:
    client = emulator.client()
    # The connection is used again, so that its loss before an answer looks like one that was closed while idle.
    client.put(f"oss://{bucket}/other", b"bytes")
    options = WriteOptions(forbid_overwrite=True)
    ways: dict[str, tuple[str, Callable[[], object]]] = {
        "put": ("PutObject", lambda: client.put(f"oss://{bucket}/k", b"bytes", options=options)),
        "symlink": (
            "PutSymlink",
            lambda: client.symlink(f"oss://{bucket}/k", f"oss://{bucket}/other", options=options),
        ),
    }
    operation, write = ways[way]
    with (
        emulator.fault(operation=operation, bucket=bucket, nth=1, reset=0),
        pytest.raises(OssExistsError) as caught,
    ):
        write()
    assert caught.value.attempts == 2
