"""How much memory a save in the background takes, in a process of its own."""

import json
import subprocess
import sys

import pytest

from osstorchconnector import OssClient, OssConfig
from osstorchconnector.testing import Emulator

MIB = 1 << 20
STATE = 512 * MIB
# One upload: what is in flight, and the part that is being filled.
UPLOAD = (OssConfig.upload_concurrency + 1) * OssConfig.part_size
# Threads and the pieces of requests; less than 2 MiB were measured.
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


connection, place, size, threads = json.loads(sys.argv[1])
file_system = OssFileSystem(**connection)
# What only a first save takes is not the state's.
dcp.async_save({"a": torch.ones(2)}, storage_writer=file_system.writer(f"{place}/first")).result()
tensors = {str(number): torch.ones(size // 32) for number in range(8)}
before = status("VmRSS")
Path("/proc/self/clear_refs").write_text("5")
saving = dcp.async_save(tensors, storage_writer=file_system.writer(f"{place}/second", thread_count=threads))
staged = status("VmHWM")
saving.result()
print(json.dumps([staged - before, status("VmHWM") - before]))
"""


@pytest.mark.slow(120)
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("threads", [1, 2])
def test_a_save_in_the_background_takes_one_copy_and_the_uploads(
    emulator: Emulator, client: OssClient, place: str, threads: int
) -> None:
    arguments = json.dumps([emulator.connection, place, STATE, threads])
    # Slow enough that as many parts are on their way as may be.
    with emulator.fault(operation="UploadPart", delay=0.3):
        emulator.clear_requests()
        done = subprocess.run([sys.executable, "-c", PROGRAM, arguments], check=True, capture_output=True, text=True)
    staged, peak = json.loads(done.stdout)
    client.delete_many([item.uri for item in client.list(f"{place}/")])
    assert emulator.peak_concurrency() == threads * OssConfig.upload_concurrency
    assert staged >= STATE
    assert peak < STATE + threads * UPLOAD + REST, (staged / MIB, peak / MIB)
