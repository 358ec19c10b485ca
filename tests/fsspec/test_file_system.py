"""``oss://`` in fsspec: names, descriptions, bytes, and what changes them."""

import io
import os
import time
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.callbacks import Callback

from osstorchconnector import (
    OssClient,
    OssConfigError,
    OssError,
    OssExistsError,
    OssIntegrityError,
    OssNotFoundError,
    OssPermissionError,
    WriteOptions,
)
from osstorchconnector.connection.unfinished_uploads import find_unfinished
from osstorchconnector.fsspec import FsspecFileSystem
from osstorchconnector.testing import Emulator

KEYS = ["a", "run/b", "run/deep/c", "run/deep/d", "run/other/", "z.txt"]


@pytest.fixture
def filled(client: OssClient, bucket: str) -> str:
    for key in KEYS:
        client.put(f"oss://{bucket}/{key}", b"" if key.endswith("/") else f"content of {key}".encode())
    return bucket


def test_directories_are_listed(files: FsspecFileSystem, filled: str) -> None:
    system, path = fsspec.core.url_to_fs(f"oss://{filled}/run")
    assert system is files
    assert path == f"{filled}/run"
    assert files.ls(path, detail=False) == [f"{filled}/run/{name}" for name in ("b", "deep", "other")]
    assert files.ls(filled, detail=False) == [f"{filled}/{name}" for name in ("a", "run", "z.txt")]
    assert files.ls(f"{path}/b", detail=False) == [f"{filled}/run/b"]
    assert files.ls(f"{path}/other") == []
    with pytest.raises(FileNotFoundError):
        files.ls(f"{filled}/absent")
    with pytest.raises(FileNotFoundError):
        files.ls("no-such-bucket-here")


def test_the_root_has_the_buckets(files: FsspecFileSystem, bucket: str) -> None:
    for root in ("oss://", "", "/"):
        assert {"name": bucket, "size": 0, "type": "directory"} in files.ls(root)
    assert files.info("oss://")["type"] == files.info(bucket)["type"] == "directory"
    assert bucket in files.find("oss://", maxdepth=1, withdirs=True)
    assert files.isdir("")
    assert not files.isfile("")


def test_a_description_is_complete_and_that_of_the_listing(
    files: FsspecFileSystem, client: OssClient, bucket: str
) -> None:
    etag = client.put(f"oss://{bucket}/x/object", b"12345", options=WriteOptions(storage_class="IA"))
    info = files.info(f"oss://{bucket}/x/object")
    assert abs(info["mtime"] - time.time()) < 60
    assert info == {
        "name": f"{bucket}/x/object",
        "size": 5,
        "type": "file",
        "ETag": etag,
        "mtime": info["mtime"],
        "LastModified": datetime.fromtimestamp(info["mtime"], UTC),
        "StorageClass": "IA",
        "ObjectType": "Normal",
    }
    assert files.ls(f"{bucket}/x") == [info]
    assert files.find(bucket, detail=True) == {info["name"]: info}
    assert files.find(bucket, detail=True, maxdepth=2) == {info["name"]: info}
    assert files.find(info["name"], detail=True) == {info["name"]: info}
    assert files.modified(info["name"]) == files.created(info["name"]) == info["LastModified"]
    assert (files.size(info["name"]), files.sizes([info["name"]] * 2)) == (5, [5, 5])
    client.append(f"oss://{bucket}/log", b"1")
    with pytest.raises(NotImplementedError, match="appendable"):
        files.created(f"{bucket}/log")


def test_what_a_path_is(files: FsspecFileSystem, filled: str) -> None:
    names = ("a", "run", "run/deep", "run/other", "ru", "b", "run/deep/c")
    assert [files.exists(f"{filled}/{name}") for name in names] == [True, True, True, True, False, False, True]
    assert [files.isdir(f"{filled}/{name}") for name in names] == [False, True, True, True, False, False, False]
    assert [files.isfile(f"{filled}/{name}") for name in names] == [True, False, False, False, False, False, True]
    assert [call("no-such-bucket-here") for call in (files.exists, files.isdir, files.isfile)] == [False] * 3
    assert files.lexists(f"oss://{filled}/a")


