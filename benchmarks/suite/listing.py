"""Listing a million keys into a map dataset, and the same with fast list at 20 ms a page."""

import json
from pathlib import Path

from benchmarks.suite.contenders import BUCKET, ORIGINAL, OURS, Site, contender, contenders
from benchmarks.suite.measure import Row, alternate
from benchmarks.suite.objects import fill
from benchmarks.suite.servers import emulator

KEYS = 1_000_000
PAGE_SECONDS = 0.020


def fast_list(site: Site) -> str:
    """Return the documented configuration file with fast list switched on."""
    config = json.loads(Path(site.config_path).read_text())
    config["datasetConfig"]["enableFastList"] = True
    path = site.folder / "fast-list.json"
    path.write_text(json.dumps(config))
    return str(path)


def run(folder: Path, rounds: int) -> list[Row]:
    """Measure both."""
    with emulator(folder) as (server, site):
        fill(server, KEYS, 100)
        task = {"job": "listing", "uri": f"oss://{BUCKET}/", "expected": KEYS}
        rows = alternate("a million keys", "keys", contenders((OURS, ORIGINAL), site, task), rounds)
        server.fault(operation=["ListObjects", "ListObjectsV2"], delay=PAGE_SECONDS)
        found = {name: contender(name, site, {**task, "config_path": fast_list(site)}) for name in (OURS, ORIGINAL)}
        return rows + alternate("a million keys, fast list, 20 ms a page", "keys", found, rounds)
