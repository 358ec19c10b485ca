"""Checkpoints that are folders of files."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from osstorchconnector import (
    OssClient,
    OssConfig,
    OssConfigError,
    OssConnectionError,
    OssError,
    OssIntegrityError,
    OssNotFoundError,
    OssTimeoutError,
)
from osstorchconnector.checkpoint.folder_list import LIST
from osstorchconnector.checkpoint.folders import CheckpointFolders
from osstorchconnector.testing import Emulator

FILES = {"model.safetensors": b"weights" * 100_000, "state.json": b"{}", "deep/empty": b""}


def make(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def keys(client: OssClient, bucket: str) -> list[str]:
    return [item.name for item in client.list(f"oss://{bucket}/")]


@pytest.fixture
def folders(client: OssClient, bucket: str) -> CheckpointFolders:
    return CheckpointFolders(client, f"oss://{bucket}/run/")


def test_a_folder_comes_back_as_it_was(
    folders: CheckpointFolders, client: OssClient, bucket: str, tmp_path: Path
) -> None:
    assert folders.newest() is None
    assert folders.save(make(tmp_path / "a", FILES), "checkpoint-1") == f"oss://{bucket}/run/checkpoint-1"
    assert sorted(keys(client, bucket)) == sorted(f"run/checkpoint-1/{name}" for name in (*FILES, LIST))
    assert folders.newest() == "checkpoint-1"
    folders.fetch("checkpoint-1", tmp_path / "deep" / "b")
    assert content(tmp_path / "deep" / "b") == FILES
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["b"]


def test_the_newest_is_the_one_with_the_highest_number(folders: CheckpointFolders, tmp_path: Path) -> None:
    for number in (9, 100, 20):
        folders.save(make(tmp_path / str(number), FILES), f"checkpoint-{number}")
    assert folders.newest() == "checkpoint-100"


def test_an_upload_that_fails_leaves_nothing_that_counts(
    folders: CheckpointFolders, client: OssClient, bucket: str, emulator: Emulator, tmp_path: Path
) -> None:
    folder = make(tmp_path / "a", FILES)
    folders.save(folder, "checkpoint-1")
    for failing in ("*/model.safetensors", f"*/{LIST}"):
        with emulator.fault(operation="PutObject", key=failing, error="AccessDenied"), pytest.raises(OssError):
            folders.save(folder, "checkpoint-2")
        assert folders.newest() == "checkpoint-1"
    with (
        emulator.fault(operation="PutObject", key="*/model.safetensors", error="AccessDenied"),
        pytest.raises(OssError),
    ):
        folders.save(folder, "checkpoint-3")
    assert not [key for key in keys(client, bucket) if "checkpoint-3" in key]
    with pytest.raises(OssNotFoundError, match="which a save writes last"):
        folders.fetch("checkpoint-2", tmp_path / "b")


def test_a_second_save_replaces_the_first_whole_or_not_at_all(
    folders: CheckpointFolders, client: OssClient, bucket: str, emulator: Emulator, tmp_path: Path
) -> None:
    folders.save(make(tmp_path / "a", FILES), "checkpoint-1")
    second = make(tmp_path / "b", {"model.safetensors": b"other", "more": b"1"})
    with emulator.fault(operation="PutObject", key="*/more", error="AccessDenied"), pytest.raises(OssError):
        folders.save(second, "checkpoint-1")
    folders.fetch("checkpoint-1", tmp_path / "c")
    assert content(tmp_path / "c") == FILES
    folders.save(second, "checkpoint-1")
    folders.fetch("checkpoint-1", tmp_path / "d")
    assert content(tmp_path / "d") == content(second)
    assert len(keys(client, bucket)) == 3


@pytest.mark.parametrize("damage", ["missing", "longer", "other bytes", "list"])
def test_a_damaged_checkpoint_does_not_count_and_is_not_fetched(
    folders: CheckpointFolders, client: OssClient, bucket: str, tmp_path: Path, damage: str
) -> None:
    for number in (1, 2):
        folders.save(make(tmp_path / "a", FILES), f"checkpoint-{number}")
    uri = f"oss://{bucket}/run/checkpoint-2"
    if damage == "missing":
        client.delete(f"{uri}/state.json")
    else:
        name = LIST if damage == "list" else "state.json"
        client.put(f"{uri}/{name}", b"[]" if damage == "other bytes" else b"{ }")
    assert folders.newest() == "checkpoint-1"
    with pytest.raises((OssIntegrityError, OssNotFoundError)):
        folders.fetch("checkpoint-2", tmp_path / "b")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("name", ["../out", "/out", "deep/../../out", "", "a\0b"])
def test_a_list_cannot_name_files_outside_of_the_folder(
    folders: CheckpointFolders, client: OssClient, bucket: str, tmp_path: Path, name: str
) -> None:
    folders.save(make(tmp_path / "a", {"state.json": b"{}"}), "checkpoint-1")
    uri = f"oss://{bucket}/run/checkpoint-1/{LIST}"
    document = json.loads(client.get(uri))
    document["files"][0]["name"] = name
    client.put(uri, json.dumps(document).encode())
    with pytest.raises(OssIntegrityError, match="outside of the folder"):
        folders.fetch("checkpoint-1", tmp_path / "b")


def test_a_size_below_zero_is_damage(folders: CheckpointFolders, client: OssClient, bucket: str) -> None:
    listed = {"name": "a", "key": "a", "size": -5, "crc64": 0}
    client.put(f"oss://{bucket}/run/checkpoint-1/{LIST}", json.dumps({"version": 1, "files": [listed]}).encode())
    with pytest.raises(OssIntegrityError, match="is damaged: 'a' has -5 bytes"):
        folders.fetch("checkpoint-1", Path("unused"))


def test_a_list_of_a_later_release_is_refused(folders: CheckpointFolders, client: OssClient, bucket: str) -> None:
    client.put(f"oss://{bucket}/run/checkpoint-1/{LIST}", b'{"version": 2, "files": []}')
    with pytest.raises(OssIntegrityError, match="version 2, but this release reads 1: update"):
        folders.fetch("checkpoint-1", Path("unused"))


def test_a_folder_with_the_checkpoint_is_used_and_another_is_put_aside(
    folders: CheckpointFolders, emulator: Emulator, tmp_path: Path
) -> None:
    folder = make(tmp_path / "checkpoint-1", FILES)
    folders.save(folder, "checkpoint-1")
    with emulator.fault(operation="GetObject", key="*/model.safetensors", error="AccessDenied"):
        folders.fetch("checkpoint-1", folder)
    (folder / "state.json").write_bytes(b"[]")
    folders.fetch("checkpoint-1", folder)
    assert content(folder) == FILES
    (aside,) = [path for path in tmp_path.iterdir() if path != folder]
    assert re.fullmatch(r"checkpoint-1\.replaced-[0-9a-f]{8}", aside.name)
    assert content(aside) == {**FILES, "state.json": b"[]"}


def test_the_newest_and_the_protected_are_kept(
    folders: CheckpointFolders, client: OssClient, bucket: str, tmp_path: Path
) -> None:
    for number in range(1, 7):
        folders.save(make(tmp_path / "a", FILES), f"checkpoint-{number}")
    # The newest one is damaged; a folder without a list is no checkpoint.
    client.delete(f"oss://{bucket}/run/checkpoint-6/state.json")
    client.put(f"oss://{bucket}/run/logs-1/a", b"")
    assert folders.keep(2, {"checkpoint-2"}) == ["checkpoint-3", "checkpoint-1"]
    left = {key.split("/")[1] for key in keys(client, bucket)}
    assert left == {"checkpoint-2", "checkpoint-4", "checkpoint-5", "checkpoint-6", "logs-1"}


def test_what_this_process_fetched_is_kept_until_it_is_saved_again(
    folders: CheckpointFolders, client: OssClient, tmp_path: Path
) -> None:
    for number in (1, 2):
        folders.save(make(tmp_path / "a", FILES), f"checkpoint-{number}")
    folders.fetch("checkpoint-1", tmp_path / "b")
    # Another object of the same program.
    others = CheckpointFolders(client, folders.prefix)
    assert others.keep(1) == []
    others.save(tmp_path / "a", "checkpoint-1")
    assert others.keep(1) == ["checkpoint-1"]


def test_a_failure_stops_the_other_files(tmp_path: Path) -> None:
    # Its own server: the requests of the other file are slow, and counted.
    with Emulator(buckets=["runs"]) as server:
        folders = CheckpointFolders(server.client(), "oss://runs/a")
        folder = make(tmp_path / "a", {"small": b"1", "large": b""})
        with (folder / "large").open("wb") as large:
            large.truncate(800 << 20)
        with (
            server.fault(operation="PutObject", key="*/small", error="AccessDenied"),
            server.fault(operation="UploadPart", key="*/large", delay=0.5),
            pytest.raises(OssError, match="AccessDenied"),
        ):
            folders.save(folder, "checkpoint-1")
        # The whole file has 100 parts.
        assert len(server.requests(operation="UploadPart")) < 60
        assert not list(server.client().list("oss://runs/"))


def test_a_server_that_is_gone_is_an_error_in_time(tmp_path: Path) -> None:
    with Emulator(buckets=["runs"]) as server:
        config = OssConfig(max_attempts=2, total_timeout=5)
        folders = CheckpointFolders(OssClient(**server.connection, config=config), "oss://runs/a")
        folders.save(make(tmp_path / "a", FILES), "checkpoint-1")
    began = time.monotonic()
    for action in (
        lambda: folders.save(tmp_path / "a", "checkpoint-2"),
        folders.newest,
        lambda: folders.fetch("checkpoint-1", tmp_path / "b"),
    ):
        with pytest.raises((OssConnectionError, OssTimeoutError)):
            action()
    assert time.monotonic() - began < 20
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_disk_that_cannot_be_written_is_an_error(folders: CheckpointFolders, tmp_path: Path) -> None:
    folders.save(make(tmp_path / "a", FILES), "checkpoint-1")
    (tmp_path / "file").touch()
    with pytest.raises(OssConfigError, match=r"b cannot be written: (Not a directory|File exists)"):
        folders.fetch("checkpoint-1", tmp_path / "file" / "b")


def test_an_empty_or_missing_folder_is_refused(folders: CheckpointFolders, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "missing"):
        with pytest.raises(OssConfigError, match="no folder with files"):
            folders.save(folder, "checkpoint-1")


# Two ranks with one disk, as on one machine, or with a disk each.
RANKS = """
import json, os, sys
from pathlib import Path
import torch.distributed as dist
from osstorchconnector import OssClient
from osstorchconnector.checkpoint import ranks
from osstorchconnector.checkpoint.folders import CheckpointFolders