def test_an_object_and_a_directory_of_one_name(files: FsspecFileSystem, client: OssClient, bucket: str) -> None:
    client.put(f"oss://{bucket}/run", b"file")
    client.put(f"oss://{bucket}/run/b", b"below")
    path = f"{bucket}/run"
    assert files.info(path)["size"] == 4
    assert (files.isfile(path), files.isdir(path)) == (True, True)
    assert files.ls(path, detail=False) == [f"{path}/b"]
    assert files.find(bucket) == [path, f"{path}/b"]
    with pytest.raises(OssConfigError, match=r"is an object, and .* lies below it"):
        files.get(bucket, "target", recursive=True)
    assert not Path("target").exists()


def test_files_are_found(files: FsspecFileSystem, filled: str) -> None:
    def named(*names: str) -> list[str]:
        return [f"{filled}/{name}" for name in names]

    assert files.find(filled) == named("a", "run/b", "run/deep/c", "run/deep/d", "z.txt")
    assert files.find(f"{filled}/run", maxdepth=1) == named("run/b")
    assert files.find(f"{filled}/run", maxdepth=1, withdirs=True) == named("run", "run/b", "run/deep", "run/other")
    assert files.find(f"{filled}/run", withdirs=True) == named(
        "run", "run/b", "run/deep", "run/deep/c", "run/deep/d", "run/other"
    )
    assert files.find(f"{filled}/run", prefix="de") == named("run/deep/c", "run/deep/d")
    assert files.find(f"{filled}/absent") == files.find("no-such-bucket-here") == []
    assert files.glob(f"{filled}/run/*/c") == named("run/deep/c")
    assert files.glob(f"{filled}/run/d*") == named("run/deep")
    assert files.glob(f"{filled}/run/**/c") == named("run/deep/c")
    assert files.glob(f"{filled}/*.txt") == named("z.txt")
    assert files.glob(f"{filled}/[az]*") == named("a", "z.txt")
    assert list(files.walk(f"{filled}/run")) == [
        (f"{filled}/run", ["deep", "other"], ["b"]),
        (f"{filled}/run/deep", [], ["c", "d"]),
        (f"{filled}/run/other", [], []),
    ]
    assert files.du(f"{filled}/run") == len("content of run/b") + 2 * len("content of run/deep/c")
    assert files.du(f"{filled}/run", maxdepth=1, total=False) == {f"{filled}/run/b": len("content of run/b")}
    assert files.expand_path(f"{filled}/run/deep/*") == named("run/deep/c", "run/deep/d")


def test_a_directory_above_many_keys_shows_its_names_in_one_page() -> None:
    with Emulator(buckets=["bucket"]) as emulator:
        client = emulator.client()
        for number in range(2100):
            client.put(f"oss://bucket/{number % 3}/{number:04}", b"")
        files = fsspec.filesystem("oss", client=client)

        def pages(call: Callable[[], Any]) -> int:
            emulator.clear_requests()
            call()
            return sum(request.operation == "ListObjectsV2" for request in emulator.requests())

        assert pages(lambda: files.ls("bucket")) == 1
        assert pages(lambda: files.glob("bucket/*")) == 1
        assert pages(lambda: files.glob("bucket/1/000*")) == 1
        assert pages(lambda: files.find("bucket", maxdepth=1)) == 1
        # Whether something is there takes one name, not a thousand.
        emulator.clear_requests()
        assert files.isdir("bucket/1")
        assert files.info("bucket/1")["type"] == "directory"
        assert all(request.response_bytes < 2000 for request in emulator.requests())
        # Several segments at once, which may take some requests more.
        assert 3 <= pages(lambda: files.find("bucket")) <= 6
        assert 3 <= pages(lambda: files.du("bucket")) <= 6
        one_by_one = fsspec.filesystem(
            "oss",
            endpoint=emulator.endpoint,
            region=emulator.region,
            key=emulator.access_key_id,
            secret=emulator.access_key_secret,
            fast_list=False,
        )
        assert pages(lambda: one_by_one.find("bucket")) == 3
        assert one_by_one.find("bucket", detail=True) == files.find("bucket", detail=True)
        assert one_by_one.find("bucket", withdirs=True) == files.find("bucket", withdirs=True)


