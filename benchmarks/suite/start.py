"""How long a user waits: for the import, and for the first batch of two workers."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

from benchmarks.suite.contenders import BUCKET, ORIGINAL, OURS, PATHS, contenders
from benchmarks.suite.measure import Row, Run, alternate
from benchmarks.suite.objects import PREFIX, fill
from benchmarks.suite.servers import emulator

_PROGRAM = """
import resource, time
{before}
used = lambda: sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
start, cpu = time.perf_counter(), used()
{statement}
print(time.perf_counter() - start, used() - cpu)
"""


# `import osstorchconnector` loads all of the original; this loads the same names of this package.
_USED = "from osstorchconnector import OssCheckpoint, OssIterableDataset, OssMapDataset"


def imported(name: str, before: str, statement: str) -> Run:
    """Import a connector in a fresh interpreter."""
    environment = {**os.environ, "PYTHONPATH": str(PATHS[name])}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-c", _PROGRAM.format(before=before, statement=statement)]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    seconds, cpu = map(float, done.stdout.split())
    return Run(1, seconds, cpu, 0)


def run(folder: Path, rounds: int) -> list[Row]:
    """Measure all three."""
    alone = {OURS: partial(imported, OURS, "", "import osstorchconnector")}
    rows = alternate("import, without torch", "times", alone, 2 * rounds)
    names = [name for name in (OURS, ORIGINAL) if PATHS[name].exists()]
    after = {name: partial(imported, name, "import torch.utils.data", _USED) for name in names}
    rows += alternate("import, after torch", "times", after, 2 * rounds)
    with emulator(folder) as (server, site):
        fill(server, 1000, 100_000)
        task = {"job": "first_batch", "prefix": f"{BUCKET}/{PREFIX}/"}
        return rows + alternate(
            "first batch of 64, 2 workers", "times", contenders((OURS, ORIGINAL), site, task), 2 * rounds
        )
