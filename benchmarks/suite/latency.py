"""Datasets at the 35 ms that OSS takes to the first byte, with no configuration file and with the documented one."""

from pathlib import Path

from benchmarks.suite.contenders import BUCKET, ORIGINAL, OURS, contender, contenders
from benchmarks.suite.measure import Row, alternate
from benchmarks.suite.objects import COUNT, fill
from benchmarks.suite.servers import emulator

FIRST_BYTE_SECONDS = 0.035
OURS_CONFIGURED = f"{OURS}, documented config.json"
# The peers read only some of the objects: all of them would take half an hour.
_PEER_COUNT = {("iterable", 0): 4_000, ("iterable", 2): 8_000, ("map", 2): 4_000}


def run(folder: Path, rounds: int) -> list[Row]:
    """Measure 100 KB, iterable and map, without and with workers."""
    rows = []
    names = folder / "names"
    with emulator(folder) as (server, site):
        names.write_text("\n".join(f"{BUCKET}/{key}" for key in fill(server, COUNT, 100_000)))
        server.fault(operation="GetObject", delay=FIRST_BYTE_SECONDS)
        for dataset, workers in (("iterable", 0), ("iterable", 2), ("map", 2)):
            task = {"job": "small", "dataset": dataset, "workers": workers, "names": str(names)}
            whole, part = {"count": COUNT, "expected": COUNT}, {}
            part["count"] = part["expected"] = _PEER_COUNT[dataset, workers]
            found = contenders((OURS,), site, {**task, **whole})
            found[OURS_CONFIGURED] = contender(OURS, site, {**task, **whole}, config_path=site.config_path)
            found |= contenders((ORIGINAL,), site, {**task, **part})
            rows += alternate(f"100 KB at 35 ms, {dataset}, {workers} workers", "objects", found, rounds)
    return rows
