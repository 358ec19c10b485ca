import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from osstorchconnector.testing import Emulator

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.slow(180)
def test_train_digits_reaches_its_accuracy() -> None:
    result = subprocess.run(
        [sys.executable, str(EXAMPLES / "train_digits.py")], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    accuracy = re.search(r"test accuracy (\d+\.\d)%", result.stdout)
    assert accuracy is not None, result.stdout
    assert float(accuracy[1]) >= 95
    assert "images/s" in result.stdout


@pytest.mark.slow(180)
def test_train_digits_fails_below_its_accuracy() -> None:
    result = subprocess.run(
        [sys.executable, str(EXAMPLES / "train_digits.py"), "--epochs", "0"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert "below 95%" in result.stderr


@pytest.mark.slow(180)
def test_fsdp_checkpoint_resumes_where_it_saved() -> None:
    result = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
            str(EXAMPLES / "fsdp_checkpoint.py"),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    losses = re.search(r"steps: (\S+); resumed from the checkpoint: (\S+)", result.stdout)
    assert losses is not None, result.stdout
    assert losses[1] == losses[2]


def train_digits(emulator: Emulator, *options: str) -> "subprocess.Popen[str]":
    server = ["--endpoint", emulator.endpoint, "--cred-path", emulator.cred_path, "--region", emulator.region]
    command = [sys.executable, str(EXAMPLES / "train_digits.py"), "--epochs", "3", *server, *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def output_of(process: "subprocess.Popen[str]") -> str:
    output, errors = process.communicate(timeout=120)
    assert "Traceback" not in errors, errors
    return output


def weights_in(output: str) -> str:
    weights = re.search(r"weights ([0-9a-f]{16})", output)
    assert weights is not None, output
    return weights[1]


@pytest.fixture(scope="module")
def undisturbed_weights() -> str:
    with Emulator(buckets=["images"]) as undisturbed:
        return weights_in(output_of(train_digits(undisturbed, "--workers", "2")))


@pytest.mark.slow(240)
@pytest.mark.parametrize("workers", ["0", "2"])
def test_train_digits_killed_in_the_middle_of_an_epoch_ends_with_the_same_weights(
    undisturbed_weights: str, workers: str
) -> None:
    with Emulator(buckets=["images"]) as emulator:
        killed = train_digits(emulator, "--workers", workers, "--checkpoint-batches", "3")
        client = emulator.client()
        # 1,437 images are for training: this is a checkpoint within the second epoch.
        deadline = time.monotonic() + 100
        while not any(1500 < int(item.name[-11:-3]) < 2800 for item in client.list("oss://images/checkpoints/")):
            assert time.monotonic() < deadline
            assert killed.poll() is None
        killed.kill()
        killed.communicate()
        output = output_of(train_digits(emulator, "--workers", workers))
        assert "resuming from oss://images/checkpoints/" in output
        assert "epoch 1" not in output
        assert weights_in(output) == undisturbed_weights
