"""Memory that reading takes beyond the tensors that the caller keeps, measured in a process of its own."""

import json
import subprocess
import sys

import pytest
import torch

from osstorchconnector import OssClient
from osstorchconnector.testing import Emulator
from tests.model.models import put

MIB = 1 << 20
BUDGET = 128 * MIB
# The C library keeps smaller memory that is freed.
TENSOR = 33 * MIB
COUNT = 8
# Connections, threads, and what the allocator of the C library keeps.
REST = 24 * MIB

PROGRAM = """
import json, sys
from pathlib import Path
import torch
from osstorchconnector.model import open_model


def status(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(name))


connection, uri, budget, how = json.loads(sys.argv[1])
with open_model(uri, **connection, budget=budget, concurrency=32) as model:
    # The first pass loads code and opens connections.
    model.load(["tensor.0"])
    given = {name: torch.zeros(info.shape, dtype=info.torch_dtype) for name, info in model.tensors.items()}
    if how != "given":
        given = {}
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    if how == "drop":
        for name, tensor in model:
            del tensor
    elif how == "convert":
        for name, tensor in model.iterate(dtype=torch.float64):
            del tensor
    elif how == "load":
        kept = model.load()
    else:
        model.load_into(given)
    print(status("VmHWM") - before)
"""


@pytest.mark.slow(120)
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("how", ["drop", "convert", "load", "given"])
def test_reading_takes_one_budget_beyond_what_is_kept(
    emulator: Emulator, client: OssClient, bucket: str, how: str
) -> None:
    for number in range(2):
        part = {f"tensor.{index}": torch.ones(TENSOR // 4) for index in range(number, COUNT, 2)}
        put(client, f"oss://{bucket}/m-{number + 1}-of-2.safetensors", part)
    arguments = json.dumps([emulator.connection, f"oss://{bucket}/", BUDGET, how])
    done = subprocess.run([sys.executable, "-c", PROGRAM, arguments], check=True, capture_output=True, text=True)
    client.delete_many([item.uri for item in client.list(f"oss://{bucket}/")])
    kept = COUNT * TENSOR if how == "load" else 0
    assert int(done.stdout) <= kept + BUDGET + REST, (int(done.stdout) - kept) / MIB
