import os
import pickle

import pytest

from osstorchconnector import (
    OssClient,
    OssConfig,
    OssConfigError,
    OssError,
    OssExistsError,
    OssNotFoundError,
    OssPermissionError,
)
from osstorchconnector.testing import Emulator


def test_put_get_head_delete(client: OssClient, bucket: str) -> None:
    uri = f"oss://{bucket}/dir/a.bin"
    etag = client.put(uri, b"0123456789", content_type="application/x-test")
    assert client.get(uri) == b"0123456789"
    assert client.get(uri, 2, 5) == b"234"
    assert client.get(uri, 7) == b"789"
    assert client.get(uri, None, 3) == b"012"
    described = client.head(uri)
    assert (described.size, described.etag, described.name) == (10, etag, "dir/a.bin")
    client.delete(uri)
    client.delete(uri)
    for read in (client.get, client.head, client.open):
        with pytest.raises(OssNotFoundError) as caught:
            read(uri)
        assert (caught.value.status, caught.value.bucket, caught.value.key) == (404, bucket, "dir/a.bin")
        assert caught.value.request_id
        assert caught.value.attempts == 1


@pytest.mark.parametrize("data", [b"bytes", bytearray(b"bytes"), memoryview(b"bytes"), memoryview(b"xbytesx")[1:6]])
def test_put_takes_any_buffer(client: OssClient, bucket: str, data: bytes | bytearray | memoryview) -> None:
    client.put(f"oss://{bucket}/a", data)
    assert client.get(f"oss://{bucket}/a") == b"bytes"


def test_put_can_refuse_to_overwrite(client: OssClient, bucket: str) -> None:
    uri = f"oss://{bucket}/a"
    client.put(uri, b"first", forbid_overwrite=True)
    with pytest.raises(OssExistsError) as caught:
        client.put(uri, b"second", forbid_overwrite=True)
    assert caught.value.code == "FileAlreadyExists"
    assert client.get(uri) == b"first"


def test_list_is_in_key_order_and_pages(client: OssClient, bucket: str) -> None:
    names = [f"p/{number:04}" for number in range(1005)]
    for name in names:
        client.put(f"oss://{bucket}/{name}", b"")
    assert [item.name for item in client.list(f"oss://{bucket}/p/")] == names
    assert [item.name for item in client.list(f"oss://{bucket}/p/100")] == names[1000:]
    client.delete_many([f"oss://{bucket}/{name}" for name in names])
    assert list(client.list(f"oss://{bucket}/")) == []


def test_listed_objects_can_be_read(client: OssClient, bucket: str) -> None:
    client.put(f"oss://{bucket}/a", b"content")
    (item,) = client.list(f"oss://{bucket}")
    assert item.size == 7
    assert item.read() == b"content"


@pytest.mark.parametrize(("start", "end"), [(-1, None), (0, -1), (5, 4)])
def test_an_invalid_range_is_refused(client: OssClient, bucket: str, start: int, end: int | None) -> None:
    with pytest.raises(OssConfigError, match=f"invalid range {start}–{'' if end is None else end} for "):  # noqa: RUF001
        client.get(f"oss://{bucket}/a", start, end)


def test_buckets_are_listed(emulator: Emulator, client: OssClient, bucket: str) -> None:
    assert bucket in client.list_buckets()
    client.delete_bucket(bucket)
    assert bucket not in emulator.client().list_buckets()


def test_delete_many_over_buckets(emulator: Emulator, client: OssClient, bucket: str) -> None:
    other = f"{bucket}-other"
    emulator.create_bucket(other)
    uris = [f"oss://{name}/{key}" for name in (bucket, other) for key in ("a", "b&<c>")]
    for uri in uris:
        client.put(uri, b"")
    client.delete_many(iter([*uris, f"oss://{bucket}/missing"]))
    assert list(client.list(f"oss://{bucket}/")) == []
    client.delete_bucket(other)
    with pytest.raises(OssNotFoundError) as caught:
        list(client.list(f"oss://{other}/"))
    assert caught.value.code == "NoSuchBucket"


