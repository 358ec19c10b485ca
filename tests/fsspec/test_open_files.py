"""What programs written for ``ossfs`` do with a file system and with its files."""

import io
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import fsspec
import pytest

from osstorchconnector import OssClient, OssNotFoundError
from osstorchconnector.fsspec import FsspecFileSystem

NUMBERS = b"1234567890\n"
WAYS: list[dict[str, Any]] = [{}, {"block_size": 3}, {"cache_type": "none"}, {"cache_type": "bytes"}]


@pytest.fixture
def opened(files: FsspecFileSystem, client: OssClient, bucket: str) -> Callable[..., Any]:
    client.put(f"oss://{bucket}/numbers", NUMBERS)
    client.put(f"oss://{bucket}/lines", b"abc\n123")
    return lambda name, **way: files.open(f"{bucket}/{name}", **way)


@pytest.mark.parametrize("way", WAYS)
def test_a_file_can_seek(opened: Callable[..., Any], way: dict[str, Any]) -> None:
    with opened("numbers", **way) as file:
        file.seek(1000)
        assert file.read(1) == b""
        for offset, whence in ((-1, 0), (0, 10)):
            with pytest.raises(ValueError, match=r"[sS]eek|whence"):
                file.seek(offset, whence)
        assert file.seek(0) == 0
        assert file.read(1) == b"1"
        assert file.seek(-1, 2) == len(NUMBERS) - 1
        assert file.read(1) == b"\n"
        file.seek(-2, 1)
        assert file.read(1) == b"0"
        assert [file.seek(place) for place in range(4)] == [0, 1, 2, 3]
        assert (file.tell(), file.readable(), file.writable(), file.seekable()) == (3, True, False, True)
        buffer = bytearray(5)
        assert file.readinto(buffer) == 5
        assert buffer == NUMBERS[3:8]
        assert getattr(file, "size", None) == len(NUMBERS)
    with pytest.raises(ValueError, match="closed"):
        file.read()


@pytest.mark.parametrize("way", WAYS)
def test_a_file_is_read_piece_by_piece_and_line_by_line(opened: Callable[..., Any], way: dict[str, Any]) -> None:
    with opened("numbers", **way) as file:
        assert b"".join(iter(lambda: file.read(4), b"")) == NUMBERS
    with opened("lines", **way) as file:
        assert next(file) == b"abc\n"
        assert list(file) == [b"123"]
        file.seek(1)
        assert file.readline() == b"bc\n"
        file.seek(0)
        assert file.readlines() == [b"abc\n", b"123"]
        assert file.readline() == b""
    with io.TextIOWrapper(opened("lines", **way), encoding="utf-8") as text:
        assert text.read() == "abc\n123"
    with opened("lines", mode="r", encoding="ascii", newline="", **way) as text:
        assert text.readlines() == ["abc\n", "123"]


def test_parts_of_a_file(files: FsspecFileSystem, opened: Callable[..., Any], bucket: str) -> None:
    opened("lines").close()
    path = f"{bucket}/lines"
    assert (files.head(path, 2), files.tail(path, 3), files.tail(path, 1000)) == (b"ab", b"123", b"abc\n123")
    assert files.read_block(path, 0, 2, b"\n") == b"abc\n"
    assert files.read_block(path, 1, 2, b"\n") == b""
    assert files.read_block(path, 2, 100) == b"c\n123"
    assert files.read_block(path, 5, None) == b"23"
    assert files.read_text(path) == "abc\n123"
    files.write_text(f"{bucket}/text", "äöü", encoding="latin-1")
    assert files.cat(f"{bucket}/text") == "äöü".encode("latin-1")


@pytest.mark.parametrize("size", [0, 1000, 20_000_000])
def test_a_file_is_written_at_once_and_in_pieces(
    files: FsspecFileSystem, client: OssClient, bucket: str, size: int
) -> None:
    content = os.urandom(size)
    path = f"{bucket}/written"
    with files.open(path, "wb") as file:
        assert (file.readable(), file.writable(), file.seekable()) == (False, True, False)
        file.write(content)
    assert client.get(f"oss://{path}") == content
    with files.open(path, "wb", block_size=1 << 20) as file:
        for start in range(0, size, 3_000_000):
            file.write(content[start : start + 3_000_000])
    assert client.get(f"oss://{path}") == content
    assert files.size(path) == size
    with pytest.raises(ValueError, match="closed"):
        file.write(b"more")
    with files.open(path, "wb") as file, pytest.raises(io.UnsupportedOperation):
        file.read()


def test_what_is_missing_is_no_file(files: FsspecFileSystem, bucket: str) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: files.open(f"{bucket}/none"),
        lambda: files.open("no-such-bucket-here/none"),
        lambda: files.open("no-such-bucket-here/none", "wb").close(),
        lambda: files.mv(f"{bucket}/x", f"{bucket}/y"),
        lambda: files.cp(f"{bucket}/x", f"{bucket}/y"),
        lambda: files.modified(f"{bucket}/x"),
        lambda: files.ukey(f"{bucket}/x"),
        lambda: files.cat(f"{bucket}/x"),
        lambda: files.rm("no-such-bucket-here/x"),
    ]
    for call in calls:
        with pytest.raises(OssNotFoundError):
            call()
    assert not files.exists(f"{bucket}/y")


def test_names_that_only_begin_alike(files: FsspecFileSystem, client: OssClient, bucket: str) -> None:
    for name in ("prefixes/test_1", "prefixes/test_10", "prefixes/test_2", "prefixes2", "very/prefix3/x"):
        client.put(f"oss://{bucket}/{name}", b"")
    assert len(files.find(f"{bucket}/prefixes")) == 3
    assert len(files.find(bucket, prefix="prefixes")) == 4
    assert files.find(f"{bucket}/prefixes/test_") == []
    assert files.find(f"{bucket}/prefixes/test_1") == [f"{bucket}/prefixes/test_1"]
    assert files.find(f"{bucket}/prefixes/", prefix="test_1") == [f"{bucket}/prefixes/test_{n}" for n in (1, 10)]
    assert [files.exists(f"{bucket}/very/{name}") for name in ("prefix", "prefix3", "prefix3/", "prefix3/so")] == [
        False,
        True,
        True,
        False,
    ]
    assert files.exists(f"/{bucket}/prefixes2")
    assert files.ls(f"/{bucket}/very/", detail=False) == [f"{bucket}/very/prefix3"]


def test_the_instance_made_last_is_the_current_one(files: FsspecFileSystem) -> None:
    assert FsspecFileSystem.current() is files
    other = fsspec.filesystem("oss", read_timeout=33)
    assert FsspecFileSystem.current() is other


def test_many_threads_share_an_instance(client: OssClient, bucket: str) -> None:
    client.put(f"oss://{bucket}/numbers", NUMBERS)

    def use(_: int) -> bytes:
        files = fsspec.filesystem("oss")
        assert files.ls(bucket, detail=False) == [f"{bucket}/numbers"]
        content: bytes = files.cat_file(f"{bucket}/numbers")
        return content

    with ThreadPoolExecutor(20) as pool:
        assert set(pool.map(use, range(40))) == {NUMBERS}