rank, store, bucket, connection, place = int(sys.argv[1]), *sys.argv[2:]
dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
client = OssClient(**json.loads(connection))
for disks in ("one", "two"):
    folders = CheckpointFolders(client, f"oss://{bucket}/{disks}")
    if disks == "two":
        ranks._machine = lambda: str(rank)
    home = Path(place, disks, str(rank) if disks == "two" else "0")
    folder = home / "saved"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "both").write_text("same")
    (folder / f"rank{rank}").write_text(str(rank))
    dist.barrier()
    folders.save(folder, "checkpoint-1")
    folders.fetch(folders.newest(), home / "fetched")
    print(disks, sorted(path.name for path in (home / "fetched").iterdir()))
try:
    # The server refuses the file of the second machine.
    folders.save(folder, "refused-2")
except Exception as error:
    print("refused", type(error).__name__, error)
print(folders.newest())
dist.barrier()
"""


@pytest.mark.slow(120)
def test_ranks_save_and_fetch_together(emulator: Emulator, client: OssClient, bucket: str, tmp_path: Path) -> None:
    arguments = [str(tmp_path / "store"), bucket, json.dumps(emulator.connection), str(tmp_path)]
    with emulator.fault(operation="PutObject", key="two/refused-2/rank1", error="AccessDenied"):
        programs = [
            subprocess.Popen(
                [sys.executable, "-c", RANKS, str(rank), *arguments],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(2)
        ]
        results = [program.communicate(timeout=100) for program in programs]
    for rank, (output, errors) in enumerate(results):
        assert programs[rank].returncode == 0, errors
        one, two, refused, newest = output.splitlines()
        assert one == "one ['both', 'rank0', 'rank1']"
        assert two == "two ['both', 'rank0', 'rank1']"
        expected = ["refused OssError other ranks failed: rank 1: OssPermissionError", "refused OssPermissionError"][
            rank
        ]
        assert refused.startswith(expected)
        assert newest == "checkpoint-1"
    assert not list(client.list(f"oss://{bucket}/two/refused-2/"))