def test_delete_many_takes_every_key_that_delete_takes(emulator: Emulator, client: OssClient, bucket: str) -> None:
    # XML holds neither of the first four, and normalises the line breaks of the next.
    keys = ["a\x01b", "\0", "a\x1b", "\ufffe", "a\r\nb", "a\rb", "\t", " ", "]]>", "a//b", "..", "\x85", "&" * 1023]
    uris = [f"oss://{bucket}/{key}" for key in keys]
    for uri in uris:
        client.put(uri, b"")
    emulator.clear_requests()
    client.delete_many(uris)
    assert list(client.list(f"oss://{bucket}/")) == []
    assert sum(request.bucket == bucket for request in emulator.requests(operation="DeleteObject")) == 4
    # 1,000 of these do not fit into a body that OSS takes.
    emulator.clear_requests()
    client.delete_many(f"oss://{bucket}/{number:04}{'&' * 1000}" for number in range(1000))
    sent = [request for request in emulator.requests(operation="DeleteMultipleObjects") if request.bucket == bucket]
    assert 3 <= len(sent) <= 5
    assert all(request.status == 200 for request in sent)


def test_creating_ones_own_bucket_is_no_error(emulator: Emulator, client: OssClient, bucket: str) -> None:
    client.create_bucket(bucket)
    # OSS says this of every bucket that it does not create.
    with emulator.fault(bucket=bucket, operation="PutBucket", error="BucketAlreadyExists"):
        client.create_bucket(bucket)
        with (
            emulator.fault(bucket=bucket, operation="GetBucketInfo", error="AccessDenied"),
            pytest.raises(OssError, match="BucketAlreadyExists") as raised,
        ):
            client.create_bucket(bucket)
    assert raised.value.status == 409


def test_copy_and_rename(client: OssClient, bucket: str) -> None:
    client.put(f"oss://{bucket}/a b+c", b"content")
    client.copy(f"oss://{bucket}/a b+c", f"oss://{bucket}/b")
    assert client.get(f"oss://{bucket}/b") == b"content"
    renamed = client.rename_object(bucket, "b", bucket, "c")
    assert (renamed.name, renamed.size) == ("c", 7)
    with pytest.raises(OssNotFoundError):
        client.head(f"oss://{bucket}/b")
    with pytest.raises(OssNotFoundError):
        client.rename_object(bucket, "missing", bucket, "d")


def test_the_originals_method_names(client: OssClient, bucket: str) -> None:
    with client.put_object(bucket, "a") as writer:
        writer.write(b"content")
    assert client.head_object(bucket, "a").size == 7
    with client.get_object(bucket, "a", 0, type=1, label="") as reader:
        assert reader.read() == b"content"
    assert [item.name for item in client.list_objects(bucket)] == ["a"]
    client.remove_object(bucket, "a")
    assert list(client.list_objects(bucket, "a")) == []


def test_a_writer_publishes_on_close_and_not_before(client: OssClient, bucket: str) -> None:
    uri = f"oss://{bucket}/a"
    client.put(uri, b"previous")
    with client.writer(uri) as writer:
        assert writer.write(b"new ") == 4
        assert writer.write(memoryview(b"content")) == 7
        assert writer.tell() == 11
        assert client.get(uri) == b"previous"
    assert writer.closed
    assert client.get(uri) == b"new content"


def test_a_writer_whose_block_raises_publishes_nothing(client: OssClient, bucket: str) -> None:
    uri = f"oss://{bucket}/a"
    client.put(uri, b"previous")

    def fail_while_writing() -> None:
        with client.writer(uri) as writer:
            writer.write(b"new")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail_while_writing()
    assert client.get(uri) == b"previous"


def test_an_aborted_writer_publishes_nothing(client: OssClient, bucket: str) -> None:
    uri = f"oss://{bucket}/a"
    client.put(uri, b"previous")
    writer = client.writer(uri)
    writer.write(b"new")
    writer.abort()
    writer.close()
    assert writer.closed
    assert client.get(uri) == b"previous"