def test_a_listing_of_everything_has_several_requests_in_flight() -> None:
    with Emulator(buckets=["bucket"]) as emulator:
        client = emulator.client()
        for number in range(9000):
            client.put(f"oss://bucket/{number:05}", b"")
        emulator.fault(operation="ListObjectsV2", delay=0.05)
        emulator.clear_requests()
        assert len(fsspec.filesystem("oss", client=client).find("bucket")) == 9000
        assert emulator.peak_concurrency() >= 3


def test_errors_of_the_service_are_no_missing_file() -> None:
    with Emulator(buckets=["bucket"]) as emulator:
        emulator.client().put("oss://bucket/a", b"")
        emulator.fault(operation="HeadObject", error="AccessDenied")
        emulator.fault(operation="ListObjectsV2", error="AccessDenied")
        files = fsspec.filesystem("oss", client=emulator.client())
        calls: list[Callable[[str], Any]] = [
            files.exists,
            files.isfile,
            files.isdir,
            files.info,
            files.ls,
            files.find,
            files.glob,
            files.du,
            lambda path: list(files.walk(path)),
        ]
        for call in calls:
            with pytest.raises(OssPermissionError):
                call("bucket/a" if call != files.glob else "bucket/a*")


def test_a_replaced_object_has_another_key(files: FsspecFileSystem, client: OssClient, bucket: str) -> None:
    path = f"{bucket}/object"
    client.put(f"oss://{path}", b"one")
    before = files.ukey(path), files.checksum(path)
    assert before == (files.ukey(path), files.checksum(path))
    client.put(f"oss://{path}", b"two")
    after = files.ukey(path), files.checksum(path)
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_listings_are_cached_if_asked_for(client: OssClient, bucket: str) -> None:
    files = fsspec.filesystem("oss", use_listings_cache=True, listings_expiry_time=3600)

    def names() -> list[str]:
        return [name.rpartition("/")[2] for name in files.ls(bucket, detail=False)]

    client.put(f"oss://{bucket}/a", b"")
    assert names() == ["a"]
    client.put(f"oss://{bucket}/b", b"")
    assert names() == ["a"]
    assert len(files.ls(bucket, refresh=True)) == 2
    assert files.exists(f"{bucket}/b")
    # What this file system changes is noticed at once.
    files.pipe_file(f"{bucket}/c", b"")
    assert names() == ["a", "b", "c"]
    with files.open(f"{bucket}/d", "wb") as file:
        assert names() == ["a", "b", "c"]
        file.write(b"")
    assert names() == ["a", "b", "c", "d"]
    files.rm(f"{bucket}/d")
    files.mv(f"{bucket}/c", f"{bucket}/e")
    assert names() == ["a", "b", "e"]
    client.put(f"oss://{bucket}/f", b"")
    files.invalidate_cache()
    assert names() == ["a", "b", "e", "f"]
    with files.transaction:
        files.pipe_file(f"{bucket}/g", b"")
        assert names() == ["a", "b", "e", "f"]
    assert names() == ["a", "b", "e", "f", "g"]


@pytest.mark.parametrize(
    ("start", "end"),
    [(None, None), (2, None), (None, 4), (2, 5), (-3, None), (None, -3), (-5, -2), (8, 100), (20, 30), (5, 5), (6, 2)],
)
def test_ranges_are_those_of_bytes(
    files: FsspecFileSystem, client: OssClient, bucket: str, start: int | None, end: int | None
) -> None:
    content = b"0123456789"
    client.put(f"oss://{bucket}/object", content)
    assert files.cat_file(f"oss://{bucket}/object", start, end) == content[start:end]
    assert files.cat_ranges([f"{bucket}/object"] * 2, start, [end, end]) == [content[start:end]] * 2


