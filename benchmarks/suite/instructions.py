"""Instructions and allocations for each small object, counted by callgrind: noise of the machine does not change them.

A stream in one process without torch is counted twice, once with twice as many objects. The difference of the two
counts leaves out the start of the process and of the stream. If the extension was built with its symbols,
``python -m benchmarks.suite.instructions FUNCTIONS`` prints the FUNCTIONS functions that take most.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from benchmarks.suite.contenders import OURS, REGION, Site
from benchmarks.suite.measure import ROOT, Row, Run
from benchmarks.suite.objects import write_small
from benchmarks.suite.servers import nginx

# Enough to count what happens once in hundreds of objects, and few enough that valgrind takes seconds.
_COUNT = 2_000

_PROGRAM = """
import json, sys
from osstorchconnector import OssClient
from osstorchconnector._native import ObjectTable, Order
task = json.load(open(sys.argv[1]))
client = OssClient(task["endpoint"], cred_path=task["cred_path"], region=task["region"])
table = ObjectTable.from_uris(f"oss://{name}" for name in task["names"])
length = sum(len(item.read()) for item in client._native_client.stream(table, Order()))
"""

# A line of `callgrind_annotate`: instructions, their share, and the function with its file.
_LINE = re.compile(r"^ *([\d,]+) \([ \d.]+%\) +(?:.*/)?[^:]*:(.*?)(?: \[(.*)\])?$")

# Callgrind's file: a function's number stands with its name the first time. Calls follow the function that is called.
_FUNCTION = re.compile(r"^c?fn=\((\d+)\)(?: (.*))?$")
_CALLS = re.compile(r"^calls=(\d+) ")
# Python takes the arenas of its small objects from here, so its objects are not counted one by one.
_ALLOCATE = frozenset({"malloc", "calloc", "realloc", "posix_memalign", "aligned_alloc", "memalign"})


Function = tuple[str, str]


@dataclass(frozen=True)
class Count:
    """The cost of `_COUNT` objects: instructions of each function and its library, and calls that allocate memory."""

    instructions: Counter[Function]
    allocations: int

    @property
    def total(self) -> float:
        """Instructions for each object."""
        return sum(self.instructions.values()) / _COUNT

    @property
    def libraries(self) -> dict[str, float]:
        """Instructions for each object in each shared library that takes at least one."""
        libraries: Counter[str] = Counter()
        for (_, library), number in self.instructions.items():
            libraries[library] += number
        return {library: number / _COUNT for library, number in libraries.items() if number >= _COUNT}

    def show(self) -> str:
        """Return both as text."""
        return f"{self.total:,.0f} instructions and {self.allocations / _COUNT:.1f} allocations for each object"


def run(folder: Path, _rounds: int) -> list[Row]:
    """Count 100 KB and 4 KB; a count needs no rounds."""
    if shutil.which("valgrind") is None:
        print("valgrind is missing: instructions are not counted; on Debian: apt-get install valgrind")
        return []
    rows = []
    for mean in (100_000, 4_000):
        counted = count(folder / str(mean), mean)
        print(f"  {mean // 1000} KB: {counted.show()}", flush=True)
        facts = {**counted.libraries, "allocations": counted.allocations / _COUNT}
        rows.append(Row(f"{mean // 1000} KB", OURS, "instructions", [Run(counted.total, 1, 0, 0)], facts))
    return rows


def count(folder: Path, mean: int) -> Count:
    """Return the cost of objects of a mean size."""
    folder.mkdir()
    sums, names = write_small(folder, mean, 2 * _COUNT)
    with nginx(folder, sums) as site:
        once, twice = (_counted(site, names, times * _COUNT) for times in (1, 2))
    twice.instructions.subtract(once.instructions)
    return Count(twice.instructions, twice.allocations - once.allocations)


def _counted(site: Site, names: Path, number: int) -> Count:
    output = site.folder / "callgrind.out"
    keys = names.read_text().split()[:number]
    task = {"endpoint": site.endpoint, "cred_path": site.cred_path, "region": REGION, "names": keys}
    program = site.folder / "program.py"
    program.write_text(_PROGRAM)
    given = site.folder / "task.json"
    given.write_text(json.dumps(task))
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "python")}
    # valgrind runs one thread at a time: fair scheduling gives a waiting thread its turn.
    command = ["valgrind", "--tool=callgrind", "--fair-sched=yes", f"--callgrind-out-file={output}"]
    command += [sys.executable, str(program), str(given)]
    subprocess.run(command, check=True, capture_output=True, env=environment)
    annotated = ["callgrind_annotate", "--threshold=100", "--auto=no", str(output)]
    text = subprocess.run(annotated, check=True, capture_output=True, text=True).stdout
    found: Counter[Function] = Counter()
    for line in text.splitlines():
        if (match := _LINE.match(line)) is not None:
            library = Path(match[3] or "unknown").name
            found[match[2], library] += int(match[1].replace(",", ""))
    return Count(found, _allocations(output))


def _allocations(output: Path) -> int:
    names: dict[str, str] = {}
    called, calls = "", 0
    with output.open() as lines:
        for line in lines:
            if (function := _FUNCTION.match(line)) is not None:
                called = function[1]
                if function[2]:
                    names[called] = function[2]
            elif (number := _CALLS.match(line)) is not None and names[called] in _ALLOCATE:
                calls += int(number[1])
    return calls


def main() -> int:
    """Print the functions that take most."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("functions", type=int, help="how many to print")
    arguments = parser.parse_args()
    for mean in (100_000, 4_000):
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            counted = count(Path(folder) / "files", mean)
        print(f"\n{mean // 1000} KB: {counted.show()}")
        for (function, library), instructions in counted.instructions.most_common(arguments.functions):
            print(f"{instructions / _COUNT:10,.0f}  {library:28} {function}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
