"""Runs: each starts its processes, bounds its time and its traffic, and adds up what they measured."""

import json
import selectors
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from osstorchconnector.cli.bench_runs.measured import Measured, joined
from osstorchconnector.cli.uninterrupted import uninterrupted
from osstorchconnector.exceptions import OssError, OssTimeoutError

# A process loads the package in less than a second; a busy machine takes longer.
_START_SECONDS: Final = 30.0
# A request that is in flight at the end of a run is finished, with its retries.
_END_SECONDS: Final = 60.0

#: The options of the command that each process connects with. They hold no secret.
CONNECTION: Final = ("endpoint", "region", "cred_path", "config_path", "profile")

# A request of a few megabytes takes less, with its retries.
_WRITE_SECONDS: Final = 20.0

Row = tuple[str, str, int]


@dataclass
class Runner:
    """Starts the runs.

    Attributes:
        connection: The connection arguments of the processes; they hold no secret.
        streamed: The largest size of objects that are read as a whole.
        left: Bytes that may still be read and written.
        traffic: Bytes that were.
    """

    connection: dict[str, str | None]
    streamed: int
    left: int
    traffic: int = 0
    bounded_by_traffic: list[str] = field(default_factory=list)

    def run(
        self,
        name: str,
        rows: list[Row],
        seconds: float,
        size: int,
        *,
        processes: int = 1,
        settings: dict[str, Any] | None = None,
        **job: Any,  # noqa: ANN401 - what the process reads
    ) -> Measured:
        """Make one run.

        Args:
            name: Its name, for messages.
            rows: What to read.
            seconds: How long.
            size: How many bytes at most.
            processes: The number of processes that share the work.
            settings: Fields of :class:`OssConfig`.
            **job: What else the process needs to know.

        Raises:
            OssError: A process failed; the message is its own.
        """
        size = min(size, self.left)
        if processes > 1:
            # As in a DataLoader worker.
            settings = {"io_threads": 1, **(settings or {})}
        large = max((row[2] for row in rows), default=0) > self.streamed
        mode = "large" if large else "stream"
        common = {
            "mode": mode,
            "seconds": seconds,
            "size": size // processes,
            "settings": settings or {},
            "connection": self.connection,
            **job,
        }
        shares = [rows[index::processes] or rows for index in range(processes)]
        found = _together([{**common, "rows": share} for share in shares])
        self.traffic += found.traffic
        self.left = max(0, self.left - found.traffic)
        if found.traffic > size * 0.9 and found.seconds < seconds * 0.5:
            self.bounded_by_traffic.append(name)
        return found


def _together(jobs: list[dict[str, Any]]) -> Measured:
    with _processes(len(jobs), writes=jobs[0]["mode"] == "write") as processes:
        for process, job in zip(processes, jobs, strict=True):
            _send(process, job)
        for process in processes:
            if (line := _line_of(process, _START_SECONDS)) != "ready":
                raise _failure(line)
        before = _processor_times()
        for process in processes:
            _send(process, "go")
        results = [_line_of(process, jobs[0]["seconds"] + _END_SECONDS) for process in processes]
        after = _processor_times()
    parts = []
    for line in results:
        document = json.loads(line) if line.startswith("{") else {}
        if "objects" not in document:
            raise _failure(line)
        parts.append(Measured(**document))
    found = joined(parts)
    total = sum(after) - sum(before)
    # The fourth number is the time without work, and the fifth the time that waits for disks.
    idle = sum(after[3:5]) - sum(before[3:5])
    found.busy = 1 - idle / total if total else 0.0
    return found


@contextmanager
def _processes(count: int, *, writes: bool) -> Iterator[list["subprocess.Popen[str]"]]:
    command = [sys.executable, "-m", "osstorchconnector.cli.bench_runs.worker"]
    processes: list[subprocess.Popen[str]] = []
    try:
        for _ in range(count):
            processes.append(  # noqa: PERF401 - those that were started are ended if one cannot be
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603 - this interpreter with our own module
            )
        yield processes
    finally:
        with uninterrupted():
            for process in processes:
                _end(process, writes=writes)


def _end(process: "subprocess.Popen[str]", *, writes: bool) -> None:
    """End a process. One that writes finishes its requests: an object must not appear after all were deleted."""
    if writes and process.stdin is not None:
        with suppress(BrokenPipeError):
            process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_WRITE_SECONDS)
    process.kill()
    with process:
        process.wait()


def _send(process: "subprocess.Popen[str]", message: object) -> None:
    if process.stdin is None:
        raise RuntimeError("the process has no input")
    try:
        process.stdin.write(f"{json.dumps(message)}\n")
        process.stdin.flush()
    except BrokenPipeError:
        raise OssError("a process of the run ended before its start; its message stands above") from None


def _line_of(process: "subprocess.Popen[str]", seconds: float) -> str:
    if process.stdout is None:
        raise RuntimeError("the process has no output")
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        if not selector.select(seconds):
            raise OssTimeoutError(f"a process of the run did not answer within {seconds:.0f} seconds")
    return process.stdout.readline().strip()


def _failure(line: str) -> OssError:
    try:
        text = json.loads(line)["error"]
    except (ValueError, KeyError, TypeError):
        return OssError("a process of the run failed; its message stands above")
    return OssError(text)


def _processor_times() -> list[int]:
    try:
        first = Path("/proc/stat").read_text().partition("\n")[0]
    except OSError:
        return [0]
    return [int(number) for number in first.split()[1:9]]