def test_many_objects_are_read_at_once(files: FsspecFileSystem, filled: str) -> None:
    contents = {f"{filled}/{key}": f"content of {key}".encode() for key in KEYS if not key.endswith("/")}
    assert files.cat(f"{filled}/a") == contents[f"{filled}/a"]
    assert files.cat([f"{filled}/a"]) == {f"{filled}/a": contents[f"{filled}/a"]}
    assert files.cat(filled, recursive=True) == contents
    assert files.cat(f"oss://{filled}/run/deep/*") == {
        name: content for name, content in contents.items() if "deep" in name
    }
    assert files.cat([f"{filled}/a", f"{filled}/z.txt"], start=0, end=3) == {
        f"{filled}/a": b"con",
        f"{filled}/z.txt": b"con",
    }
    absent = f"{filled}/absent"
    with pytest.raises(OssNotFoundError):
        files.cat([absent, f"{filled}/a"])
    assert list(files.cat([absent, f"{filled}/a"], on_error="omit")) == [f"{filled}/a"]
    returned = files.cat([absent, f"{filled}/a"], on_error="return")
    assert isinstance(returned[absent], OssNotFoundError)
    assert returned[f"{filled}/a"] == contents[f"{filled}/a"]
    ranges = files.cat_ranges([absent, f"{filled}/a", absent], [0, 1, -1], [1, 3, None])
    assert isinstance(ranges[0], OssNotFoundError)
    assert ranges[1] == b"on"
    assert isinstance(ranges[2], OssNotFoundError)
    for start, end in [(0, 1), (0, 0), (5, 2), (-2, -3)]:
        with pytest.raises(OssNotFoundError):
            files.cat_ranges([absent], [start], [end], on_error="raise")
        with pytest.raises(OssNotFoundError):
            files.cat_file(absent, start, end)
    mapper = files.get_mapper(f"{filled}/run")
    assert sorted(mapper) == ["b", "deep/c", "deep/d"]
    assert mapper["deep/c"] == b"content of run/deep/c"


@pytest.mark.parametrize(
    ("options", "block_size", "cache"),
    [
        ({"block_size": 1000}, 1000, "readahead"),
        ({"cache_type": "bytes"}, 5 << 20, "bytes"),
        ({"block_size": 2000, "cache_type": "blockcache", "cache_options": {"maxblocks": 2}}, 2000, "blockcache"),
    ],
)
def test_a_file_is_read_in_blocks_through_a_cache(
    client: OssClient, bucket: str, options: dict[str, Any], block_size: int, cache: str
) -> None:
    content = os.urandom(9_000_000)
    client.put(f"oss://{bucket}/object", content)
    defaults = {f"default_{name}": value for name, value in options.items() if name != "cache_options"}
    for of_system, of_file in (({}, options), (defaults, {})):
        with fsspec.filesystem("oss", **of_system).open(f"{bucket}/object", **of_file) as file:
            assert (file.blocksize, file.cache.name, file.size) == (block_size, cache, len(content))
            assert file.read(5) == content[:5]
            file.seek(7_000_000)
            assert file.read(5000) == content[7_000_000:7_005_000]


def test_blocks_are_of_one_version(files: FsspecFileSystem, client: OssClient, bucket: str) -> None:
    client.put(f"oss://{bucket}/object", bytes(9_000_000))
    with files.open(f"{bucket}/object", block_size=1000) as file:
        file.read(5)
        client.put(f"oss://{bucket}/object", b"other" * 2_000_000)
        file.seek(8_000_000)
        with pytest.raises(OssIntegrityError, match="replaced"):
            file.read(5)


