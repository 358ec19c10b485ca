"""`osst top` shows what other processes of this user wait for."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from osstorchconnector.dataset import private_directory
from osstorchconnector.testing import Emulator
from tests.cli.conftest import PROGRAM

JOB = """
import json, sys, time
from torch.utils.data import DataLoader
from osstorchconnector import OssMapDataset

def decode(item):
    time.sleep(float(sys.argv[1]))
    return len(item.read())

dataset = OssMapDataset.from_prefix("oss://jobs/data/", transform=decode, **json.loads(sys.argv[3]))
while True:
    for batch in DataLoader(dataset, batch_size=4, num_workers=2):
        print("batch", flush=True)
        time.sleep(float(sys.argv[2]))
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    # The jobs of other tests are not in it.
    return tmp_path


def job(emulator: Emulator, directory: Path, transform: float, pause: float) -> "subprocess.Popen[bytes]":
    settings = json.dumps(emulator.connection)
    command = [sys.executable, "-W", "ignore", "-c", JOB, str(transform), str(pause), settings]
    return subprocess.Popen(command, env={**os.environ, "TMPDIR": str(directory)}, stdout=subprocess.PIPE)


@pytest.fixture
def stored(emulator: Emulator) -> Emulator:
    emulator.create_bucket("jobs")
    for number in range(40):
        emulator.client().put(f"oss://jobs/data/{number}", b"x")
    return emulator


@pytest.mark.slow(90)
@pytest.mark.parametrize(("transform", "pause", "cause"), [(0.05, 0.0, "transform"), (0.0, 0.5, "program")])
def test_a_running_job_is_seen(stored: Emulator, directory: Path, transform: float, pause: float, cause: str) -> None:
    with job(stored, directory, transform, pause) as process:
        try:
            assert process.stdout is not None
            for _ in range(6):
                assert process.stdout.readline() == b"batch\n"
            for _ in range(5):
                ended = _top("--json", "--interval", "3", directory=directory)
                assert ended.returncode == 0, ended.stderr
                seen: dict[str, Any] = json.loads(ended.stdout)
                if seen["waits_for"] != "nothing":
                    break
                # Between two epochs, on a busy machine.
            assert (seen["process"], seen["kind"], seen["place"]) == (process.pid, "OssMapDataset", "oss://jobs/data/")
            assert seen["waits_for"] == cause, seen
            assert seen["samples_per_second"] > 0
            shown = _top("--interval", "3", directory=directory).stdout
            assert shown.startswith(f"process {process.pid}  OssMapDataset  oss://jobs/data/\n")
            assert " samples, " in shown
        finally:
            process.kill()
    ended = _top("--interval", "0.1", directory=directory)
    assert ended.returncode == 1
    assert ended.stdout.startswith(f"no process of this user reads a dataset; looked in {directory}, ")


def _top(*arguments: str, directory: Path) -> "subprocess.CompletedProcess[str]":
    command = [*PROGRAM, "top", "--once", "--directory", str(directory), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_what_is_no_file_of_a_job_is_passed_over(directory: Path) -> None:
    made = directory / private_directory._new_name()
    made.mkdir()
    for content in ("", "{", "[]", '{"samples": "many"}'):
        (made / "about.json").write_text('{"kind": "OssMapDataset", "place": "oss://a/"}')
        (made / "stats.json").write_text(content)
        ended = _top("--interval", "0.1", directory=directory)
        assert "Traceback" not in ended.stderr
        assert ended.returncode == (0 if content == "" else 1)
