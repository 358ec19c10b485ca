import re
import subprocess
import sys
from pathlib import Path

import pytest

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
