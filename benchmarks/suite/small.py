"""Datasets of small objects over nginx, beside the peers and a minimal client."""

from functools import partial
from pathlib import Path

from benchmarks.suite.contenders import FLOOR, ORIGINAL, OURS, S3, contenders
from benchmarks.suite.measure import Row, alternate
from benchmarks.suite.objects import COUNT, write_small
from benchmarks.suite.servers import nginx
from benchmarks.suite.wrk import wrk

# Connections of the minimal client: fewer make it wait for the server, more cost more.
_CONNECTIONS = 64
_WRK_SECONDS = 3
# The slowest peer reads only some of the objects, so that the part takes less than ten minutes.
_S3_COUNT = 3_000


def run(folder: Path, rounds: int) -> list[Row]:
    """Measure 100 KB, iterable and map, without and with workers."""
    return _measured(folder, rounds, 100_000)


def run_tiny(folder: Path, rounds: int) -> list[Row]:
    """Measure 4 KB: a part of its own, so that each takes less than ten minutes."""
    return _measured(folder, rounds, 4_000)


def _measured(folder: Path, rounds: int, mean: int) -> list[Row]:
    rows = []
    sums, names = write_small(folder, mean)
    with nginx(folder, sums) as site:
        for dataset, workers in (("iterable", 0), ("iterable", 2), ("map", 2)):
            task = {"job": "small", "dataset": dataset, "workers": workers, "names": str(names), "expected": COUNT}
            found = contenders((OURS, ORIGINAL), site, task)
            found |= contenders((S3,), site, {**task, "count": _S3_COUNT, "expected": _S3_COUNT})
            if workers == 0:
                found[FLOOR] = partial(wrk, site, list(sums), _CONNECTIONS, _WRK_SECONDS)
            rows += alternate(f"{mean // 1000} KB, {dataset}, {workers} workers", "objects", found, rounds)
    return rows
