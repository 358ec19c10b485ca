"""``osst checkpoint`` of folders that the integrations with training frameworks wrote."""

from collections.abc import Callable
from pathlib import Path

import pytest

from osstorchconnector import OssClient
from osstorchconnector.checkpoint.folder_list import LIST
from osstorchconnector.checkpoint.folders import CheckpointFolders
from osstorchconnector.cli.__main__ import main
from osstorchconnector.testing import Emulator

FILES = {"model.safetensors": 3000, "pytorch_model_fsdp_0/.metadata": 10, "pytorch_model_fsdp_0/__0_0.distcp": 2000}
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
def prefix(client: OssClient, bucket: str, tmp_path: Path) -> str:
    """A prefix with three folders: one whole, one without a file, one whose list was never written."""
    for name, size in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * size)
    prefix = f"oss://{bucket}/run"
    folders = CheckpointFolders(client, prefix)
    for name in ("checkpoint-1", "checkpoint-2", "checkpoint-3"):
        folders.save(tmp_path, name)
    client.delete(f"{prefix}/checkpoint-2/model.safetensors")
    client.delete(f"{prefix}/checkpoint-3/{LIST}")
    client.delete(f"{prefix}/checkpoint-3/pytorch_model_fsdp_0/.metadata")
    return prefix


def states(out: str) -> dict[str, str]:
    return {line.split()[-1]: line.split()[0] for line in out.splitlines() if not line.startswith(" ")}


@pytest.mark.parametrize("end", ["", "/", "/check"])
def test_ls_says_which_folders_are_whole_and_names_no_parts(run: Run, prefix: str, end: str) -> None:
    status, out, _ = run("ls", f"{prefix}{end}")
    assert status == 0
    found = {uri: state for uri, state in states(out).items() if "checkpoint-3" not in uri}
    assert found == {f"{prefix}/checkpoint-1": "complete", f"{prefix}/checkpoint-2": "incomplete"}
    assert "    model.safetensors is missing\n" in out
    assert "3 files    4.9 KiB" in out


def test_one_folder_is_shown_by_its_own_uri(run: Run, prefix: str) -> None:
    assert states(run("ls", f"{prefix}/checkpoint-1")[1]) == {f"{prefix}/checkpoint-1": "complete"}
    assert states(run("ls", f"{prefix}/checkpoint-1/")[1]) == {f"{prefix}/checkpoint-1": "complete"}


def test_verify_reads_every_file(run: Run, client: OssClient, prefix: str) -> None:
    uri = f"{prefix}/checkpoint-1"
    assert run("verify", uri)[:2] == (0, f"whole   {uri}: 3 files have their checksums\n")
    status, out, _ = run("verify", f"{prefix}/checkpoint-2")
    assert (status, out) == (1, f"damaged {prefix}/checkpoint-2: model.safetensors is missing\n")
    client.put(f"{uri}/model.safetensors", b"y" * FILES["model.safetensors"])
    status, out, _ = run("verify", uri)
    assert (status, out) == (1, f"damaged {uri}: model.safetensors has other bytes than were saved\n")


def test_another_size_is_seen_without_reading(run: Run, client: OssClient, prefix: str) -> None:
    client.put(f"{prefix}/checkpoint-1/model.safetensors", b"y")
    assert "    model.safetensors has 1 bytes, and 3000 were saved\n" in run("ls", f"{prefix}/checkpoint-1")[1]


def test_a_damaged_list_is_reported(run: Run, client: OssClient, prefix: str) -> None:
    client.put(f"{prefix}/checkpoint-1/{LIST}", b"{")
    status, out, _ = run("ls", f"{prefix}/checkpoint-1")
    assert status == 0
    assert states(out) == {f"{prefix}/checkpoint-1": "incomplete"}
    assert f"{LIST} is damaged" in out
    assert run("verify", f"{prefix}/checkpoint-1")[0] == 1
    # Nothing is known about its other objects.
    assert run("rm", f"{prefix}/checkpoint-1", "--leftovers")[:2] == (0, "")


def test_rm_deletes_one_folder_its_list_first(run: Run, client: OssClient, emulator: Emulator, prefix: str) -> None:
    uri = f"{prefix}/checkpoint-1"
    before = {item.uri for item in client.list(f"{prefix}/")}
    _, expected, _ = run("rm", uri, "--dry-run")
    assert {item.uri for item in client.list(f"{prefix}/")} == before
    with emulator.fault(operation="DeleteMultipleObjects", error="AccessDenied"):
        assert run("rm", uri)[0] == 1
    assert f"{uri}/{LIST}" not in {item.uri for item in client.list(f"{prefix}/")}
    client.put(f"{uri}/{LIST}", b"{}")
    status, out, _ = run("rm", uri)
    assert (status, out) == (0, expected)
    assert before - {item.uri for item in client.list(f"{prefix}/")} == set(out.splitlines())
    assert all(deleted.startswith(f"{uri}/") for deleted in out.splitlines())
    status, _, error = run("rm", prefix)
    assert status == 1
    assert "there is no checkpoint at" in error


def test_leftovers_of_another_save_are_found_and_deleted(run: Run, client: OssClient, prefix: str) -> None:
    uri = f"{prefix}/checkpoint-1"
    client.put(f"{uri}/0123456789abcdef/model.safetensors", b"x")
    assert "    1 objects of 1 B are leftovers of other saves\n" in run("ls", uri)[1]
    assert run("rm", uri, "--leftovers")[:2] == (0, f"{uri}/0123456789abcdef/model.safetensors\n")
    assert run("verify", uri)[0] == 0
