"""The main rows in each named condition: ``python -m benchmarks.suite.in_conditions nginx-nopush latency-35``.

Each contender is one process that has imported everything, and each job is a fork of it, so a condition takes less than
ten minutes. A slow contender gets fewer objects, and fewer rounds if one takes long.
"""

import argparse
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from benchmarks.suite.conditions import CONDITIONS, Ground, Objects, machine
from benchmarks.suite.contenders import BUCKET, FLOOR, ORIGINAL, OURS, PATHS, S3, Site, install_peers, task_of
from benchmarks.suite.measure import ROOT, JobFailedError, Row, Run, environment_of, show
from benchmarks.suite.objects import bodies, saved_state
from benchmarks.suite.report import write_report
from benchmarks.suite.servers import write_objects
from benchmarks.suite.wrk import wrk

KEYS = 20_000
_DISTINCT = 5_000
_PIECE = 1 << 20
_PILOT = 200
# Seconds that one job, and all jobs of one contender and row, take at most. The first ends it, the second ends rounds.
_PATIENCE, _MOST_SECONDS = 60, 30
# What a slow contender's job should take.
_WANTED_SECONDS = 1.5
_FLOOR_SECONDS = 2
_FLOOR_CONNECTIONS = {"objects": (16, 64, 256, 512), "bytes": (1, 4, 16, 48)}


@dataclass(frozen=True)
class Work:
    """One of the main rows."""

    name: str
    unit: str
    site: Callable[[Ground], Site]
    task: Mapping[str, Any]
    floor: str = ""


def works(large: int) -> list[Work]:
    """Return the main rows, with large objects of a size."""
    whole = {"name": f"{BUCKET}/large-{large}.bin", "size": large}
    state = {"name": f"{BUCKET}/state-{large}.pt", "size": large}
    kept = {"name": f"{BUCKET}/saved.pt", "size": large}
    keys = {"job": "listing", "uri": f"{BUCKET}/list/", "expected": KEYS}
    iterable = {"job": "small", "dataset": "iterable", "workers": 0}
    return [
        Work("100 KB, iterable", "objects", _reading, iterable, "wrk"),
        Work("100 KB, map, 2 workers", "objects", _reading, {"job": "small", "dataset": "map", "workers": 2}),
        Work("large, pieces of 1 MiB", "bytes", _reading, {"job": "read_into", **whole, "piece": _PIECE}, "receive"),
        Work("large, at once", "bytes", _reading, {"job": "read_into", **whole}, "receive"),
        Work("torch.load", "bytes", _reading, {"job": "load", **state}),
        Work("torch.save", "bytes", lambda ground: ground.saving, {"job": "save", **kept}, "send"),
        Work("listing", "keys", lambda ground: ground.listing, keys),
    ]


def _reading(ground: Ground) -> Site:
    return ground.reading


