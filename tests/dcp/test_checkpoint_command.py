"""``osst checkpoint``."""

from collections.abc import Callable

import pytest
import torch
import torch.distributed.checkpoint as dcp

from osstorchconnector import OssCheckpoint, OssClient, OssFileSystem
from osstorchconnector.cli.__main__ import main
from osstorchconnector.dcp import HexadecimalPrefix
from osstorchconnector.testing import Emulator

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(emulator: Emulator, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(action: str, uri: str, *options: str) -> tuple[int, str, str]:
        connection = ("--endpoint", emulator.endpoint, "--cred-path", emulator.cred_path, "--region", emulator.region)
        capsys.readouterr()
        status = main(["checkpoint", action, uri, *options, *connection])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.fixture
def prefix(file_system: OssFileSystem, client: OssClient, bucket: str) -> str:
    """A prefix with a complete checkpoint, one without a file, an unfinished one, and another object."""
    prefix = f"oss://{bucket}/run"
    state = {"a": torch.randn(1_000_000), "b": torch.ones(5)}
    for name in ("whole", "missing", "unfinished"):
        writer = file_system.writer(f"{prefix}/{name}", thread_count=2, prefix_strategy=HexadecimalPrefix(epoch=1))
        dcp.save(state, storage_writer=writer)
    client.delete(next(item.uri for item in client.list(f"{prefix}/missing/") if item.uri.endswith("_0.distcp")))
    client.delete(f"{prefix}/unfinished/.metadata")
    client.put(f"{prefix}/whole/notes.txt", b"mine")
    client.put(f"{prefix}/log.txt", b"mine")
    return prefix


def test_ls_says_what_is_whole_and_why_not(run: Run, prefix: str) -> None:
    status, out, _ = run("ls", prefix)
    assert status == 0
    lines = out.splitlines()
    assert "_0.distcp is missing" in out
    assert "no .metadata, which a save writes last" in out
    assert [line.split()[0] for line in lines if line.endswith("/whole")] == ["complete"]
    assert "notes" not in out
    assert run("ls", f"{prefix}/whole")[1].startswith("complete")
    status, out, error = run("ls", f"{prefix}/nothing")
    assert (status, out) == (1, "")
    assert f"{prefix}/nothing" in error


def test_verify_reads_everything(run: Run, client: OssClient, prefix: str) -> None:
    assert run("verify", f"{prefix}/whole")[:2] == (0, f"whole   {prefix}/whole: 2 items have their checksums\n")
    status, out, _ = run("verify", prefix)
    assert status == 1
    assert out.count("damaged ") == 2
    file = next(
        item.uri for item in client.list(f"{prefix}/whole/") if item.uri.endswith(".distcp") and item.size > 1e6
    )
    content = bytearray(client.get(file))
    content[2_000_000] ^= 4
    client.put(file, content)
    status, out, _ = run("verify", f"{prefix}/whole")
    assert status == 1
    assert "does not hold what was saved for 'a'" in out
    assert run("verify", f"{prefix}/nothing")[0] == 1


def test_rm_deletes_one_checkpoint_and_nothing_else(run: Run, client: OssClient, prefix: str) -> None:
    before = {item.uri for item in client.list(f"{prefix}/")}
    status, out, _ = run("rm", f"{prefix}/whole", "--dry-run")
    assert status == 0
    assert {item.uri for item in client.list(f"{prefix}/")} == before
    assert run("rm", f"{prefix}/whole")[0] == 0
    deleted = before - {item.uri for item in client.list(f"{prefix}/")}
    assert deleted == set(out.splitlines())
    assert {uri for uri in deleted if "/whole/" not in uri} == set()
    assert client.get(f"{prefix}/whole/notes.txt") == b"mine"
    status, _, error = run("rm", prefix)
    assert status == 1
    assert "there is no checkpoint at" in error
    assert run("rm", f"{prefix}/unfinished")[0] == 0
    assert list(client.list(f"{prefix}/unfinished/")) == []


def test_rm_leftovers_leaves_checkpoints_alone(
    run: Run, client: OssClient, file_system: OssFileSystem, emulator: Emulator, prefix: str
) -> None:
    checkpoint_uri = f"{prefix}/whole"
    with (
        emulator.fault(key="*/.metadata", operation="PutObject", error="AccessDenied"),
        pytest.raises(dcp.CheckpointException),
    ):
        dcp.save({"a": torch.zeros(9)}, storage_writer=file_system.writer(checkpoint_uri))
    assert "2 objects of" in run("ls", checkpoint_uri)[1]
    status, out, _ = run("rm", checkpoint_uri, "--leftovers")
    assert status == 0
    assert len(out.splitlines()) == 2
    assert run("verify", checkpoint_uri)[0] == 0
    run("rm", prefix, "--leftovers")
    assert list(client.list(f"{prefix}/unfinished/")) == []


@pytest.mark.parametrize("action", ["ls", "verify", "rm"])
def test_a_local_path_is_reported(run: Run, action: str) -> None:
    status, _, error = run(action, "/tmp/checkpoint")
    assert status == 1
    assert "is a path of this machine" in error


@pytest.mark.parametrize("action", ["ls", "verify", "rm"])
def test_no_permission_to_list_is_reported(run: Run, emulator: Emulator, bucket: str, action: str) -> None:
    with emulator.fault(bucket=bucket, operation=["ListObjects", "ListObjectsV2"], error="AccessDenied"):
        status, out, error = run(action, f"oss://{bucket}/run")
    assert (status, out) == (1, "")
    assert "AccessDenied" in error
    assert bucket in error


@pytest.fixture
def objects(emulator: Emulator, client: OssClient, bucket: str) -> str:
    """A prefix with checkpoints of one object each, distributed ones, and other objects."""
    prefix = f"oss://{bucket}/mixed"
    checkpoint = OssCheckpoint(**emulator.connection)
    for epoch in (1, 2, 10):
        checkpoint.save({"a": torch.ones(100)}, f"{prefix}/epoch-{epoch}.pt")
    content = client.get(f"{prefix}/epoch-2.pt")
    client.put(f"{prefix}/epoch-2.pt", content[:-100])
    client.put(f"{prefix}/epoch-3.bin", b"other bytes")
    client.put(f"{prefix}/epoch-4.txt", b"no checkpoint")
    for form in ("torch_save", "safetensors"):
        writer = OssFileSystem(**emulator.connection).writer(f"{prefix}/{form}-5", serialization_format=form)
        dcp.save({"a": torch.ones(100)}, storage_writer=writer)
    return prefix


@pytest.mark.parametrize("end", ["", "/", "/epoch-", "/safetensors-"])
def test_ls_and_verify_show_what_the_list_shows(run: Run, emulator: Emulator, objects: str, end: str) -> None:
    listed = OssCheckpoint(**emulator.connection).list(f"{objects}{end}")
    assert len(listed) >= 1
    _, out, _ = run("ls", f"{objects}{end}")
    shown = {line.split()[-1]: line.split()[0] for line in out.splitlines() if "oss://" in line}
    assert sorted(shown) == sorted(listed)
    states = {
        "epoch-1.pt": "complete",
        "epoch-2.pt": "incomplete",
        "epoch-3.bin": "unknown",
        "safetensors-5": "complete",
    }
    assert all(shown.get(f"{objects}/{name}", state) == state for name, state in states.items())
    _, out, _ = run("verify", f"{objects}{end}")
    results = {line.split()[1].removesuffix(":"): line.split()[0] for line in out.splitlines()}
    assert results == {uri: "damaged" if uri.endswith("/epoch-2.pt") else "whole" for uri in listed}


def test_one_object_is_shown_verified_and_removed(
    run: Run, client: OssClient, emulator: Emulator, objects: str
) -> None:
    uri = f"{objects}/epoch-1.pt"
    assert run("ls", uri)[1].splitlines() == [line for line in run("ls", objects)[1].splitlines() if line.endswith(uri)]
    assert run("verify", uri) == (0, f"whole   {uri}: it has the checksum that OSS stores\n", "")
    before = {item.uri for item in client.list(f"{objects}/")}
    assert run("rm", uri, "--dry-run") == (0, f"{uri}\n", "")
    assert {item.uri for item in client.list(f"{objects}/")} == before
    for leave in (f"{objects}/epoch-1", f"{objects}/epoch-4.txt", f"{objects}/epoch-", objects):
        assert run("rm", leave)[0] == 1
    assert run("rm", uri, "--leftovers")[:2] == (0, "")
    assert {item.uri for item in client.list(f"{objects}/")} == before
    assert run("rm", uri) == (0, f"{uri}\n", "")
    assert {item.uri for item in client.list(f"{objects}/")} == before - {uri}
    with emulator.fault(key="mixed/epoch-10.pt", operation="GetObject", error="AccessDenied"):
        status, out, _ = run("verify", f"{objects}/epoch-10.pt")
    assert (status, out.split()[0]) == (1, "damaged")
    assert run("rm", f"{objects}/epoch-1.pt")[0] == 1
