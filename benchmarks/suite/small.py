"""Datasets of small objects over nginx, beside the peers and a minimal client."""

import re
import resource
import subprocess
import time
from functools import partial
from pathlib import Path

from benchmarks.suite.contenders import BUCKET, FLOOR, ORIGINAL, OURS, S3, Site, contenders
from benchmarks.suite.measure import Row, Run, alternate
from benchmarks.suite.objects import COUNT, write_small
from benchmarks.suite.servers import nginx

# Connections of the minimal client: fewer make it wait for the server, more cost more.
_CONNECTIONS = 64
_WRK_SECONDS = 3
# The slowest peer reads only some of the objects, so that the part takes less than ten minutes.
_S3_COUNT = 3_000


def wrk(site: Site, keys: list[str]) -> Run:
    """Fetch the objects again and again with a minimal client."""
    script = site.folder / "get.lua"
    requests = ",\n".join(f'"GET /{BUCKET}/{key} HTTP/1.1\\r\\nHost: {site.host}\\r\\n\\r\\n"' for key in keys)
    script.write_text(
        f"local requests = {{\n{requests}\n}}\nlocal index = 0\n"
        "request = function() index = index % #requests + 1; return requests[index] end\n"
    )
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = ["wrk", "-t1", f"-c{_CONNECTIONS}", f"-d{_WRK_SECONDS}s", "-s", str(script), f"{site.endpoint}/"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    after, seconds = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - start
    count = re.search(r"(\d+) requests in", done.stdout)
    if count is None or "Non-2xx" in done.stdout:
        raise SystemExit(done.stdout)
    cpu = (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)
    return Run(float(count[1]), seconds, cpu, 0)


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
                found[FLOOR] = partial(wrk, site, list(sums))
            rows += alternate(f"{mean // 1000} KB, {dataset}, {workers} workers", "objects", found, rounds)
    return rows
