"""``oss://`` in fsspec: what finding names costs, in requests and in time."""

import secrets
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import pytest

from osstorchconnector import OssClient, OssPermissionError
from osstorchconnector.fsspec import FsspecFileSystem, finding, listing
from osstorchconnector.testing import Emulator


@pytest.fixture(scope="module")
def server() -> Iterator[Emulator]:
    with Emulator(etag="fast") as emulator:
        yield emulator


@pytest.fixture(scope="module")
def own(server: Emulator) -> OssClient:
    return server.client()


@pytest.fixture
def here(server: Emulator) -> str:
    """A bucket of one test."""
    name = f"test-{secrets.token_hex(8)}"
    server.create_bucket(name)
    return name


@pytest.fixture
def system(own: OssClient) -> FsspecFileSystem:
    made: FsspecFileSystem = fsspec.filesystem("oss", client=own)
    return made


def fill(client: OssClient, bucket: str, keys: list[str]) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: client.put(f"oss://{bucket}/{key}", b"12"), keys))


def counted(server: Emulator, call: Callable[[], object]) -> Counter[str]:
    server.clear_requests()
    call()
    return Counter(str(request.operation) for request in server.requests())


# Directories at the beginning, between files, at the end, and as many as files.
SHAPES = {
    "files": [f"d/{number:05}" for number in range(4500)],
    "a directory in the middle": [f"d/{number:05}{'/x' * (number == 2700)}" for number in range(4500)],
    "a directory at the end": [*(f"d/{number:05}" for number in range(3200)), "d/x/1", "d/x/2"],
    "directories in between": [f"d/{number:05}{'/x' * (number % 1500 == 0)}" for number in range(4500)],
    "a large directory": [*(f"d/{n:05}" for n in range(2000)), *(f"d/02000/{n:04}" for n in range(1500)), "d/z"],
    "directories": [f"d/{number:05}/x" for number in range(2500)],
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("patience", [1, 2])
def test_a_directory_is_listed_whatever_its_shape(
    system: FsspecFileSystem, own: OssClient, here: str, shape: str, patience: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "_FLAT_PAGES", patience)
    keys = SHAPES[shape]
    fill(own, here, ["c/x", *keys, "e"])
    expected = {f"{here}/d/{key.split('/')[1]}": "directory" if key.count("/") > 1 else "file" for key in keys}
    assert {entry["name"]: entry["type"] for entry in system.ls(f"{here}/d")} == expected
    assert system.ls(f"{here}/d", detail=False) == list(expected)
    assert system.find(f"{here}/d", maxdepth=1) == [name for name, kind in expected.items() if kind == "file"]
    assert system.du(f"{here}/d") == 2 * len(keys)


def test_a_long_directory_of_files_is_listed_with_several_requests_in_flight(
    system: FsspecFileSystem, own: OssClient, here: str, server: Emulator
) -> None:
    fill(own, here, [f"d/{number:05}" for number in range(12_000)])
    rule = server.fault(operation="ListObjectsV2", bucket=here, delay=0.05)
    server.clear_requests()
    assert len(system.ls(f"{here}/d")) == 12_000
    assert server.peak_concurrency() >= 3
    rule.remove()


def test_a_pattern_asks_for_no_match_again(
    system: FsspecFileSystem, own: OssClient, here: str, server: Emulator, tmp_path: Path
) -> None:
    fill(own, here, [*(f"d/{number:03}.txt" for number in range(60)), "d/other", "d/deep.txt/x", "d/deep.txt/y/z"])
    pattern = f"{here}/d/*.txt"
    asked = counted(server, lambda: system.get(pattern, f"{tmp_path}/got/"))
    assert asked["GetObject"] == len(list((tmp_path / "got").iterdir())) == 60
    assert asked.total() - asked["GetObject"] <= 3
    asked = counted(server, lambda: system.get(pattern, f"{tmp_path}/all", recursive=True))
    assert (tmp_path / "all" / "deep.txt" / "y" / "z").read_bytes() == b"12"
    assert asked.total() - asked["GetObject"] <= 3
    asked = counted(server, lambda: system.copy(pattern, f"{here}/copied/"))
    assert asked["CopyObject"] == 60
    assert asked.total() - asked["CopyObject"] <= 3
    assert len(system.cat(pattern, recursive=True)) == 62
    system.rm(f"{here}/d/deep.txt", recursive=True)
    asked = counted(server, lambda: system.rm(pattern))
    assert asked.total() <= 3
    assert system.find(f"{here}/d") == [f"{here}/d/other"]


def test_only_directories_that_match_are_listed(
    system: FsspecFileSystem, own: OssClient, here: str, server: Emulator
) -> None:
    runs = range(10)
    keys = [f"run-{run}/{part}/{step}.pt" for run in runs for part in ("ckpt", "ckpt-old", "logs") for step in (1, 2)]
    fill(own, here, [*keys, "run", "other/ckpt/1.pt"])
    found = []
    asked = counted(server, lambda: found.extend(system.glob(f"{here}/run-*/ckpt/*.pt")))
    assert found == [f"{here}/run-{run}/ckpt/{step}.pt" for run in runs for step in (1, 2)]
    assert asked == {"ListObjectsV2": 1 + 10 + 10}
    assert system.glob(f"{here}/run-[12]/*/2.pt") == [
        f"{here}/run-{run}/{part}/2.pt" for run in (1, 2) for part in ("ckpt-old", "ckpt", "logs")
    ]
    assert system.glob(f"{here}/run-?/c*d/", detail=False) == [f"{here}/run-{run}/ckpt-old" for run in runs]
    assert system.glob(f"{here}/*/logs/3.pt") == []
    assert len(system.glob("oss://test-*/run-1/logs/1.pt")) >= 1


def test_a_walk_has_several_requests_in_flight_and_leaves_out_what_the_caller_removes(
    system: FsspecFileSystem, own: OssClient, here: str, server: Emulator
) -> None:
    fill(own, here, [f"{top}/{number:02}/x" for top in ("a", "b") for number in range(32)])
    tops: list[Any] = [(f"{here}/{top}", [f"{n:02}" for n in range(32)], []) for top in ("a", "b")]
    below: list[list[Any]] = [[(f"{here}/{top}/{n:02}", [], ["x"]) for n in range(32)] for top in ("a", "b")]
    whole: list[Any] = [(here, ["a", "b"], []), tops[0], *below[0], tops[1], *below[1]]
    rule = server.fault(operation="ListObjectsV2", bucket=here, delay=0.05)
    server.clear_requests()
    assert list(system.walk(here)) == whole
    assert server.peak_concurrency() >= 8
    rule.remove()
    assert list(system.walk(here, topdown=False)) == [*below[0], tops[0], *below[1], tops[1], whole[0]]
    assert list(system.walk(here, maxdepth=2)) == [whole[0], *tops]

    def pruned() -> None:
        seen = []
        for path, directories, _ in system.walk(here):
            seen.append(path)
            if path == here:
                directories.remove("a")
            elif path.endswith("/b"):
                del directories[1:]
        assert seen == [here, f"{here}/b", f"{here}/b/00"]

    assert counted(server, pruned) == {"ListObjectsV2": 3}
    described = next(system.walk(f"{here}/a/00", detail=True))
    assert described[2]["x"]["size"] == 2


def test_errors_below_a_walk_are_those_that_the_caller_wants(
    system: FsspecFileSystem, own: OssClient, here: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(own, here, ["a/x", "b/x", "c/x"])
    listed = FsspecFileSystem.ls

    def refusing(self: FsspecFileSystem, path: str, **options: Any) -> Any:
        if path.endswith("/b"):
            raise OssPermissionError("refused")
        return listed(self, path, **options)

    monkeypatch.setattr(FsspecFileSystem, "ls", refusing)
    for how in ("omit", "raise"):
        with pytest.raises(OssPermissionError):
            list(system.walk(here, on_error=how))
    errors: list[OSError] = []
    assert [path for path, _, _ in system.walk(here, on_error=errors.append)] == [here, f"{here}/a", f"{here}/c"]
    assert [type(error) for error in errors] == [OssPermissionError]


def test_an_object_below_a_name_that_is_also_an_object_is_not_left_out(
    system: FsspecFileSystem, own: OssClient, here: str
) -> None:
    fill(own, here, ["xa", "xa/1", "xa/deep/2", "xb"])
    everything = [f"{here}/{name}" for name in ("xa", "xa/1", "xa/deep", "xa/deep/2", "xb")]
    assert system.expand_path(f"{here}/x*", recursive=True) == everything
    assert system.expand_path([f"{here}/xa", f"{here}/x*"]) == [f"{here}/xa", f"{here}/xb"]
    assert system.expand_path(f"{here}/x*", recursive=True, maxdepth=2) == [
        one for one in everything if "/2" not in one
    ]
    with pytest.raises(FileNotFoundError, match=r"there is no object and no directory .*/y"):
        system.expand_path(f"{here}/y*")


def test_names_and_sizes_need_no_descriptions(
    system: FsspecFileSystem, own: OssClient, here: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(own, here, ["d/", "d/1", "d/2/3", "d/2/4/"])
    for module in (finding, listing):
        monkeypatch.setattr(module, "descriptions", None)
    assert system.ls(f"{here}/d", detail=False) == [f"{here}/d/1", f"{here}/d/2"]
    assert system.find(f"{here}/d") == [f"{here}/d/1", f"{here}/d/2/3"]
    assert system.du(f"{here}/d") == 4
    assert system.du(f"{here}/d", total=False) == {f"{here}/d/1": 2, f"{here}/d/2/3": 2}


def test_names_are_those_of_the_descriptions(system: FsspecFileSystem, own: OssClient, here: str) -> None:
    # Objects, marks of directories below them and beside them, and parts without a name.
    fill(own, here, ["a", "b", "b/", "c", "c/x/", "d/x", "d/x/y", "e//", "f/", "g", "g/1"])
    for name in ["", "/a", "/b", "/c", "/d", "/d/x", "/e", "/f", "/g", "/missing"]:
        described = system.find(here + name, detail=True)
        assert system.find(here + name) == list(described)
        assert system.du(here + name, total=False) == {one: entry["size"] for one, entry in described.items()}
        assert system.du(here + name) == 2 * len(described) == system.du(here + name, withdirs=True)
    assert system.find(f"{here}/b") == [f"{here}/b"]
    assert system.find(f"{here}/c") == []
    assert system.find(f"{here}-missing") == [] == list(system.find(f"{here}-missing", detail=True))


def test_descriptions_are_plain(system: FsspecFileSystem, own: OssClient, here: str) -> None:
    fill(own, here, ["d/1"])
    keys = ["name", "size", "type", "ETag", "mtime", "LastModified", "StorageClass", "ObjectType"]
    described = [system.info(f"{here}/d/1"), system.ls(f"{here}/d")[0], system.find(here, detail=True)[f"{here}/d/1"]]
    for entry in described:
        assert type(entry) is dict
        assert list(entry) == keys
        assert entry == described[0]
        assert entry["LastModified"].timestamp() == entry["mtime"]
