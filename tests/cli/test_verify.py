"""``osst verify``: each thing that is not as it should be is named, and nothing else."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import save_file

from osstorchconnector import OssCheckpoint, OssClient, OssFileSystem
from osstorchconnector.cli.__main__ import main
from osstorchconnector.connection.stats import stats
from osstorchconnector.testing import Emulator

OSST = [sys.executable, "-m", "osstorchconnector.cli"]


@dataclass
class Verified:
    status: int
    document: dict[str, Any]

    @property
    def problems(self) -> list[tuple[str, str]]:
        return [(problem["uri"], problem["state"]) for problem in self.document["problems"]]

    @property
    def counts(self) -> tuple[int, int, int]:
        return self.document["verified"], self.document["unchecked"], self.document["skipped"]


Verify = Callable[..., Verified]


def connection(emulator: Emulator) -> list[str]:
    return ["--endpoint", emulator.endpoint, "--region", emulator.region, "--cred-path", emulator.cred_path]


@pytest.fixture
def verify(emulator: Emulator, capsys: pytest.CaptureFixture[str]) -> Verify:
    def verify(*arguments: object) -> Verified:
        capsys.readouterr()
        status = main(["verify", "--json", *map(str, arguments), *connection(emulator)])
        return Verified(status, json.loads(capsys.readouterr().out))

    return verify


@pytest.fixture
def prefix(client: OssClient, bucket: str) -> str:
    for number in range(50):
        client.put(f"oss://{bucket}/data/{number:03}", os.urandom(1000 + number))
    client.put(f"oss://{bucket}/data/empty", b"")
    client.put(f"oss://{bucket}/data/large", os.urandom(33 << 20))
    client.put(f"oss://{bucket}/data-of-another-kind", b"x")
    return f"oss://{bucket}/data"


def test_a_prefix_is_read_once_and_is_whole(verify: Verify, emulator: Emulator, prefix: str) -> None:
    emulator.clear_requests()
    found = verify(prefix)
    assert (found.status, found.problems, found.counts) == (0, [], (52, 0, 0))
    total = sum(1000 + number for number in range(50)) + (33 << 20)
    assert found.document["bytes"] == total
    read = sum(request.response_bytes for request in emulator.requests(operation="GetObject"))
    assert total <= read <= total + (1 << 20)


@pytest.mark.parametrize("name", ["007", "large", "empty"])
def test_one_object(verify: Verify, prefix: str, name: str) -> None:
    assert verify(f"{prefix}/{name}").counts == (1, 0, 0)


def test_damage_is_named(verify: Verify, emulator: Emulator, prefix: str) -> None:
    # Each is read again, six times with pauses.
    with (
        emulator.fault(operation="GetObject", key="data/007", flip="middle"),
        emulator.fault(operation="GetObject", key="data/large", flip=1000),
    ):
        found = verify(prefix)
    assert found.status == 1
    assert found.problems == [(f"{prefix}/007", "damaged"), (f"{prefix}/large", "damaged")]
    assert found.counts == (50, 0, 0)


def test_damage_on_the_way_that_does_not_last_is_no_problem(verify: Verify, emulator: Emulator, prefix: str) -> None:
    with emulator.fault(operation="GetObject", key="data/007", flip="middle", nth=1) as fault:
        found = verify(prefix)
        assert fault.acted == 1
    assert (found.status, found.counts) == (0, (52, 0, 0))


def test_what_cannot_be_read_is_named(verify: Verify, emulator: Emulator, client: OssClient, prefix: str) -> None:
    with emulator.fault(operation="GetObject", key="data/00?", error="AccessDenied"):
        found = verify(prefix)
    assert found.problems == [(f"{prefix}/00{number}", "unreadable") for number in range(10)]
    client.put(f"{prefix}/restored", b"x")
    with emulator.fault(operation="GetObject", key="data/restored", error="NoSuchKey"):
        assert verify(prefix).problems == [(f"{prefix}/restored", "missing")]


@pytest.mark.parametrize("profile", [{"delay": 0.035}, {"probability": 0.2, "seed": 1, "throttle": 0.01}])
def test_a_slow_and_a_throttled_service(
    verify: Verify, emulator: Emulator, prefix: str, profile: dict[str, Any]
) -> None:
    emulator.clear_requests()
    with emulator.fault(**profile):
        assert verify(prefix).counts == (52, 0, 0)
    if "delay" in profile:
        assert emulator.peak_concurrency() > 4


def test_objects_without_a_checksum_are_counted_apart(
    verify: Verify, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from osstorchconnector.cli.verify_checks import objects  # noqa: PLC0415 - one test needs it

    # The emulator stores a checksum of everything; OSS has none of objects from before 2016.
    monkeypatch.setattr(objects, "_has_checksum", lambda _, listed: listed[1] not in {"data/007", "data/large"})
    received = iter([0, 100])
    monkeypatch.setattr(objects, "stats", lambda: replace(stats(), received_bytes=next(received), verified_bytes=0))
    found = verify(prefix)
    assert (found.status, found.counts) == (0, (50, 2, 0))


def test_a_missing_prefix_is_an_error(emulator: Emulator, prefix: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", f"{prefix}/none/", *connection(emulator)]) == 1
    assert f"the nearest one with objects is {prefix}/" in capsys.readouterr().err


def test_problems_are_lines_for_people(emulator: Emulator, prefix: str, capsys: pytest.CaptureFixture[str]) -> None:
    with emulator.fault(operation="GetObject", key="data/007", flip="middle"):
        assert main(["verify", prefix, *connection(emulator)]) == 1
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith(f"damaged    {prefix}/007: ")
    assert last.startswith("51 verified, 1 not as they should be; 33.0 MiB in ")


# Resuming.


def test_a_run_resumes(verify: Verify, emulator: Emulator, client: OssClient, prefix: str, tmp_path: Path) -> None:
    state = tmp_path / "state"
    with emulator.fault(operation="GetObject", key="data/007", flip="middle"):
        assert verify(prefix, "--state", state).counts == (51, 0, 0)
    emulator.clear_requests()
    assert verify(prefix, "--state", state).counts == (1, 0, 51)
    assert {request.key for request in emulator.requests(operation="GetObject")} == {"data/007"}
    client.put(f"{prefix}/008", b"another content")
    assert verify(prefix, "--state", state).counts == (1, 0, 51)


def test_half_a_line_of_a_killed_run_is_dropped(verify: Verify, prefix: str, tmp_path: Path) -> None:
    state = tmp_path / "state"
    verify(prefix, "--state", state)
    whole = state.read_bytes()
    *others, last = whole.splitlines(keepends=True)
    # Longer than the line that takes its place.
    state.write_bytes(b"".join(others) + last.rstrip() + b"x" * 300)
    assert verify(prefix, "--state", state).counts == (1, 0, 51)
    assert sorted(state.read_bytes().splitlines()) == sorted(whole.splitlines())


@pytest.mark.parametrize("content", ["", "text\n", '{"format": "osst-verify", "version": 2}\n'])
def test_another_file_is_no_state(
    emulator: Emulator, prefix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    state = tmp_path / "state"
    state.write_text(content)
    status = main(["verify", prefix, "--state", str(state), *connection(emulator)])
    if not content:
        assert status == 0
        return
    assert status == 1
    assert "is no state file of osst verify" in capsys.readouterr().err
    assert state.read_text() == content


def test_ctrl_c_says_how_to_resume(emulator: Emulator, prefix: str, tmp_path: Path) -> None:
    state = tmp_path / "state"
    command = [*OSST, "verify", prefix, "--state", str(state), *connection(emulator)]
    with (
        emulator.fault(operation="GetObject", key="data/large", stall=1000) as stalled,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process,
    ):
        deadline = time.monotonic() + 20
        while not stalled.acted and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=20)
    assert (process.returncode, out) == (130, "")
    assert error == f"osst verify: interrupted; the same command with --state {state} resumes\n"
    # The small objects came before the large one.
    assert len(state.read_text().splitlines()) == 52


# Copies.


@pytest.fixture
def copy(client: OssClient, prefix: str, tmp_path: Path) -> Path:
    directory = tmp_path / "copy"
    directory.mkdir()
    for listed in client.list(f"{prefix}/"):
        (directory / listed.name.removeprefix("data/")).write_bytes(client.get(listed.uri))
    return directory


def test_a_copy_is_compared_without_reading_objects(
    verify: Verify, emulator: Emulator, prefix: str, copy: Path
) -> None:
    emulator.clear_requests()
    found = verify(copy, prefix)
    assert (found.status, found.counts) == (0, (52, 0, 0))
    assert emulator.requests(operation="GetObject") == []
    assert verify(copy / "007", f"{prefix}/007").counts == (1, 0, 0)
    assert verify(copy / "007", f"{prefix}/").counts == (1, 0, 0)


def test_each_difference_of_a_copy_is_named(verify: Verify, client: OssClient, prefix: str, copy: Path) -> None:
    (copy / "001").write_bytes(bytes(1001))
    (copy / "002").write_bytes(b"shorter")
    (copy / "003").unlink()
    (copy / "new").write_bytes(b"")
    client.delete(f"{prefix}/004")
    found = verify(copy, f"{prefix}/")
    assert found.status == 1
    assert sorted(found.problems) == sorted(
        [
            (f"{prefix}/001", "differs"),
            (f"{prefix}/002", "differs"),
            (f"{prefix}/003", "missing"),
            (str(copy / "004"), "missing"),
            (str(copy / "new"), "missing"),
        ]
    )
    assert found.counts == (48, 0, 0)


def test_a_copy_is_compared_again_if_the_file_was_written(
    verify: Verify, prefix: str, copy: Path, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    assert verify(copy, prefix, "--state", state).counts == (52, 0, 0)
    assert verify(copy, prefix, "--state", state).counts == (0, 0, 52)
    content = (copy / "001").read_bytes()
    (copy / "001").write_bytes(content[::-1])
    assert verify(copy, prefix, "--state", state).problems == [(f"{prefix}/001", "differs")]


def test_a_file_that_is_missing_or_unreadable(
    verify: Verify, emulator: Emulator, prefix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(tmp_path / "none"), prefix, *connection(emulator)]) == 1
    assert "there is no file" in capsys.readouterr().err
    (tmp_path / "here").write_bytes(b"x")
    uri = f"{prefix}/not-in-oss"
    assert verify(tmp_path / "here", uri).problems == [(uri, "missing")]


# Manifests.


def manifest(emulator: Emulator, uri: str, path: Path, *options: str) -> Path:
    assert main(["manifest", uri, "--output", str(path), *options, *connection(emulator)]) == 0
    return path


def test_a_snapshot_is_compared_with_the_bucket(
    verify: Verify, emulator: Emulator, client: OssClient, prefix: str, tmp_path: Path
) -> None:
    path = manifest(emulator, f"{prefix}/", tmp_path / "snapshot", "--snapshot")
    emulator.clear_requests()
    assert verify("--manifest", path).counts == (52, 0, 0)
    assert emulator.requests(operation="GetObject") == []
    client.delete(f"{prefix}/001")
    client.put(f"{prefix}/002", b"other size")
    client.put(f"{prefix}/003", bytes(1003))
    client.put(f"{prefix}/new", b"")
    found = verify("--manifest", path)
    assert found.status == 1
    assert sorted(found.problems) == [
        (f"{prefix}/001", "missing"),
        (f"{prefix}/002", "differs"),
        (f"{prefix}/003", "differs"),
    ]
    assert found.counts == (49, 0, 0)
    assert any(note.startswith("1 objects below") for note in found.document["notes"])


def test_a_manifest_can_also_be_read(
    verify: Verify, emulator: Emulator, client: OssClient, prefix: str, bucket: str, tmp_path: Path
) -> None:
    path = manifest(emulator, f"{prefix}/", tmp_path / "manifest")
    client.delete(f"{prefix}/001")
    with emulator.fault(operation="GetObject", key="data/007", flip="middle"):
        found = verify("--manifest", path, f"oss://{bucket}/", "--read")
    assert sorted(found.problems) == [(f"{prefix}/001", "missing"), (f"{prefix}/007", "damaged")]
    assert found.counts == (50, 0, 0)


def test_a_damaged_snapshot_is_an_error(
    emulator: Emulator, prefix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = manifest(emulator, f"{prefix}/", tmp_path / "snapshot", "--snapshot")
    path.write_bytes(path.read_bytes().replace(b"data/001", b"data/XXX"))
    assert main(["verify", "--manifest", str(path), *connection(emulator)]) == 1
    assert "edited or damaged" in capsys.readouterr().err


# Checkpoints.


def test_files_of_checkpoints_must_have_their_end(
    verify: Verify, emulator: Emulator, client: OssClient, bucket: str, tmp_path: Path
) -> None:
    run = f"oss://{bucket}/run"
    OssCheckpoint(**emulator.connection).save({"a": torch.zeros(1000)}, f"{run}/1.pt")
    save_file({"a": torch.zeros(1000)}, tmp_path / "model.safetensors")
    whole = (tmp_path / "model.safetensors").read_bytes()
    client.put(f"{run}/2.safetensors", whole)
    client.put(f"{run}/3.pkl", pickle.dumps({"a": 1}))
    client.put(f"{run}/notes.bin", b"no checkpoint at all")
    assert verify(run).counts == (4, 0, 0)
    client.put(f"{run}/1.pt", client.get(f"{run}/1.pt")[:-100])
    client.put(f"{run}/2.safetensors", whole[:-1])
    found = verify(run)
    assert found.problems == [(f"{run}/1.pt", "damaged"), (f"{run}/2.safetensors", "damaged")]
    assert found.counts == (2, 0, 0)


@pytest.fixture
def saved(emulator: Emulator, bucket: str) -> str:
    uri = f"oss://{bucket}/steps/5"
    file_system = OssFileSystem(**emulator.connection)
    state = {"a": torch.randn(100_000), "b": torch.ones(5)}
    with warnings.catch_warnings():
        # torch warns at every save in a single process.
        warnings.filterwarnings("ignore", message="torch.distributed is")
        dcp.save(state, storage_writer=file_system.writer(uri, thread_count=2))
    return uri


def shards(client: OssClient, uri: str) -> list[str]:
    return [item.uri for item in client.list(f"{uri}/") if item.uri.endswith(".distcp")]


def test_a_distributed_checkpoint_is_compared_item_by_item(
    verify: Verify, emulator: Emulator, client: OssClient, saved: str
) -> None:
    for uri in (saved, f"{saved}/", saved.rpartition("/")[0]):
        emulator.clear_requests()
        found = verify(uri)
        assert (found.status, found.problems) == (0, [])
        assert f"{saved}: 2 items have their checksums" in found.document["notes"]
        read = [request.key for request in emulator.requests(operation="GetObject")]
        assert all(read.count(f"steps/5/{uri.rpartition('/')[2]}") == 1 for uri in shards(client, saved))
    (first, second) = shards(client, saved)
    content = bytearray(client.get(first))
    content[len(content) // 2] ^= 1
    # Damaged before it was uploaded: the object has the checksum that OSS stores.
    client.put(first, content)
    found = verify(saved)
    assert found.problems == [(saved, "damaged")]
    client.delete(second)
    assert (saved, "damaged") in verify(saved).problems


def test_an_unfinished_checkpoint_is_named(verify: Verify, client: OssClient, saved: str) -> None:
    client.delete(f"{saved}/.metadata")
    assert verify(saved).problems == [(saved, "damaged")]
    # By itself, a shard is an object as others are.
    assert verify(shards(client, saved)[0]).counts == (1, 0, 0)


def test_a_distributed_checkpoint_resumes(verify: Verify, client: OssClient, saved: str, tmp_path: Path) -> None:
    count = len(list(client.list(f"{saved}/")))
    assert verify(saved, "--state", tmp_path / "state").counts == (count, 0, 0)
    assert verify(saved, "--state", tmp_path / "state").counts == (0, 0, count)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "give an object or a prefix"),
        (["file"], "give an object or a prefix"),
        (["oss://bucket/a", "oss://bucket/b"], "give an object or a prefix"),
        (["oss://bucket/a", "--read"], "--read goes with --manifest"),
        (["--manifest", "m", "a"], "at most one PATH"),
        (["oss:/bucket/a"], "write 'oss://bucket/a'"),
        (["s3://bucket/a"], "neither a local path nor an oss:// URI"),
    ],
)
def test_wrong_arguments(arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["verify", *arguments])
    assert complaint in capsys.readouterr().err