def test_a_writer_uploads_in_parts(emulator: Emulator, bucket: str) -> None:
    config = OssConfig(part_size=128 * 1024, upload_concurrency=3)
    client = OssClient(**emulator.connection, config=config)
    content = os.urandom(1_000_003)
    with client.writer(f"oss://{bucket}/a") as writer:
        for start in range(0, len(content), 77_777):
            writer.write(content[start : start + 77_777])
    assert client.get(f"oss://{bucket}/a") == content


@pytest.mark.parametrize("uri", ["oss://bucket", "oss://bucket/", "bucket/key", "oss://b/key", "oss://bucket//key"])
def test_a_uri_without_an_object_is_refused(client: OssClient, uri: str) -> None:
    with pytest.raises(OssConfigError) as caught:
        client.get(uri)
    assert uri in str(caught.value)


def test_a_wrong_secret_is_reported_and_not_shown(emulator: Emulator, bucket: str) -> None:
    secret = "a-wrong-secret-that-must-not-show"
    config = OssConfig(access_key_id=emulator.access_key_id, access_key_secret=secret)
    client = OssClient(emulator.endpoint, region=emulator.region, config=config)
    with pytest.raises(OssPermissionError) as caught:
        client.get(f"oss://{bucket}/a")
    assert caught.value.code == "SignatureDoesNotMatch"
    assert caught.value.status == 403
    assert caught.value.request_id
    assert secret not in str(caught.value)


def test_an_unknown_key_is_reported(emulator: Emulator, bucket: str) -> None:
    config = OssConfig(access_key_id="unknown", access_key_secret="secret")
    client = OssClient(emulator.endpoint, region=emulator.region, config=config)
    with pytest.raises(OssPermissionError) as caught:
        client.put(f"oss://{bucket}/a", b"")
    assert caught.value.code == "InvalidAccessKeyId"


@pytest.mark.parametrize("version", ["v4", "v1"])
def test_both_signatures(emulator: Emulator, bucket: str, version: str) -> None:
    client = OssClient(**emulator.connection, config=OssConfig(signature_version=version))  # type: ignore[arg-type]
    client.put(f"oss://{bucket}/a b+c?d", b"content", content_type="text/plain")
    assert client.get(f"oss://{bucket}/a b+c?d") == b"content"


def test_explicit_keys_and_providers_work(emulator: Emulator, bucket: str) -> None:
    class Provider:
        def get_credentials(self) -> OssConfig:
            return emulator.config

    for client in (
        OssClient(emulator.endpoint, region=emulator.region, config=emulator.config),
        OssClient(emulator.endpoint, cred_provider=Provider(), region=emulator.region),
    ):
        client.put(f"oss://{bucket}/a", b"content")
        assert client.get(f"oss://{bucket}/a") == b"content"


def test_it_pickles_as_configuration(client: OssClient, bucket: str) -> None:
    client.put(f"oss://{bucket}/a", b"content")
    restored = pickle.loads(pickle.dumps(client))
    assert restored._native_clients.by_pid == {}
    assert restored.get(f"oss://{bucket}/a") == b"content"


def test_it_shows_its_configuration(emulator: Emulator) -> None:
    client = OssClient(**emulator.connection, config=OssConfig(max_attempts=2))
    assert client.endpoint == emulator.endpoint
    assert client.region == "cn-hangzhou"
    assert client.config.max_attempts == 2
    assert repr(client) == (f"OssClient({emulator.endpoint!r}, region='cn-hangzhou', config=OssConfig(max_attempts=2))")


def test_io_threads_follow_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    from osstorchconnector.connection import native_client  # noqa: PLC0415
    from osstorchconnector.process.worker import Share  # noqa: PLC0415

    for processors, threads in ((None, 1), (1, 1), (8, 4), (128, 8)):
        monkeypatch.setattr(os, "cpu_count", lambda processors=processors: processors)
        assert native_client._io_threads(OssConfig()) == threads
    monkeypatch.setattr(native_client, "worker_share", lambda: Share(0, 2))
    assert native_client._io_threads(OssConfig()) == 1
    assert native_client._io_threads(OssConfig(io_threads=3)) == 3