def test_an_object_that_exists_is_not_replaced_by_mode_x(
    files: FsspecFileSystem, client: OssClient, bucket: str
) -> None:
    path = f"{bucket}/exclusive"
    with files.open(path, "xb") as file:
        file.write(b"first")
    with pytest.raises(FileExistsError):
        files.open(path, "xb")
    with pytest.raises(FileExistsError):
        files.pipe_file(path, b"second", mode="create")
    late = files.open(f"{bucket}/late", "xb")
    late.write(b"mine")
    client.put(f"oss://{bucket}/late", b"theirs")
    with pytest.raises(OssExistsError, match="FileAlreadyExists"):
        late.close()
    assert client.get(f"oss://{path}") == b"first"
    assert client.get(f"oss://{bucket}/late") == b"theirs"


def append_and_fail(uri: str) -> None:
    with fsspec.open(uri, "ab") as file:
        file.write(b"three")
        raise ZeroDivisionError


def test_a_file_is_appended_to_as_a_whole(files: FsspecFileSystem, client: OssClient, bucket: str) -> None:
    name, uri = f"{bucket}/log", f"oss://{bucket}/log"
    client.put(uri, b"one", options=WriteOptions(content_type="text/plain", metadata={"a": "1"}, storage_class="IA"))
    with files.open(name, "at") as file:
        file.write("two")
        assert client.get(uri) == b"one"
    assert client.get(uri) == b"onetwo"
    found = client.stat(uri)
    assert (found.content_type, found.metadata, found.storage_class) == ("text/plain", {"a": "1"}, "IA")
    with pytest.raises(ZeroDivisionError):
        append_and_fail(uri)
    assert client.get(uri) == b"onetwo"
    large = bytes(range(256)) * 40_000
    client.put(uri, large)
    with fsspec.open(uri, "ab") as file:
        assert file.tell() == len(large)
        file.write(b"end")
    assert client.get(uri) == large + b"end"


def test_what_cannot_be_read_is_not_appended_to(files: FsspecFileSystem, client: OssClient, bucket: str) -> None:
    uri = f"oss://{bucket}/cold"
    client.put(uri, b"old", options=WriteOptions(storage_class="ColdArchive"))
    with pytest.raises(OssError, match="restore"):
        files.open(f"{bucket}/cold", "ab")
    assert client.stat(uri).size == 3
    assert list(find_unfinished(client, f"oss://{bucket}/")) == []


def test_an_unknown_mode_names_those_there_are(files: FsspecFileSystem, bucket: str) -> None:
    with pytest.raises(OssConfigError, match=r"'r\+b': use one of rb, wb, xb, ab"):
        files.open(f"{bucket}/a", "r+b")


def test_objects_are_copied_and_moved_inside_the_service() -> None:
    with Emulator(buckets=["bucket", "other"]) as emulator:
        client = emulator.client()
        for key in KEYS:
            client.put(f"oss://bucket/{key}", key.encode())
        files = fsspec.filesystem("oss", client=client)
        emulator.clear_requests()
        files.cp("bucket/a", "other/a")
        files.mv("bucket/run", "other/moved", recursive=True)
        files.mv("bucket/z.txt", "bucket/y.txt")
        operations = {request.operation for request in emulator.requests()}
        assert not operations & {"GetObject", "PutObject"}
        assert files.find("other") == ["other/a", "other/moved/b", "other/moved/deep/c", "other/moved/deep/d"]
        assert client.get("oss://other/moved/deep/c") == b"run/deep/c"
        assert files.find("bucket") == ["bucket/a", "bucket/y.txt"]
        assert [item.name for item in client.list("oss://bucket/")] == ["a", "y.txt"]


def test_a_move_by_a_pattern_leaves_other_directories(files: FsspecFileSystem, client: OssClient, bucket: str) -> None:
    for key in ("x1.txt", "x2.txt", "xdir/", "xdir/y"):
        client.put(f"oss://{bucket}/{key}", b"")
    files.mv(f"{bucket}/x*", f"{bucket}/moved/")
    assert [item.name for item in client.list(f"oss://{bucket}/")] == [
        "moved/x1.txt",
        "moved/x2.txt",
        "xdir/",
        "xdir/y",
    ]


