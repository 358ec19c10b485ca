import os
import time
from pathlib import Path

import pytest

from osstorchconnector import OssClient
from osstorchconnector.testing import Emulator

from .conftest import Osst

FILES = {"a": b"1", "b/c": b"22", "b/d/é e": b"333", "empty": b""}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    write(folder, FILES)
    return folder


def write(folder: Path, files: dict[str, bytes]) -> None:
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
        # So old that no comparison meets the second of an upload.
        os.utime(folder / path, (1_700_000_000.25, 1_700_000_000.25))


def held(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def stored(client: OssClient, uri: str) -> dict[str, bytes]:
    return {item.uri.removeprefix(f"{uri}/"): item.read() for item in client.list(f"{uri}/")}


def test_moving_there_inside_and_back(osst: Osst, client: OssClient, bucket: str, folder: Path) -> None:
    one, two, back = f"oss://{bucket}/one", f"oss://{bucket}/two", folder.parent / "back"
    assert osst("mv", "-r", folder, one).status == 0
    assert not folder.exists()
    assert stored(client, one) == FILES
    assert osst("mv", "-r", one, two).status == 0
    assert (stored(client, one), stored(client, two)) == ({}, FILES)
    assert osst("mv", f"{two}/a", f"{two}/z").status == 0
    assert osst("mv", "-r", two, back).status == 0
    assert stored(client, two) == {}
    assert held(back) == {("z" if path == "a" else path): content for path, content in FILES.items()}


def test_what_is_not_copied_is_not_removed(
    osst: Osst, client: OssClient, bucket: str, folder: Path, emulator: Emulator
) -> None:
    with emulator.fault(bucket=bucket, operation="PutObject", key="one/a", error="AccessDenied"):
        ended = osst("mv", "-r", folder, f"oss://{bucket}/one")
    assert ended.status == 1
    assert "1 could not be moved" in ended.err
    assert held(folder) == {"a": b"1"}
    assert set(stored(client, f"oss://{bucket}/one")) == set(FILES) - {"a"}
    assert osst("mv", "--dry-run", "-r", folder, f"oss://{bucket}/two").status == 0
    assert held(folder) == {"a": b"1"}
    assert stored(client, f"oss://{bucket}/two") == {}


@pytest.mark.parametrize(
    "arguments",
    [
        ["{b}/a", "{b}/a"],
        ["{b}/a", "{b}/"],
        ["{b}/*", "{b}/"],
        ["-r", "{b}/", "{b}/"],
        ["-r", "{b}/d", "{b}/d/e"],
        ["{b}/**", "{b}/e/"],
    ],
)
def test_nothing_is_moved_to_itself_and_lost(osst: Osst, client: OssClient, bucket: str, arguments: list[str]) -> None:
    for key in ("a", "d/1"):
        client.put(f"oss://{bucket}/{key}", b"x")
    assert osst("mv", *[argument.format(b=f"oss://{bucket}") for argument in arguments]).status == 1
    assert stored(client, f"oss://{bucket}") == {"a": b"x", "d/1": b"x"}


@pytest.mark.parametrize("way", ["up", "down", "inside"])
def test_a_second_sync_copies_nothing_and_then_only_what_differs(
    osst: Osst, client: OssClient, bucket: str, folder: Path, emulator: Emulator, way: str
) -> None:
    remote, other = f"oss://{bucket}/one", folder.parent / "other"
    assert osst("sync", folder, remote).err == f"osst sync: {len(FILES)} copied, 0 up to date\n"
    source, target = {"up": (folder, remote), "down": (remote, other), "inside": (remote, f"oss://{bucket}/two")}[way]
    if way != "up":
        assert osst("sync", source, target).err == f"osst sync: {len(FILES)} copied, 0 up to date\n"
    emulator.clear_requests()
    assert osst("sync", source, target).err == f"osst sync: 0 copied, {len(FILES)} up to date\n"
    requests = [item.operation for item in emulator.requests() if item.bucket == bucket]
    assert not {"PutObject", "GetObject", "CopyObject"} & set(requests)
    # Another size, and something new.
    if way == "up":
        write(folder, {"a": b"1111", "new": b"n"})
    else:
        client.put(f"{remote}/a", b"1111")
        client.put(f"{remote}/new", b"n")
    planned = osst("sync", "--dry-run", "--json", source, target).documents
    assert sorted(Path(item["source"]).name for item in planned) == ["a", "new"]
    assert osst("sync", source, target).err == f"osst sync: 2 copied, {len(FILES) - 1} up to date\n"
    found = held(other) if way == "down" else stored(client, str(target))
    assert found == {**FILES, "a": b"1111", "new": b"n"}


def test_a_change_in_the_second_of_the_upload_is_seen(osst: Osst, client: OssClient, bucket: str, folder: Path) -> None:
    uri = f"oss://{bucket}/one"
    assert osst("sync", folder, uri).status == 0
    written = client.stat(f"{uri}/a").last_modified
    assert written is not None
    # Same size, other content, and OSS tells only seconds.
    (folder / "a").write_bytes(b"2")
    os.utime(folder / "a", (written.timestamp() + 0.5, written.timestamp() + 0.5))
    os.utime(folder / "b/c", (written.timestamp() + 0.5, written.timestamp() + 0.5))
    assert osst("sync", folder, uri).err == f"osst sync: 1 copied, {len(FILES) - 1} up to date\n"
    assert client.get(f"{uri}/a") == b"2"


def test_a_file_that_differs_from_its_object_by_time_is_compared_by_content(
    osst: Osst, client: OssClient, bucket: str, folder: Path
) -> None:
    uri = f"oss://{bucket}/one"
    osst("sync", folder, uri)
    # `cp` gives its files no time of objects.
    copy = folder.parent / "copy"
    assert osst("cp", "-r", uri, copy).status == 0
    (copy / "a").write_bytes(b"9")
    later = time.time() + 100
    os.utime(copy / "a", (later, later))
    os.utime(copy / "b/c", (later, later))
    assert osst("sync", uri, copy).err == f"osst sync: 1 copied, {len(FILES) - 1} up to date\n"
    assert held(copy) == FILES
    # Now it has the time of its object.
    modified = client.stat(f"{uri}/b/c").last_modified
    assert modified is not None
    assert (copy / "b/c").stat().st_mtime == modified.timestamp()


@pytest.mark.parametrize(
    ("options", "copied"), [([], 0), (["--checksum"], 1), (["--size-only"], 0), (["--checksum", "--exclude", "a"], 0)]
)
def test_what_is_compared(
    osst: Osst, bucket: str, folder: Path, options: list[str], copied: int, client: OssClient
) -> None:
    uri = f"oss://{bucket}/one"
    osst("sync", folder, uri)
    # Same size, and an old time: only the checksum differs.
    write(folder, {"a": b"2"})
    assert f" {copied} copied, " in osst("sync", folder, uri, *options).err
    assert client.get(f"{uri}/a") == (b"2" if copied else b"1")


@pytest.mark.parametrize("way", ["up", "down"])
def test_deleting_what_the_source_does_not_have(
    osst: Osst, client: OssClient, bucket: str, folder: Path, way: str
) -> None:
    uri, other = f"oss://{bucket}/one", folder.parent / "other"
    source, target = (folder, uri) if way == "up" else (uri, other)
    more = {"extra/1": b"x", "extra/2": b"x", "kept.log": b"x"}
    if way == "up":
        for path, content in more.items():
            client.put(f"{uri}/{path}", content)
    else:
        osst("sync", folder, uri)
        write(other, more)
    asked = osst("sync", "--delete", source, target)
    assert (asked.status, asked.out) == (2, "")
    assert "give --yes" in asked.err
    planned = osst("sync", "--delete", "--dry-run", "--json", "--exclude", "*.log", source, target).documents
    assert sorted(item["source"].rpartition("/")[2] for item in planned if item["action"] == "delete") == ["1", "2"]
    ended = osst("sync", "--delete", "--yes", "--exclude", "*.log", source, target)
    assert (ended.status, ended.err) == (0, f"osst sync: {len(FILES)} copied, 2 deleted, 0 up to date\n")
    found = stored(client, uri) if way == "up" else held(other)
    assert found == {**FILES, "kept.log": b"x"}
    assert not (other / "extra").exists()


def test_a_source_without_files_or_a_failed_copy_deletes_nothing(
    osst: Osst, client: OssClient, bucket: str, folder: Path, emulator: Emulator, tmp_path: Path
) -> None:
    uri = f"oss://{bucket}/one"
    client.put(f"{uri}/precious", b"x")
    (tmp_path / "nothing").mkdir()
    for source in (tmp_path / "nothing", tmp_path / "absent", f"oss://{bucket}/absent"):
        assert osst("sync", "--delete", "--yes", source, uri).status == 1
    with emulator.fault(bucket=bucket, operation="PutObject", key="one/a", error="AccessDenied"):
        ended = osst("sync", "--delete", "--yes", folder, uri)
    assert ended.status == 1
    assert "1 could not be copied; nothing was deleted" in ended.err
    assert client.get(f"{uri}/precious") == b"x"
    # What failed is copied the next time, and nothing else.
    assert osst("sync", folder, uri).err == f"osst sync: 1 copied, {len(FILES) - 1} up to date\n"


@pytest.mark.parametrize(
    ("arguments", "status", "complaint"),
    [
        (["{d}", "{d}"], 2, "neither SRC nor DST is an oss:// URI"),
        (["{b}/a", "{b}/a/b"], 2, "is below"),
        (["{b}/a/b", "{b}/a"], 2, "is below"),
        (["--checksum", "--size-only", "{d}", "{b}/a"], 2, "not allowed with"),
        (["{d}/folder/a", "{b}/a"], 1, "is not a directory"),
        (["oss:/x/y", "{d}"], 2, "is no object's URI"),
        (["--delet", "{d}", "{b}/a", "--yess"], 2, "did you mean --yes?"),
    ],
)
def test_what_is_refused(
    osst: Osst, bucket: str, folder: Path, arguments: list[str], status: int, complaint: str
) -> None:
    ended = osst("sync", *[argument.format(b=f"oss://{bucket}", d=folder.parent) for argument in arguments])
    assert ended.status == status
    assert complaint in ended.err


def test_keys_that_no_file_can_have_are_reported_and_the_rest_is_copied(
    osst: Osst, client: OssClient, bucket: str, tmp_path: Path
) -> None:
    hostile = ("../escaped", "a/../../escaped", "/absolute", "x" * 300, "both", "both/below", "a//b")
    for key in (*hostile, "good"):
        client.put(f"oss://{bucket}/p/{key}", b"x")
    ended = osst("sync", f"oss://{bucket}/p", tmp_path / "in" / "target")
    assert ended.status == 1
    assert "6 could not be copied" in ended.err
    assert len(ended.err.splitlines()) == 7
    found = {path.name for path in tmp_path.rglob("*")}
    assert "good" in found
    assert not found & {"escaped", "absolute"}
