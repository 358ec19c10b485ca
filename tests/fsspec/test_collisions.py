"""Names that meet at their target: nothing is lost, and nothing is half done."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest

from osstorchconnector import OssClient, OssConfigError
from osstorchconnector.fsspec import FsspecFileSystem
from osstorchconnector.testing import Emulator


@pytest.fixture
def fill(client: OssClient, bucket: str) -> Callable[..., str]:
    def filled(*keys: str) -> str:
        for key in keys:
            client.put(f"oss://{bucket}/{key}", f"bytes of {key}".encode())
        return bucket

    return filled


def stored(client: OssClient, bucket: str) -> dict[str, bytes]:
    return {item.name: item.read() for item in client.list(f"oss://{bucket}/")}


@pytest.mark.parametrize("method", ["cp", "mv"])
@pytest.mark.parametrize(
    ("sources", "targets"),
    [
        (["x/a", "y/a"], "z/"),
        (["x/a", "y/a"], ["z", "z"]),
        (["x/a", "y/a"], ["y/a", "x/a"]),
        (["x/a", "y/a"], ["y/a", "z"]),
        (["x/", "y/"], "z/"),
    ],
)
def test_two_objects_never_become_one(
    files: FsspecFileSystem, client: OssClient, fill: Callable[..., str], method: str, sources: list[str], targets: Any
) -> None:
    bucket = fill("x/a", "y/a")
    before = stored(client, bucket)
    to = f"{bucket}/{targets}" if isinstance(targets, str) else [f"{bucket}/{one}" for one in targets]
    with pytest.raises(OssConfigError, match=r"would both become|would replace"):
        getattr(files, method)([f"{bucket}/{one}" for one in sources], to, recursive=sources[0].endswith("/"))
    assert stored(client, bucket) == before


def test_what_lies_below_the_target_is_not_replaced_before_it_moves(
    files: FsspecFileSystem, client: OssClient, fill: Callable[..., str]
) -> None:
    bucket = fill("d/a", "d/e/a")
    with pytest.raises(OssConfigError, match="would replace"):
        files.mv([f"{bucket}/d/a", f"{bucket}/d/e/a"], [f"{bucket}/d/e/a", f"{bucket}/d/e/e/a"])
    files.mv(f"{bucket}/d", f"{bucket}/d/e", recursive=True)
    assert set(stored(client, bucket).values()) == {b"bytes of d/a", b"bytes of d/e/a"}


@pytest.mark.parametrize(
    ("keys", "paths", "target"),
    [
        (("x/a", "y/a"), ["x/a", "y/a"], "out/"),
        (("x/a", "y/a"), ["x", "y"], "out/"),
        (("x/a", "x//a"), "x", "out"),
    ],
)
def test_two_objects_never_become_one_file(
    files: FsspecFileSystem, fill: Callable[..., str], tmp_path: Path, keys: tuple[str, ...], paths: Any, target: str
) -> None:
    bucket = fill(*keys)
    sources = f"{bucket}/{paths}" if isinstance(paths, str) else [f"{bucket}/{one}" for one in paths]
    with pytest.raises(OssConfigError, match="would both become"):
        files.get(sources, f"{tmp_path}/{target}", recursive=True)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_two_files_never_become_one_object(files: FsspecFileSystem, bucket: str, tmp_path: Path) -> None:
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a").write_text(name)
    with pytest.raises(OssConfigError, match="would both become"):
        files.put([str(tmp_path / "x" / "a"), str(tmp_path / "y" / "a")], f"{bucket}/z/")
    assert files.find(bucket) == []


def test_a_pipe_below_a_directory_is_refused(files: FsspecFileSystem, bucket: str, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "a").write_text("a")
    os.mkfifo(tmp_path / "run" / "pipe")
    with pytest.raises(OssConfigError, match="pipe is neither a file nor a directory"):
        files.put(str(tmp_path / "run"), f"{bucket}/run", recursive=True)
    assert files.find(bucket) == []


def test_an_object_with_the_name_of_a_directory_is_not_left_out(
    files: FsspecFileSystem, client: OssClient, fill: Callable[..., str], tmp_path: Path
) -> None:
    bucket = fill("q", "q/r", "q/")
    assert files.expand_path(f"{bucket}/q", recursive=True) == [f"{bucket}/q", f"{bucket}/q/r"]
    assert set(files.cat(f"{bucket}/q", recursive=True)) == {f"{bucket}/q", f"{bucket}/q/r"}
    with pytest.raises(OssConfigError, match="is an object, and"):
        files.get(f"{bucket}/q", str(tmp_path / "out"), recursive=True)
    # With a slash, it is the directory alone.
    files.get(f"{bucket}/q/", f"{tmp_path}/out/", recursive=True)
    assert (tmp_path / "out" / "r").read_bytes() == b"bytes of q/r"
    files.cp(f"{bucket}/q", f"{bucket}/copy", recursive=True)
    files.mv(f"{bucket}/q", f"{bucket}/moved", recursive=True)
    assert stored(client, bucket) == {
        "copy": b"bytes of q",
        "copy/": b"bytes of q/",
        "copy/r": b"bytes of q/r",
        "moved": b"bytes of q",
        "moved/": b"bytes of q/",
        "moved/r": b"bytes of q/r",
    }


def test_a_slash_at_the_end_keeps_the_object_that_has_the_name_of_a_deleted_directory(
    files: FsspecFileSystem, client: OssClient, fill: Callable[..., str]
) -> None:
    bucket = fill("q", "q/", "q/r")
    files.rm(f"{bucket}/q/", recursive=True)
    assert stored(client, bucket) == {"q": b"bytes of q"}
    # There is no directory, so it is the object.
    files.rm(f"{bucket}/q/", recursive=True)
    assert stored(client, bucket) == {}
    fill("q", "q/r")
    files.rm([f"{bucket}/q"], recursive=True)
    assert stored(client, bucket) == {}


def test_a_program_that_may_read_only_below_a_directory_reads_there(tmp_path: Path) -> None:
    with Emulator(buckets=["bucket"]) as emulator:
        client = emulator.client()
        client.put("oss://bucket/q/r", b"r")
        for operation in ("HeadObject", "GetObjectMeta", "GetObject"):
            emulator.fault(operation=operation, key="q", error="AccessDenied")
        files = fsspec.filesystem("oss", client=client)
        files.get("bucket/q", str(tmp_path / "out"), recursive=True)
        assert (tmp_path / "out" / "r").read_bytes() == b"r"


def test_what_marks_a_directory_is_copied_and_moved_with_its_bytes(
    files: FsspecFileSystem, client: OssClient, fill: Callable[..., str]
) -> None:
    bucket = fill("d/", "d/empty/", "d/x")
    before = stored(client, bucket)
    files.cp(f"{bucket}/d", f"{bucket}/c", recursive=True)
    copied = {"c/": b"bytes of d/", "c/empty/": b"bytes of d/empty/", "c/x": b"bytes of d/x"}
    assert stored(client, bucket) == copied | before
    files.rm(f"{bucket}/c", recursive=True)
    files.mv(f"{bucket}/d", f"{bucket}/m", recursive=True)
    assert stored(client, bucket) == {"m/": b"bytes of d/", "m/empty/": b"bytes of d/empty/", "m/x": b"bytes of d/x"}
    # A list without recursive moves no directory.
    fill("d/", "f")
    files.mv([f"{bucket}/[df]"], f"{bucket}/to/")
    assert {"to/f", "d/"} <= stored(client, bucket).keys()


def test_cached_listings_below_a_deleted_directory_are_forgotten(fill: Callable[..., str]) -> None:
    bucket = fill("d/x/a", "d/y")
    files = fsspec.filesystem("oss", use_listings_cache=True)
    for name in ("d/x", "d", ""):
        files.ls(f"{bucket}/{name}")
    files.rm(f"{bucket}/d", recursive=True)
    for name in ("d/x", "d"):
        with pytest.raises(FileNotFoundError):
            files.ls(f"{bucket}/{name}")
    files.mkdir("another-bucket")
    assert "another-bucket" in files.ls("", detail=False)
    files.rmdir("another-bucket")
    assert "another-bucket" not in files.ls("", detail=False)


def test_threads_that_list_at_the_same_time_forget_a_written_file_once(fill: Callable[..., str]) -> None:
    bucket = fill("d/x")
    files = fsspec.filesystem("oss", use_listings_cache=True)

    class Written:
        aborted = False

        @property
        def etag(self) -> str:
            # Another thread comes first.
            files._being_written.clear()
            return "etag"

    files.ls(f"{bucket}/d")
    files._being_written.append((f"{bucket}/d", Written()))
    fill("d/y")
    assert files.ls(f"{bucket}/d", detail=False) == [f"{bucket}/d/x", f"{bucket}/d/y"]
    assert files._being_written == []
