"""fsspec's own file systems above ``oss://``: caches on the disk, archives, and callers that await."""

import asyncio
import io
import time
import zipfile
from pathlib import Path
from typing import Any

import fsspec
import pytest

from osstorchconnector import OssClient, OssConfigError, OssNotFoundError
from osstorchconnector.fsspec import FsspecFileSystem
from osstorchconnector.testing import Emulator


# fsspec's blockcache leaves closing its file to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("kind", ["filecache", "blockcache", "simplecache"])
def test_a_cache_on_the_disk_notices_that_an_object_was_replaced(
    client: OssClient, bucket: str, tmp_path: Path, kind: str
) -> None:
    uri = f"oss://{bucket}/object"
    options: dict[str, Any] = {"cache_storage": str(tmp_path / "cache")}
    if kind != "simplecache":
        options["check_files"] = True

    def read() -> bytes:
        with fsspec.open(f"{kind}::{uri}", **{kind: options}) as file:
            content: bytes = file.read()
            return content

    old = bytes(range(256)) * 40_000
    client.put(uri, old)
    assert read() == read() == old
    new = old[::-1]
    client.put(uri, new)
    # This one never looks again, and says so in its documentation.
    assert read() == (old if kind == "simplecache" else new)


def test_a_cache_that_fsspec_does_not_have_is_named(client: OssClient, bucket: str) -> None:
    uri = f"oss://{bucket}/object"
    client.put(uri, b"content")
    for options, given in (({}, {"cache_type": "wrong"}), ({"default_cache_type": "wrong"}, {})):
        files = fsspec.filesystem("oss", client=client, **options)
        with pytest.raises(
            OssConfigError, match=f"{uri} cannot be opened: fsspec has no cache 'wrong', only .*readahead"
        ):
            files.open(uri, **given)
    for cache in ("none", "readahead", "bytes", "all"):
        with files.open(uri, cache_type=cache) as file:
            assert file.read() == b"content"


def test_an_archive_is_read_by_its_url(client: OssClient, bucket: str) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("inside.txt", "text")
    client.put(f"oss://{bucket}/archive.zip", content.getvalue())
    with fsspec.open(f"zip://inside.txt::oss://{bucket}/archive.zip") as file:
        assert file.read() == b"text"


@pytest.mark.parametrize("compression", ["gzip", "bz2", "xz"])
def test_compressed_files_are_written_read_and_appended_to(
    files: FsspecFileSystem, bucket: str, compression: str
) -> None:
    path = f"{bucket}/object"
    for mode, text in (("xt", "one"), ("at", "two")):
        with files.open(path, mode, compression=compression) as file:
            file.write(text)
    with files.open(path, "rt", compression=compression) as file:
        assert file.read() == "onetwo"


def test_callers_that_await_are_served(bucket: str) -> None:
    paths = [f"{bucket}/{number}" for number in range(8)]

    async def run() -> None:
        files = fsspec.filesystem("oss", asynchronous=True)
        assert files.async_impl
        await asyncio.gather(*(files._pipe_file(path, path.encode()) for path in paths))
        assert await asyncio.gather(*(files._cat_file(path) for path in paths)) == [path.encode() for path in paths]
        assert await files._cat_file(paths[0], 0, 4) == paths[0].encode()[:4]
        assert sorted(await files._find(bucket)) == paths
        assert (await files._info(paths[0]))["ETag"]
        assert await files._cat_ranges(paths[:2], [0, 1], [2, 3]) == [paths[0][:2].encode(), paths[1][1:3].encode()]
        with pytest.raises(OssNotFoundError):
            await files._cat_file(f"{bucket}/absent")
        assert [found async for found in files._walk(bucket)] == [(bucket, [], list("01234567"))]
        await files._rm_file(paths[0])
        assert not await files._exists(paths[0])

    asyncio.run(run())
    assert fsspec.filesystem("oss", asynchronous=False) is fsspec.filesystem("oss")


def test_many_calls_are_awaited_at_once() -> None:
    count, delay = 48, 0.1
    with Emulator(buckets=["bucket"]) as emulator:
        client = emulator.client()
        for number in range(count):
            client.put(f"oss://bucket/{number}", b"x")
        emulator.fault(operation="GetObject", delay=delay)

        async def run() -> float:
            files = fsspec.filesystem("oss", client=client, asynchronous=True)
            start = time.perf_counter()
            assert set(await asyncio.gather(*(files._cat_file(f"bucket/{n}") for n in range(count)))) == {b"x"}
            return time.perf_counter() - start

        assert asyncio.run(run()) < count * delay / 6