class Contender:
    """A process that runs the jobs of one connector, each in a fork."""

    def __init__(self, name: str, ground: Ground) -> None:
        """Start it with the first job."""
        self._name, self._ground = name, ground
        self._process: subprocess.Popen[str] | None = None
        self._received = b""

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        if self._process is not None:
            with self._process:
                self._process.kill()
            self._process, self._received = None, b""

    def run(self, site: Site, task: Mapping[str, Any]) -> Run:
        """Run one job.

        Raises:
            JobFailedError: It failed, or took too long.
        """
        connector = OURS if self._name == FLOOR else self._name
        whole = task_of(connector, site, task, config_path=self._ground.config_paths.get(connector, ""))
        process = self._process = self._process or self._started(connector, site)
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("it has no pipes")
        process.stdin.write(json.dumps(whole) + "\n")
        process.stdin.flush()
        result = self._answer(process.stdout.fileno())
        if "failed" in result:
            raise JobFailedError(f"status {result['failed']}")
        expected = whole.get("expected", whole.get("size"))
        if result["amount"] != expected:
            raise JobFailedError(f"{result['amount']:.0f} instead of {expected}")
        return Run(result["amount"], result["seconds"], result["cpu"], max(result["memory"], 0))

    def _answer(self, output: int) -> dict[str, Any]:
        """Wait for the next line with an answer; a connector may print lines of its own."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            *lines, self._received = self._received.split(b"\n")
            if answers := [line for line in lines if line.startswith(b"{")]:
                answer: dict[str, Any] = json.loads(answers[-1])
                return answer
            if not select.select([output], [], [], max(deadline - time.monotonic(), 0))[0]:
                self.__exit__()
                raise JobFailedError(f"no answer in {_PATIENCE} s")
            received = os.read(output, 65536)
            if not received:
                self.__exit__()
                return {"failed": "its process ended"}
            self._received += received

    def _started(self, connector: str, site: Site) -> "subprocess.Popen[str]":
        environment = environment_of(PATHS[connector], site.access_key_id, site.access_key_secret)
        command = [*self._ground.prefix, sys.executable, str(Path(__file__).with_name("job.py"))]
        process = subprocess.Popen(
            command,
            env={**environment, **self._ground.environment},
            text=True,
            bufsize=1,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        if process.stdin is not None:
            process.stdin.write(json.dumps({"job": "serve", "connector": connector}) + "\n")
        return process


class Series:
    """The runs of one contender at one row."""

    def __init__(self, work: Work, name: str, run: Callable[[Any], Run], choices: tuple[Any, ...]) -> None:
        """Hold the parts; `run` gets one of the choices: a number of objects, or of connections."""
        self.row = Row(work.name, name, work.unit)
        self._run, self._choices = run, choices
        self._used = 0.0
        self.failure = ""

    def choose(self) -> None:
        """Try the choices of the floor, and keep the best."""
        rates = {}
        for choice in self._choices if len(self._choices) > 1 else ():
            try:
                run = self._run(choice)
            except JobFailedError:
                continue
            rates[choice] = run.amount / run.seconds
        if rates:
            best = max(rates, key=lambda choice: rates[choice])
            self._choices = (best,)
            self.row.facts["connections"] = best

    def scale(self) -> None:
        """Choose how many objects a slow contender reads, by a short run."""
        begun = time.perf_counter()
        try:
            run = self._run(_PILOT)
        except JobFailedError as error:
            self.failure = str(error)
            return
        self._used += time.perf_counter() - begun
        rate = run.amount / run.seconds
        self._choices = (max(_PILOT, min(self._choices[0], int(rate * _WANTED_SECONDS))),)

    def measure(self) -> None:
        """Run once more, unless it failed or its time is used."""
        if self.failure or self._used > _MOST_SECONDS:
            return
        begun = time.perf_counter()
        try:
            self.row.runs.append(self._run(self._choices[0]))
        except JobFailedError as error:
            self.failure = str(error)
        self._used += time.perf_counter() - begun


def series_of(work: Work, ground: Ground, contenders: Mapping[str, Contender], names: Path, small: int) -> list[Series]:
    """Return what is measured for one row: this package, the peers, and the floor."""
    site = work.site(ground)
    found = []
    for name, contender in contenders.items():
        if name == FLOOR or (name == S3 and work.task["job"] in {"save", "listing"}):
            continue
        scheme = "s3" if name == S3 else "oss"
        task = dict(work.task)
        if "uri" in task:
            task["uri"] = f"{scheme}://{task['uri']}"

        def run(count: int, contender: Contender = contender, task: dict[str, Any] = task) -> Run:
            counted = {"names": str(names), "count": count, "expected": count} if task["job"] == "small" else {}
            return contender.run(site, {**task, **counted})

        found.append(Series(work, name, run, (small,)))
    if work.floor == "wrk":
        keys = [key for key, _ in bodies(100_000, _DISTINCT)]

        def minimal(connections: int) -> Run:
            return wrk(site, keys, connections, _FLOOR_SECONDS, ground.prefix)

        found.append(Series(work, FLOOR, minimal, _FLOOR_CONNECTIONS["objects"]))
    elif work.floor:
        task = {**work.task, "job": work.floor}
        floor = contenders[FLOOR]
        found.append(
            Series(
                work,
                FLOOR,
                lambda count: floor.run(site, {**task, "connections": count}),
                _FLOOR_CONNECTIONS["bytes"],
            )
        )
    return found


def used_by_others() -> float:
    """Return which share of the processors other programs use, over a third of a second."""

    def ticks() -> tuple[int, int]:
        numbers = [int(text) for text in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
        return sum(numbers), numbers[3] + numbers[4]

    begun = ticks()
    time.sleep(0.3)
    ended = ticks()
    return 1 - (ended[1] - begun[1]) / max(ended[0] - begun[0], 1)


def measure(name: str, objects: Objects, folder: Path, rounds: int) -> dict[str, Any]:
    """Measure one condition."""
    condition = CONDITIONS[name]
    print(f"\n{name}: {condition.text}", flush=True)
    names = folder / "names"
    keys = [f"{BUCKET}/{key}" for key, _ in bodies(100_000, _DISTINCT)]
    names.write_text("\n".join(keys * -(-condition.small // _DISTINCT)))
    busy, begun = [], time.monotonic()
    with condition.serve(objects, folder) as ground, ExitStack() as stack:
        installed = [contender for contender in (OURS, ORIGINAL, S3, FLOOR) if PATHS.get(contender, ROOT).exists()]
        contenders = {one: stack.enter_context(Contender(one, ground)) for one in installed}
        rows = works(condition.large)
        found = [(work, series_of(work, ground, contenders, names, condition.small)) for work in rows]
        for work, several in found:
            for one in several:
                if one.row.contender == FLOOR:
                    one.choose()
                elif one.row.contender != OURS and work.task["job"] == "small":
                    one.scale()
        for _ in range(rounds):
            busy.append(used_by_others())
            for _, several in found:
                for one in several:
                    one.measure()
    measured = [one.row for _, several in found for one in several if one.row.runs]
    for row in measured:
        print(f"  {row.work:24} {row.contender:24} {show(row)} ({len(row.runs)} runs)")
    for one in (one for _, several in found for one in several if one.failure):
        print(f"  {one.row.work}: {one.row.contender} fails: {one.failure.strip().splitlines()[-1]}")
    print(f"  {time.monotonic() - begun:.0f} s, others used {sum(busy) / len(busy):.0%} of the processors", flush=True)
    facts = {"text": condition.text, "limits": condition.limits, "machine": machine(), "rounds": rounds}
    return {**facts, "used_by_others": sum(busy) / len(busy), "rows": [asdict(row) for row in measured]}


@contextmanager
def written() -> Iterator[tuple[Objects, Path]]:
    """Write the objects of all conditions as files."""
    with tempfile.TemporaryDirectory(prefix="bench-") as place:
        folder = Path(place)

        def large() -> Iterator[tuple[str, bytes]]:
            for size in {condition.large for condition in CONDITIONS.values()}:
                yield f"large-{size}.bin", bytes(range(256)) * (size // 256)
                yield f"state-{size}.pt", saved_state(folder, size)

        sums = write_objects(folder, bodies(100_000, _DISTINCT)) | write_objects(folder, large())
        write_objects(folder, ((f"list/{number:06}", b"1") for number in range(KEYS)))
        yield Objects(folder, sums), folder


def main() -> int:
    """Measure the named conditions, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("conditions", nargs="*", help=f"default: all of {', '.join(CONDITIONS)}")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "report")
    arguments = parser.parse_args()
    if unknown := set(arguments.conditions) - set(CONDITIONS):
        parser.error(f"unknown condition: {', '.join(sorted(unknown))}. The conditions are {', '.join(CONDITIONS)}")
    if missing := [tool for tool in ("nginx", "wrk", "taskset", "openssl") if shutil.which(tool) is None]:
        sys.stderr.write(
            f"missing: {', '.join(missing)}; on Debian: apt-get install nginx-light wrk util-linux openssl\n"
        )
        return 1
    # The servers end with the block that started them, also if this process is asked to end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    install_peers()
    place = arguments.output / "conditions"
    place.mkdir(parents=True, exist_ok=True)
    with written() as (objects, folder):
        for name in arguments.conditions or CONDITIONS:
            if not CONDITIONS[name].is_possible():
                print(f"{name} is left out: this machine does not allow it")
                continue
            found = measure(name, objects, folder, arguments.rounds)
            (place / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
    write_report(arguments.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
