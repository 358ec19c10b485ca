"""torch.save and torch.load of a state, beside the original, a bare loop of send, and a file in the page cache."""

from pathlib import Path

from benchmarks.suite.contenders import BUCKET, FLOOR, ORIGINAL, OURS, S3, contender, contenders
from benchmarks.suite.measure import Row, alternate
from benchmarks.suite.objects import saved_state
from benchmarks.suite.servers import emulator, nginx, sink, write_objects

SIZE = 2 << 30
KEY = "state.pt"
LOCAL = "local file"


def run(folder: Path, rounds: int) -> list[Row]:
    """Measure saving into a sink and into the emulator, and loading from nginx."""
    task = {"name": f"{BUCKET}/{KEY}", "size": SIZE, "expected": SIZE}
    with sink(folder) as site:
        found = contenders((OURS, ORIGINAL), site, {**task, "job": "save"})
        found[FLOOR] = contender(FLOOR, site, {**task, "job": "send"})
        rows = alternate("torch.save of 2 GiB into a sink", "bytes", found, rounds)
    with emulator(folder) as (_, site):
        found = contenders((OURS, ORIGINAL), site, {**task, "job": "save"})
        rows += alternate("torch.save of 2 GiB into the emulator", "bytes", found, rounds)
    sums = write_objects(folder, [(KEY, saved_state(folder, SIZE))])
    path = folder / "files" / BUCKET / KEY
    with nginx(folder, sums) as site:
        found = contenders((OURS, ORIGINAL, S3), site, {**task, "job": "load"})
        found[LOCAL] = contender(LOCAL, site, {**task, "job": "load_file", "path": str(path)})
        rows += alternate("torch.load of 2 GiB", "bytes", found, rounds)
    return rows
