"""Starts the ranks of a program run, and collects what each got in each cell."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.frameworks.cells import COUNTS, WAYS, Cell

ROOT = Path(__file__).parents[2]
# What a program that torchrun or a trainer starts must not see of this one.
_FOREIGN = ("OSS_", "RANK", "WORLD_SIZE", "LOCAL_", "GROUP_", "MASTER_", "TORCHELASTIC_", "PYTEST_")


def fill(folder: Path) -> None:
    """Write the objects: a folder of files for each number of them."""
    for count in COUNTS:
        (folder / str(count)).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            (folder / str(count) / f"{number:03}").write_bytes(b"x")


def _environment() -> dict[str, str]:
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)},
        "PYTHONPATH": os.pathsep.join([str(ROOT / "python"), str(ROOT)]),
        "GLOO_SOCKET_IFNAME": "lo",
        "OMP_NUM_THREADS": "1",
        "ACCELERATE_USE_CPU": "true",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "RAY_USAGE_STATS_ENABLED": "0",
        # Ray would start its workers with a low priority, and they get no time beside other programs.
        "RAY_worker_niceness": "0",
    }


def _of_rank(rank: int, world: int) -> dict[str, str]:
    """Return the variables of a rank, as torchrun makes them."""
    return {
        "RANK": str(rank),
        "WORLD_SIZE": str(world),
        "LOCAL_RANK": "0",
        "GROUP_RANK": str(rank),
        "LOCAL_WORLD_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1",
        # The ranks meet by a file; the frameworks only want to see a port.
        "MASTER_PORT": "29500",
        "TORCHELASTIC_RUN_ID": "tests",
    }


def run(
    folder: Path, cells: Sequence[Cell], seconds: float, python: str = sys.executable
) -> list[tuple[Cell, list[Any]]]:
    """Run cells of one world, and return what each rank got in each cell.

    Raises:
        AssertionError: A rank failed, or they did not end in time.
    """
    (world,) = {cell.world for cell in cells}
    folder.mkdir(parents=True, exist_ok=True)
    fill(folder)
    (folder / "cells.json").write_text(json.dumps([cell.as_json() for cell in cells]))
    if {WAYS[cell.way].framework for cell in cells} == {"ray"}:
        _run_programs(folder, [(["ray_driver", str(world), str(folder)], {})], seconds, python)
    else:
        run_ranks(folder, world, "rank", seconds, python)
    found = [json.loads((folder / f"rank-{rank}.json").read_text()) for rank in range(world)]
    return list(zip(cells, map(list, zip(*found, strict=True)), strict=True))


def run_ranks(folder: Path, world: int, program: str, seconds: float, python: str = sys.executable) -> list[Path]:
    """Run a program once for each rank, with the path of a store and the folder; return the files of what they wrote.

    Raises:
        AssertionError: A rank failed, or they did not end in time.
    """
    (folder / "store").unlink(missing_ok=True)
    arguments = [program, str(folder / "store"), str(folder)]
    return _run_programs(folder, [(arguments, _of_rank(rank, world)) for rank in range(world)], seconds, python)


def _run_programs(
    folder: Path, programs: Sequence[tuple[list[str], dict[str, str]]], seconds: float, python: str
) -> list[Path]:
    processes, logs = [], []
    for number, ((name, *arguments), variables) in enumerate(programs):
        logs.append(folder / f"program-{number}.log")
        command = [python, "-P", "-m", f"tests.frameworks.programs.{name}", *arguments]
        with logs[-1].open("w") as log:
            environment = {**_environment(), **variables}
            processes.append(subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT))
    end = time.monotonic() + seconds
    try:
        # If one fails, the others may wait for it.
        while any(process.poll() is None for process in processes) and time.monotonic() < end:
            if any(process.poll() for process in processes):
                break
            time.sleep(0.05)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    written = "\n".join(log.read_text()[-4000:] for log in logs)
    statuses = [process.returncode for process in processes]
    assert not any(statuses), f"the programs ended with {statuses}, and wrote:\n{written}"
    return logs
