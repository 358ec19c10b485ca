"""How long a training waits for ``async_save``, which uploads in the background once it has copied the state.

The second save of a job is measured: the first one starts the process or the thread that uploads, and touches the
memory of the copy. Beside it stands the copy alone, with the same stager of torch.
"""

from pathlib import Path

from benchmarks.suite.contenders import BUCKET, FLOOR, ORIGINAL, OURS, S3, contender, contenders
from benchmarks.suite.measure import Row, alternate
from benchmarks.suite.servers import sink

SIZE = 1 << 30
#: Stagers of torch, and what uploads. Those with pinned memory need an accelerator.
VARIANTS = [(stager, kind) for kind in ("thread", "process") for stager in ("default", "blocking", "shared")]


def work(stager: str, kind: str) -> str:
    """Return the name of a row."""
    return f"wait for async_save of 1 GiB, {stager} stager, {kind}"


def run(folder: Path, rounds: int) -> list[Row]:
    """Measure each stager with each kind of upload that takes it."""
    rows = []
    with sink(folder) as site:
        for stager, kind in VARIANTS:
            task = {"job": "async_save", "size": SIZE, "stager": stager, "kind": kind, "name": f"{BUCKET}/checkpoint"}
            found = contenders((OURS, ORIGINAL, S3), site, {**task, "expected": 1})
            found[FLOOR] = contender(FLOOR, site, {**task, "expected": 1})
            rows += alternate(work(stager, kind), "times", found, rounds)
    return rows
