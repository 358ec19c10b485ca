"""What a job took: time, processor time and memory of its process, and which bytes were compared with checksums."""

import resource
import time
from pathlib import Path

_marks: dict[str, tuple[float, float]] = {}
_base: dict[str, float] = {}
# Figures that a job has measured itself; they replace those of this process.
_own: dict[str, float] = {}


class Counts:
    """Whether the connector counts the bytes that `check` needs."""

    ours = False


def traffic() -> tuple[int, int]:
    """Return the bytes that this process received and compared; zeros if the connector does not count them."""
    if not Counts.ours:
        return 0, 0
    from osstorchconnector import _native

    counts = _native.counts()
    return counts["received_bytes"], counts["verified_bytes"]


def check(seen: dict[int, tuple[int, int]], length: int) -> None:
    """Fail unless all delivered bytes were compared with the checksums of their objects."""
    if not Counts.ours:
        return
    compared = sum(counted for _, counted in seen.values())
    if compared < length:
        raise SystemExit(f"{compared} of {length} bytes were compared with checksums")


def start() -> None:
    """Begin to measure here: everything before was preparation."""
    _mark("start")
    _base["resident"] = _status("VmRSS")


def stop() -> None:
    """End the measurement here: everything after is not part of it."""
    _mark("stop")


def replace(**figures: float) -> None:
    """Take figures of other processes, which the job has started, in place of those of this one."""
    _own.update(figures)


def measured() -> dict[str, float]:
    """Return the figures of this process from `start` to `stop`, or to now."""
    if "stop" not in _marks:
        stop()
    (began, used_before), (ended, used) = _marks["start"], _marks["stop"]
    memory = {"memory": _status("VmHWM") - _base["resident"], "resident": _base["resident"]}
    return {"seconds": ended - began, "cpu": used - used_before, **memory, **_own}


def _mark(name: str) -> None:
    _marks[name] = (time.perf_counter(), _processor_seconds())


def _processor_seconds() -> float:
    """Return the processor time of this process and of the children it has waited for."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _status(name: str) -> float:
    """Return a size of this process in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))
