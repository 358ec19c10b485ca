"""How much room there is for files: on a file system, and in the memory that some of them use."""

import os
from pathlib import Path
from typing import Final

_MEMINFO: Final = Path("/proc/meminfo")
_MOUNTS: Final = Path("/proc/self/mounts")
_CGROUP: Final = Path("/sys/fs/cgroup")
_IN_MEMORY: Final = frozenset({"tmpfs", "ramfs"})
_KIB: Final = 1024


def free_space(directory: Path) -> int:
    """Return how many bytes may still be written below an existing directory.

    On a file system in memory, these are no more than the memory that the machine and its container have left.
    """
    status = os.statvfs(directory)
    free = status.f_bavail * status.f_frsize
    memory = available_memory() if in_memory(directory) else None
    return free if memory is None else min(free, memory)


def in_memory(directory: Path) -> bool:
    """Return whether an existing directory is on a file system in memory."""
    path = os.path.realpath(directory)
    nearest, kind = "", ""
    try:
        lines = _MOUNTS.read_text(errors="replace").splitlines()
    except OSError:
        return False
    for line in lines:
        _, point, its_kind, *_ = line.split(" ")
        # Spaces and the like are in octal.
        place = point.encode().decode("unicode_escape", errors="replace")
        if f"{path}/".startswith(f"{place.rstrip('/')}/") and len(place) >= len(nearest):
            nearest, kind = place, its_kind
    return kind in _IN_MEMORY


def available_memory() -> int | None:
    """Return how many bytes of memory programs may still take here; None if that is not known."""
    try:
        lines = _MEMINFO.read_text().splitlines()
    except OSError:
        return None
    values = {line.partition(":")[0]: int(line.split()[1]) * _KIB for line in lines if line.startswith("Mem")}
    found = [values[name] for name in ("MemAvailable",) if name in values]
    limit = number_in(_CGROUP / "memory.max", _CGROUP / "memory/memory.limit_in_bytes")
    used = number_in(_CGROUP / "memory.current", _CGROUP / "memory/memory.usage_in_bytes")
    if limit is not None and used is not None:
        found.append(max(0, limit - used))
    return min(found, default=None)


def number_in(*paths: Path) -> int | None:
    """Return the number in the first file that has one; a file may also say that there is no limit."""
    for path in paths:
        try:
            return int(path.read_text())
        except (OSError, ValueError):
            continue
    return None