def test_a_directory_is_moved_only_as_a_whole(files: FsspecFileSystem, filled: str) -> None:
    with pytest.raises(IsADirectoryError, match="recursive=True to move"):
        files.mv(f"{filled}/run", f"{filled}/new")
    with pytest.raises(FileNotFoundError):
        files.mv(f"{filled}/absent", f"{filled}/new")
    assert not files.exists(f"{filled}/new")
    assert files.exists(f"{filled}/run/deep/c")


def test_objects_are_deleted_by_a_pattern_with_what_is_below_them(files: FsspecFileSystem, filled: str) -> None:
    files.rm(f"{filled}/run/**", recursive=True)
    assert files.find(filled) == [f"{filled}/a", f"{filled}/z.txt"]


def test_a_move_that_fails_deletes_nothing() -> None:
    with Emulator(buckets=["bucket"]) as emulator:
        client = emulator.client()
        for key in ("run/a", "run/b"):
            client.put(f"oss://bucket/{key}", b"")
        emulator.fault(operation="CopyObject", key="new/b", error="AccessDenied")
        files = fsspec.filesystem("oss", client=client)
        with pytest.raises(OssPermissionError):
            files.mv("bucket/run", "bucket/new", recursive=True)
        assert set(files.find("bucket/run")) == {"bucket/run/a", "bucket/run/b"}


def test_objects_are_deleted(files: FsspecFileSystem, client: OssClient, filled: str) -> None:
    with pytest.raises(IsADirectoryError, match="recursive=True"):
        files.rm(f"{filled}/run")
    with pytest.raises(FileNotFoundError):
        files.rm(f"{filled}/absent")
    with pytest.raises(FileNotFoundError):
        files.rm(f"{filled}/absent", recursive=True)
    with pytest.raises(OSError, match="not empty"):
        files.rmdir(f"{filled}/run")
    files.rm([f"{filled}/a", f"{filled}/z.txt"])
    files.rm(f"{filled}/run/deep/*")
    assert [item.name for item in client.list(f"oss://{filled}/")] == ["run/b", "run/other/"]
    files.rmdir(f"{filled}/run/other")
    files.rm(f"{filled}/run", recursive=True)
    assert list(client.list(f"oss://{filled}/")) == []
    files.rm_file(f"{filled}/absent")


def test_buckets_are_made_and_removed(files: FsspecFileSystem, bucket: str) -> None:
    files.makedirs(bucket, exist_ok=True)
    files.makedirs(f"{bucket}/a/b")
    files.mkdir(f"oss://{bucket}/c")
    assert files.ls(bucket) == []
    with pytest.raises(FileExistsError):
        files.mkdir(bucket)
    with pytest.raises(FileExistsError):
        files.makedirs(bucket)
    new = f"{bucket}-new"
    files.mkdir(new)
    assert files.exists(new)
    files.rmdir(new)
    assert not files.exists(new)


class Progress(Callback):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.children: dict[str, Progress] = {}

    def branched(self, path_1: str, _path_2: str, **_: Any) -> "Progress":
        return self.children.setdefault(Path(path_1).name, Progress())


