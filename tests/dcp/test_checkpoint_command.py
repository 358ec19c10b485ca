"""``osst checkpoint``."""

from collections.abc import Callable

import pytest
import torch
import torch.distributed.checkpoint as dcp

from osstorchconnector import OssClient, OssFileSystem
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
    assert run("ls", f"{prefix}/nothing")[:2] == (0, "")


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
