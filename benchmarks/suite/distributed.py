"""Distributed checkpoints of two ranks, beside the original.

They are saved into the sink and the emulator, and loaded from nginx. All contenders load what this package has saved,
because its files are those of torch. torch's fsspec storage over ossfs does not run: ossfs appends its second block
at a wrong position (PositionNotEqualToLength).
"""

from pathlib import Path

from benchmarks.suite.contenders import BUCKET, ORIGINAL, OURS, contender, contenders
from benchmarks.suite.measure import Row, alternate
from benchmarks.suite.servers import emulator, nginx, sink, write_objects

SIZE = 2 << 30
CHECKPOINT = "checkpoint"


def run(folder: Path, rounds: int) -> list[Row]:
    """Measure saving and loading."""
    task = {"job": "distributed", "load": False, "size": SIZE, "name": f"{BUCKET}/{CHECKPOINT}"}
    with sink(folder) as site:
        found = contenders((OURS, ORIGINAL), site, task)
        rows = alternate("DCP save of 2 GiB into a sink, 2 ranks", "bytes", found, rounds)
    with emulator(folder) as (server, site):
        # Each contender has its own prefix: a save deletes the checkpoint it replaces, and knows only its own files.
        found = contenders((OURS,), site, task)
        found |= contenders((ORIGINAL,), site, {**task, "name": f"{BUCKET}/original"})
        rows += alternate("DCP save of 2 GiB into the emulator, 2 ranks", "bytes", found, rounds)
        contender(OURS, site, task)()
        client = server.client()
        saved = [(item.name, client.get(item.uri)) for item in client.list(f"oss://{BUCKET}/{CHECKPOINT}/")]
    sums = write_objects(folder, saved)
    del saved
    with nginx(folder, sums) as site:
        found = contenders((OURS, ORIGINAL), site, {**task, "load": True})
        return rows + alternate("DCP load of 2 GiB, 2 ranks", "bytes", found, rounds)
