"""Mode ``"ab"``: where the bytes go, and when."""

import gc
import io
import os
from collections.abc import Callable
from typing import Any

import fsspec
import pytest

from osstorchconnector import OssClient, OssConfig, OssError, OssIntegrityError, OssPermissionError, WriteOptions
from osstorchconnector.connection.unfinished_uploads import find_unfinished
from osstorchconnector.fsspec import FsspecFileSystem
from osstorchconnector.fsspec.appending import AppendableEnd
from osstorchconnector.testing import Emulator
from tests.fsspec.forking import in_child

LARGE = os.urandom(150_000)


def an_appendable(client: OssClient, uri: str) -> bytes:
    client.append(uri, b"before", options=WriteOptions(metadata={"a": "1"}))
    return b"before"


def a_small_one(client: OssClient, uri: str) -> bytes:
    client.put(uri, b"before", options=WriteOptions(metadata={"a": "1"}))
    return b"before"


def a_large_one(client: OssClient, uri: str) -> bytes:
    client.put(uri, LARGE, options=WriteOptions(metadata={"a": "1"}, content_type="text/plain"))
    return LARGE


def nothing(_client: OssClient, _uri: str) -> bytes:
    return b""


KINDS = [an_appendable, a_small_one, a_large_one, nothing]


def unfinished(client: OssClient, bucket: str) -> list[Any]:
    return list(find_unfinished(client, f"oss://{bucket}/"))


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_come_after_those_before(
    files: FsspecFileSystem, client: OssClient, bucket: str, kind: Callable[[OssClient, str], bytes]
) -> None:
    path, uri = f"{bucket}/log", f"oss://{bucket}/log"
    before = kind(client, uri)
    with files.open(path, "ab") as file:
        assert file.tell() == len(before)
        file.write(b"one")
        assert file.tell() == len(before) + 3
        if before:
            assert client.get(uri) == before
        file.write(b"two")
    assert client.get(uri) == before + b"onetwo"
    if before:
        assert client.stat(uri).metadata == {"a": "1"}
    with files.open(path, "at") as text:
        text.write("three")
    assert client.get(uri) == before + b"onetwothree"
    with files.open(path, "ab"):
        pass
    assert client.get(uri) == before + b"onetwothree"
    assert unfinished(client, bucket) == []


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_appended_by_what_fails(
    files: FsspecFileSystem, client: OssClient, bucket: str, kind: Callable[[OssClient, str], bytes]
) -> None:
    path, uri = f"{bucket}/log", f"oss://{bucket}/log"
    before = kind(client, uri)

    def raising() -> None:
        with files.open(path, "ab") as file:
            file.write(b"part")
            raise ZeroDivisionError

    def closed_while_handling() -> None:
        file = files.open(path, "ab")
        try:
            int("x")
        except ValueError:
            with pytest.warns(RuntimeWarning, match="ValueError was being"):
                file.close()

    def lost() -> None:
        file = files.open(path, "ab")
        file.write(b"part")
        with pytest.warns(ResourceWarning, match="nothing is published"):
            del file
        gc.collect()

    def discarded() -> None:
        file = files.open(path, "ab", autocommit=False)
        file.write(b"part")
        file.close()
        file.discard()

    def abandoned() -> None:
        with files.transaction:
            with files.open(path, "ab") as file:
                file.write(b"part")
            raise ZeroDivisionError

    ends = (raising, True), (closed_while_handling, False), (lost, False), (discarded, False), (abandoned, True)
    for end, raises in ends:
        if raises:
            with pytest.raises(ZeroDivisionError):
                end()
        else:
            end()
        assert files.exists(path) == bool(before)
        assert unfinished(client, bucket) == []
    assert not before or client.get(uri) == before


@pytest.mark.parametrize("kind", KINDS)
def test_a_transaction_appends_at_its_end(
    files: FsspecFileSystem, client: OssClient, bucket: str, kind: Callable[[OssClient, str], bytes]
) -> None:
    path, uri = f"{bucket}/log", f"oss://{bucket}/log"
    before = kind(client, uri)
    with files.transaction:
        with files.open(path, "ab") as file:
            file.write(b"new")
        assert files.exists(path) == bool(before)
    assert client.get(uri) == before + b"new"
    file = files.open(path, "ab", autocommit=False)
    file.write(b"er")
    file.close()
    file.commit()
    files.end_transaction()
    assert client.get(uri) == before + b"newer"


