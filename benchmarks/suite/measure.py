"""Run jobs in turn, several times, and keep the figures: a change of the machine's speed then affects all jobs."""

import json
import os
import statistics
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
# Seconds that one job may take: a part of the suite takes less than ten minutes.
_PATIENCE = 240
# Reading the memory of a process takes milliseconds; the peak of a job lasts longer than this.
_SAMPLE_SECONDS = 0.25


class JobFailedError(Exception):
    """A job did not do its task."""


@dataclass(frozen=True)
class Run:
    """The measurements of one job."""

    #: Number of objects, bytes or keys: the unit of the row.
    amount: float
    seconds: float
    #: Processor seconds of all its processes.
    cpu: float
    #: Most bytes held beyond what the process held before.
    memory: float


@dataclass(frozen=True)
class Row:
    """The runs of one contender for one piece of work."""

    work: str
    contender: str
    #: The unit: objects, bytes, keys or times.
    unit: str
    runs: list[Run] = field(default_factory=list)
    #: Other figures, such as the number of connections.
    facts: dict[str, float] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Median amount per second."""
        return statistics.median(run.amount / run.seconds for run in self.runs)

    @property
    def seconds(self) -> float:
        """Median seconds of one run."""
        return statistics.median(run.seconds for run in self.runs)

    @property
    def cpu_each(self) -> float:
        """Median processor seconds for one unit."""
        return statistics.median(run.cpu / run.amount for run in self.runs)

    @property
    def memory(self) -> float:
        """The largest peak of all runs, in bytes."""
        return max(run.memory for run in self.runs)


def paired(row: Row, other: Row, of: Callable[[Run], float]) -> float:
    """Return the median, over the rounds, of one row's figure divided by the other's in the same round."""
    return statistics.median(of(mine) / of(theirs) for mine, theirs in zip(row.runs, other.runs, strict=True))


def job(python_path: Path, task: Mapping[str, Any]) -> Run:
    """Run a job in a fresh interpreter that finds its connector at `python_path`."""
    environment = environment_of(python_path, task["access_key_id"], task["access_key_secret"])
    command = [sys.executable, str(Path(__file__).with_name("job.py"))]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, env=environment, text=True, **pipes)  # type: ignore[call-overload]
    peak, done = [0.0], threading.Event()
    if task.get("workers"):
        threading.Thread(target=_watch, args=(process.pid, peak, done), daemon=True).start()
    try:
        output, errors = process.communicate(json.dumps(task), timeout=_PATIENCE)
    finally:
        done.set()
        process.kill()
    if process.returncode != 0:
        raise JobFailedError(f"status {process.returncode}: {errors.strip()}")
    result = json.loads(output.splitlines()[-1])
    if (expected := task.get("expected")) is not None and result["amount"] != expected:
        raise JobFailedError(f"{result['amount']:.0f} instead of {expected}")
    memory = peak[0] - result["resident"] if task.get("workers") else result["memory"]
    return Run(result["amount"], result["seconds"], result["cpu"], max(memory, 0))


def environment_of(python_path: Path, access_key_id: str, access_key_secret: str) -> dict[str, str]:
    """Return the environment of a job whose connector lies at `python_path`."""
    environment = {**os.environ, "PYTHONPATH": f"{python_path}{os.pathsep}{ROOT}", "PYTHONWARNINGS": "ignore"}
    # An installed package has been compiled already.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    environment |= {"AWS_ACCESS_KEY_ID": access_key_id, "AWS_SECRET_ACCESS_KEY": access_key_secret}
    environment |= {"AWS_REGION": "us-east-1"}
    return environment | {"OSS_ACCESS_KEY_ID": access_key_id, "OSS_ACCESS_KEY_SECRET": access_key_secret}


def _watch(pid: int, peak: list[float], done: threading.Event) -> None:
    """Note the peak of the memory that a process and its children hold together; shared memory counts once."""
    while not done.wait(_SAMPLE_SECONDS):
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except OSError:
            return
        total = sum(proportional(child) for child in (str(pid), *children))
        peak[0] = max(peak[0], total)


def proportional(pid: str) -> int:
    """Return the bytes of memory of a process, of shared memory only its share; 0 once the process has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


def alternate(work: str, unit: str, contenders: Mapping[str, Callable[[], Run]], rounds: int) -> list[Row]:
    """Let the contenders run in turn, and print the medians of each. The first contender has to succeed."""
    rows = {name: Row(work, name, unit) for name in contenders}
    for _ in range(rounds):
        for name in list(rows):
            try:
                rows[name].runs.append(contenders[name]())
            except (JobFailedError, subprocess.TimeoutExpired) as error:
                if name == next(iter(contenders)):
                    raise
                # A peer that fails is left out of the report.
                print(f"{name} fails at {work}: {str(error).strip().splitlines()[-1]}")
                del rows[name]
    print(f"\n{work}, median of {rounds} rounds in turn")
    for name, row in rows.items():
        print(f"  {name:26} {show(row)}", flush=True)
    return list(rows.values())


def show(row: Row) -> str:
    """Return a row's figures as text."""
    memory = f"{row.memory / 1e6:7,.0f} MB"
    if row.unit == "bytes":
        return f"{row.rate / 1e9:8.2f} GB/s {row.cpu_each * 1e9:8.2f} s of CPU per GB {memory}"
    if row.unit == "times":
        return f"{row.seconds * 1e3:8.1f} ms {row.cpu_each * 1e3:8.1f} ms of CPU {memory}"
    return f"{row.rate:12,.0f} {row.unit}/s {row.cpu_each * 1e6:8.2f} µs of CPU each {memory}"


def write(path: Path, rows: list[Row]) -> None:
    """Write rows as JSON."""
    path.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


def read(path: Path) -> list[Row]:
    """Read rows that were written."""
    rows = json.loads(path.read_text())
    return [Row(**{**row, "runs": [Run(**run) for run in row["runs"]]}) for row in rows]
