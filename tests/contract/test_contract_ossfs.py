"""What ``ossfs`` adds to a client: directories, open files, and files that grow."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from .client import Access
from .ossfs_client import OssfsClient

NAMES = ["a", "b/c", "b/d/e", "b/d/f", "g h/+%"]


@pytest.fixture
def files(access: Access, bucket: str) -> Iterator[OssfsClient]:
    with closing(OssfsClient(access)) as client:
        for name in NAMES:
            client.put(bucket, name, f"content of {name}".encode())
        yield client


def test_directories_are_listed(files: OssfsClient, bucket: str) -> None:
    assert files.files.ls(bucket, detail=False) == [f"{bucket}/{name}" for name in ("a", "b/", "g h/")]
    assert files.files.ls(f"{bucket}/b", detail=False) == [f"{bucket}/b/c", f"{bucket}/b/d/"]
    assert files.files.isdir(f"{bucket}/b/d")
    assert files.files.isfile(f"{bucket}/a")
    assert not files.files.exists(f"{bucket}/missing")


def test_files_are_found(files: OssfsClient, bucket: str) -> None:
    assert files.files.find(bucket) == [f"{bucket}/{name}" for name in NAMES]
    assert files.files.find(f"{bucket}/b", prefix="d/") == [f"{bucket}/b/d/e", f"{bucket}/b/d/f"]
    assert files.files.glob(f"{bucket}/b/*/e") == [f"{bucket}/b/d/e"]
    info = files.files.info(f"{bucket}/b/d/e")
    assert (info["size"], info["type"]) == (len("content of b/d/e"), "file")


def test_an_opened_file_is_read_in_pieces(files: OssfsClient, bucket: str) -> None:
    content = bytes(range(256)) * 1000
    files.put(bucket, "large", content)
    with files.files.open(f"{bucket}/large", block_size=10_000) as file:
        assert file.read(5) == content[:5]
        file.seek(200_000)
        assert file.read(30_000) == content[200_000:230_000]
        file.seek(-7, 2)
        assert file.read() == content[-7:]


def test_a_written_file_grows_by_appending(files: OssfsClient, bucket: str) -> None:
    path = f"{bucket}/log"
    # It miscounts if a file is longer than one of its blocks.
    with files.files.open(path, "wb") as file:
        for word in (b"first ", b"second ", b"third "):
            file.write(word)
    with files.files.open(path, "ab") as file:
        file.write(b"fourth")
    assert files.get(bucket, "log") == b"first second third fourth"
    with files.files.open(path, "wb") as file:
        file.write(b"again")
    assert files.get(bucket, "log") == b"again"


def test_a_directory_is_removed(files: OssfsClient, bucket: str) -> None:
    files.files.rm(f"{bucket}/b", recursive=True)
    assert list(files.list_all(bucket)) == ["a", "g h/+%"]


def test_an_object_that_is_replaced_has_another_checksum(files: OssfsClient, bucket: str) -> None:
    path = f"{bucket}/a"
    before = files.files.ukey(path)
    files.put(bucket, "a", b"other")
    assert files.files.ukey(path) != before
    assert files.files.modified(path) >= files.files.modified(f"{bucket}/b/c")
