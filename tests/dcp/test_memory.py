"""Memory that a save in the background takes, measured in a process of its own."""

import json
import subprocess
import sys

import pytest

from osstorchconnector import OssClient, OssConfig
from osstorchconnector.testing import Emulator

MIB = 1 << 20
STATE = 512 * MIB
# One upload: the parts in flight, and the part that is being filled.
UPLOAD = (OssConfig.upload_concurrency + 1) * OssConfig.part_size
# Threads and requests; less than 2 MiB were measured.
REST = 16 * MIB

PROGRAM = """
import json, sys, warnings
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp

from osstorchconnector import OssFileSystem

warnings.simplefilter("ignore")


def status(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(name))


connection, checkpoint_uri, size, threads = json.loads(sys.argv[1])
file_system = OssFileSystem(**connection)
# A first save takes memory that later saves do not need.
dcp.async_save({"a": torch.ones(2)}, storage_writer=file_system.writer(f"{checkpoint_uri}/first")).result()
tensors = {str(number): torch.ones(size // 32) for number in range(8)}
before = status("VmRSS")
Path("/proc/self/clear_refs").write_text("5")
saving = dcp.async_save(tensors, storage_writer=file_system.writer(f"{checkpoint_uri}/second", thread_count=threads))
staged = status("VmHWM")
saving.result()
print(json.dumps([staged - before, status("VmHWM") - before]))
"""


@pytest.mark.slow(120)
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("threads", [1, 2])
def test_a_save_in_the_background_takes_one_copy_and_the_uploads(
    emulator: Emulator, client: OssClient, checkpoint_uri: str, threads: int
) -> None:
    arguments = json.dumps([emulator.connection, checkpoint_uri, STATE, threads])
    # Slow enough that the maximum number of parts is in flight.
    with emulator.fault(operation="UploadPart", delay=0.3):
        emulator.clear_requests()
        done = subprocess.run([sys.executable, "-c", PROGRAM, arguments], check=True, capture_output=True, text=True)
    staged, peak = json.loads(done.stdout)
    client.delete_many([item.uri for item in client.list(f"{checkpoint_uri}/")])
    assert emulator.peak_concurrency() == threads * OssConfig.upload_concurrency
    assert staged >= STATE
    assert peak < STATE + threads * UPLOAD + REST, (staged / MIB, peak / MIB)
