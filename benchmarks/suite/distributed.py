"""Distributed checkpoints of two ranks through the emulator, beside the original and torch's fsspec storage over ossfs."""

from pathlib import Path

from benchmarks.suite.contenders import BUCKET, ORIGINAL, OSSFS, OURS, contenders
from benchmarks.suite.measure import Row, alternate
from benchmarks.suite.servers import emulator

SIZE = 2 << 30


def run(folder: Path, rounds: int) -> list[Row]:
    """Measure saving and loading."""
    rows = []
    (folder / "ossfs").mkdir()
    # ossfs takes the bucket into the path for an IPv4 address only.
    with emulator(folder) as (_, site), emulator(folder / "ossfs", "127.0.0.1") as (_, other):
        for load in (False, True):
            found = {}
            for name, place in ((OURS, site), (ORIGINAL, site), (OSSFS, other)):
                task = {"job": "distributed", "load": load, "size": SIZE, "name": f"{BUCKET}/{name.replace(' ', '-')}"}
                found |= contenders((name,), place, task)
            work = "DCP load of 2 GiB, 2 ranks" if load else "DCP save of 2 GiB, 2 ranks"
            rows += alternate(work, "bytes", found, rounds)
    return rows
