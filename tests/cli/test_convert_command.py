"""`osst checkpoint convert`."""

import signal
import subprocess
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch

from osstorchconnector import OssCheckpoint, OssSafetensor
from osstorchconnector.testing import Emulator
from tests.cli.conftest import PROGRAM, Osst

CONTENT = {"model": {"a": torch.rand(4, 4), "b": torch.rand(3)}, "step": 5}


@pytest.fixture
def uri(emulator: Emulator, bucket: str) -> str:
    OssCheckpoint(**emulator.connection).save(CONTENT, f"oss://{bucket}/a.pt")
    return f"oss://{bucket}/a.pt"


def test_there_and_back_again(osst: Osst, uri: str, bucket: str, tmp_path: Path) -> None:
    ended = osst("checkpoint", "convert", uri, tmp_path / "dcp")
    assert (ended.status, ended.out) == (0, "")
    assert ended.err == f"osst checkpoint: 2 tensors of 76 B and 1 other entries are at {tmp_path / 'dcp'} (dcp)\n"
    document = {"source": str(tmp_path / "dcp"), "target": f"oss://{bucket}/hf/", "form": "hf"}
    ended = osst("checkpoint", "convert", "--json", tmp_path / "dcp", f"oss://{bucket}/hf/", "--strip", "model.")
    assert ended.documents == [document | {"tensors": 2, "objects": 0, "bytes": 76}]
    assert osst("checkpoint", "convert", f"oss://{bucket}/hf/", tmp_path / "x.safetensors", "--keys", "a").status == 0
    assert torch.equal(safetensors.torch.load_file(tmp_path / "x.safetensors")["a"], CONTENT["model"]["a"])  # type: ignore[index]
    assert osst("checkpoint", "convert", uri, tmp_path / "plain", "--to", "torch").status == 0
    assert torch.load(tmp_path / "plain", weights_only=True)["step"] == 5


def test_wrong_words(osst: Osst, uri: str, bucket: str, tmp_path: Path) -> None:
    for words, status, complaint in (
        ([uri, f"oss://{bucket}/hf/", "--to", "hf"], 1, "has 1 entries that are no tensors, such as 'step'"),
        ([uri, tmp_path / "x", "--to", "gguf"], 2, "gguf"),
        ([uri, "OSS://bucket/x"], 2, "is no object's URI"),
        ([uri, uri], 1, "is there already: give a target where nothing is"),
        ([tmp_path / "none", uri], 1, "does not exist"),
        ([uri, tmp_path / "x", "--max-shard-size", "5"], 1, "max_shard_size must be a number of bytes or a text"),
    ):
        ended = osst("checkpoint", "convert", *words)
        assert (ended.status, complaint in ended.err) == (status, True), ended.err


@pytest.mark.slow(120)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_conversion_leaves_nothing(
    connection: list[str], emulator: Emulator, bucket: str, tmp_path: Path, number: int
) -> None:
    # Two of them are more than is read at once.
    content = {str(index): torch.zeros(33 << 18) for index in range(3)}
    OssSafetensor(**emulator.connection).save_file(content, f"oss://{bucket}/from.safetensors")
    with emulator.fault(operation="GetObject", bandwidth=20e6):
        command = [
            *PROGRAM,
            "checkpoint",
            "convert",
            f"oss://{bucket}/from.safetensors",
            str(tmp_path / "to/"),
            *connection,
        ]
        process = subprocess.Popen([*command, "--to", "hf", "--max-shard-size", "33MiB"], stderr=subprocess.PIPE)
        limit = time.monotonic() + 60
        while not list(tmp_path.glob("to/*.safetensors")):
            assert time.monotonic() < limit
            time.sleep(0.01)
        process.send_signal(number)
        process.communicate(timeout=30)
    assert process.returncode == 130
    assert list(tmp_path.glob("to/*")) == []