def test_files_go_there_and_back(files: FsspecFileSystem, bucket: str) -> None:
    large = os.urandom(9_000_000)
    Path("tree/deep").mkdir(parents=True)
    Path("tree/small").write_bytes(b"small")
    Path("tree/empty").write_bytes(b"")
    Path("tree/deep/large").write_bytes(large)
    sent, received = Progress(), Progress()
    files.put("tree", f"oss://{bucket}/tree", recursive=True, callback=sent)
    assert files.du(f"{bucket}/tree", total=False) == {
        f"{bucket}/tree/deep/large": len(large),
        f"{bucket}/tree/empty": 0,
        f"{bucket}/tree/small": 5,
    }
    files.get(f"oss://{bucket}/tree", "back", recursive=True, callback=received)
    assert Path("back/deep/large").read_bytes() == large
    assert Path("back/small").read_bytes() == b"small"
    assert Path("back/empty").read_bytes() == b""
    for progress in (sent, received):
        assert progress.size == progress.value
        assert (progress.children["large"].size, progress.children["large"].value) == (len(large), len(large))
        assert (progress.children["small"].size, progress.children["small"].value) == (5, 5)
    target = io.BytesIO()
    files.get_file(f"{bucket}/tree/small", target)
    assert target.getvalue() == b"small"
    files.get([f"{bucket}/tree/small"], ["named"])
    assert Path("named").read_bytes() == b"small"
    with pytest.raises(FileNotFoundError):
        files.get(f"{bucket}/absent", "absent")
    assert not Path("absent").exists()
    with pytest.raises(FileExistsError):
        files.put_file("tree/small", f"{bucket}/tree/small", mode="create")


def test_a_download_that_breaks_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    with Emulator(buckets=["bucket"]) as emulator:
        emulator.client().put("oss://bucket/a", b"x" * 100_000)
        emulator.fault(operation="GetObject", error="AccessDenied")
        files = fsspec.filesystem("oss", client=emulator.client())
        Path("file").write_bytes(b"before")
        with pytest.raises(OssPermissionError):
            files.get("bucket/a", "file")
        assert Path("file").read_bytes() == b"before"
        assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_name_that_leaves_the_directory_is_refused(files: FsspecFileSystem, client: OssClient, bucket: str) -> None:
    client.put(f"oss://{bucket}/run/../up", b"")
    with pytest.raises((OssConfigError, ValueError)):
        files.get(f"{bucket}/run", "down", recursive=True)
    assert not Path("up").exists()


def test_an_object_is_touched(files: FsspecFileSystem, client: OssClient, bucket: str) -> None:
    path = f"{bucket}/object"
    files.touch(path)
    assert client.get(f"oss://{path}") == b""
    files.pipe(path, b"content")
    files.touch(path, truncate=False)
    assert client.get(f"oss://{path}") == b"content"
    files.touch(path)
    assert client.get(f"oss://{path}") == b""
    files.pipe({f"{bucket}/1": b"1", f"oss://{bucket}/2": b"2"})
    assert files.cat(f"{bucket}/[12]") == {f"{bucket}/1": b"1", f"{bucket}/2": b"2"}


def test_a_url_is_signed(files: FsspecFileSystem, client: OssClient, bucket: str) -> None:
    client.put(f"oss://{bucket}/object", b"content")
    url = files.sign(f"{bucket}/object", expiration=60)
    with urllib.request.urlopen(url, timeout=10) as answer:
        assert answer.read() == b"content"
    assert "x-oss-expires=60" in url.lower()


@pytest.mark.parametrize(
    ("path", "message"),
    [("oss:///key", "names no bucket"), ("oss:/bucket/key", "not as a Path"), ("oss://Bucket_/key", "bucket name")],
)
def test_a_path_without_a_bucket_is_refused(files: FsspecFileSystem, path: str, message: str) -> None:
    for call in (files.open, files.info, files.cat_file, files.ls, files.rm, lambda one: files.pipe_file(one, b"")):
        with pytest.raises(OssConfigError, match=message):
            call(path)


def test_a_bucket_alone_is_no_file(files: FsspecFileSystem, bucket: str) -> None:
    for call in (files.open, files.cat_file, lambda one: files.pipe_file(one, b""), files.rm_file):
        with pytest.raises(OssConfigError, match="names only a bucket"):
            call(f"oss://{bucket}")


def test_a_directory_that_was_made_is_one_until_it_is_removed(files: FsspecFileSystem, bucket: str) -> None:
    made = f"oss://{bucket}/logs/version_0"
    assert not files.isdir(made)
    files.makedirs(made)
    assert files.isdir(made)
    assert not files.exists(made)
    files.rmdir(made)
    assert not files.isdir(made)