def test_a_file_that_is_appended_to_is_neither_read_nor_moved_in(
    files: FsspecFileSystem, client: OssClient, bucket: str
) -> None:
    an_appendable(client, f"oss://{bucket}/log")
    with files.open(f"{bucket}/log", "ab") as file:
        assert (file.readable(), file.seekable(), file.writable(), file.mode) == (False, False, True, "ab")
        for call in (lambda: file.seek(0), file.truncate):
            with pytest.raises(io.UnsupportedOperation):
                call()
        file.write(b"!")
    assert client.get(f"oss://{bucket}/log") == b"before!"
    with files.open(f"{bucket}/log", "ab", seekable=True) as file:
        file.seek(0)
        file.write(b"B")
    assert client.get(f"oss://{bucket}/log") == b"Before!"


def test_a_fork_neither_appends_nor_aborts(files: FsspecFileSystem, client: OssClient, bucket: str) -> None:
    for kind in (an_appendable, a_large_one):
        uri = f"oss://{bucket}/{kind.__name__}"
        before = kind(client, uri)
        file = files.open(uri, "ab")
        file.write(b"new")
        assert "process" in in_child(file.publish)
        assert "process" in in_child(file.close)
        file.close()
        assert client.get(uri) == before + b"new"


def test_two_files_append_to_one_object(files: FsspecFileSystem, client: OssClient, bucket: str) -> None:
    first, second = (files.open(f"{bucket}/log", "ab") for _ in range(2))
    second.write(b"second")
    first.write(b"first")
    second.close()
    first.close()
    assert client.get(f"oss://{bucket}/log") == b"secondfirst"


def test_the_bytes_before_stay_in_the_service() -> None:
    with Emulator(buckets=["bucket"]) as emulator:
        client = emulator.client()
        client.put("oss://bucket/log", LARGE)
        files = fsspec.filesystem("oss", client=client)
        emulator.clear_requests()
        with files.open("bucket/log", "ab") as file:
            file.write(b"new")
        assert "GetObject" not in {request.operation for request in emulator.requests()}
        assert client.get("oss://bucket/log") == LARGE + b"new"
        emulator.fault(operation="CompleteMultipartUpload", error="AccessDenied")
        with pytest.raises(OssPermissionError), files.open("bucket/log", "ab") as file:
            file.write(b"newer")
        assert client.get("oss://bucket/log") == LARGE + b"new"
        assert unfinished(client, "bucket") == []


def test_what_cannot_be_read_is_not_appended_to(files: FsspecFileSystem, client: OssClient, bucket: str) -> None:
    for key, content in (("small", b"old"), ("large", LARGE)):
        uri = f"oss://{bucket}/{key}"
        client.put(uri, content, options=WriteOptions(storage_class="ColdArchive"))
        with pytest.raises(OssError, match="restore"):
            files.open(uri, "ab")
        assert client.stat(uri).size == len(content)
    assert unfinished(client, bucket) == []


def test_a_new_object_of_a_cold_class_is_written_as_a_whole(emulator: Emulator, bucket: str) -> None:
    cold = OssConfig(
        access_key_id=emulator.access_key_id,
        access_key_secret=emulator.access_key_secret,
        write_options=WriteOptions(storage_class="ColdArchive"),
    )
    client = OssClient(emulator.endpoint, region=emulator.region, config=cold)
    files = fsspec.filesystem("oss", client=client)
    with files.open(f"{bucket}/cold", "ab") as file:
        file.write(b"new")
    assert client.stat(f"oss://{bucket}/cold").storage_class == "ColdArchive"


@pytest.mark.parametrize("kind", [a_small_one, a_large_one])
def test_what_others_wrote_meanwhile_is_not_lost(
    files: FsspecFileSystem, client: OssClient, bucket: str, kind: Callable[[OssClient, str], bytes]
) -> None:
    uri = f"oss://{bucket}/log"
    before = kind(client, uri)
    first, second = (files.open(f"{bucket}/log", "ab") for _ in range(2))
    first.write(b"first")
    second.write(b"second")
    first.close()
    with pytest.raises(OssIntegrityError, match="was replaced while it was being appended to"):
        second.close()
    assert client.get(uri) == before + b"first"
    assert unfinished(client, bucket) == []


def test_bytes_whose_answer_was_lost_are_not_appended_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    with Emulator(buckets=["bucket"]) as emulator:
        client = emulator.client()
        client.append("oss://bucket/log", b"before")
        files = fsspec.filesystem("oss", client=client)
        end = AppendableEnd(client, "oss://bucket/log", None)
        appended = client.append

        def lost(uri: str, piece: bytes, **options: Any) -> int:
            appended(uri, piece, **options)
            appended(uri, b"others")
            raise OssError("it has another size", code="PositionNotEqualToLength", attempts=2)

        monkeypatch.setattr(client, "append", lost)
        with pytest.raises(OssError, match="another size"):
            end.add(iter([b"ours"]))
        assert files.cat("bucket/log") == b"beforeoursothers"
