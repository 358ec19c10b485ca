"""The machine: files, memory, shared memory, processors."""

import os
import platform
import resource
from pathlib import Path
from typing import Final

from osstorchconnector.cli.doctor_checks.finding import Finding, ok, warning
from osstorchconnector.connection.config import OssConfig
from osstorchconnector.files.space import number_in

_GIB: Final = 1 << 30
_MIB: Final = 1 << 20
# docs/decisions/pool.md: at most half of the files are connections; 170 are left to the program, but connections have a
# third.
_LEFT_TO_PROGRAM: Final = 170
# Docker gives 64 MiB. A batch of 256 images of 224 x 224 in float has 154 MB, and each worker prefetches two of them.
_LEAST_SHARED: Final = _GIB
_LEAST_MEMORY: Final = 2 * _GIB
# The CRC-64 of the native module runs ten times slower without it.
_CHECKSUM_FEATURE: Final = {"x86_64": "pclmulqdq", "aarch64": "pmull"}
_SHOWN_FEATURES: Final = ("pclmulqdq", "vpclmulqdq", "avx2", "avx512f", "pmull", "crc32", "sve")

_SHARED: Final = "/dev/shm"  # noqa: S108 - the shared memory of the machine, and nothing is written
_PROC: Final = Path("/proc")
_CGROUP: Final = Path("/sys/fs/cgroup")


def machine(config: OssConfig | None) -> list[Finding]:
    """Look at the limits of this machine and of its container."""
    wanted = config or OssConfig()
    return [_descriptors(wanted), *_memory(wanted), *_shared_memory(), _processors(), *_features()]


def _descriptors(config: OssConfig) -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return ok("descriptors", "ulimit -n is unlimited")
    most = max(min(soft // 2, soft - _LEFT_TO_PROGRAM), soft // 3)
    needed = max(2 * config.max_concurrency, config.max_concurrency + _LEFT_TO_PROGRAM)
    text = f"ulimit -n is {soft}, so that {most} connections are possible; max_concurrency is {config.max_concurrency}"
    if most >= config.max_concurrency:
        return ok("descriptors", text, soft=soft, hard=hard, connections=most)
    enough = hard == resource.RLIM_INFINITY or hard >= needed
    remedy = f"ulimit -n {needed}" if enough else f"raise the hard limit, which is {hard}, to {needed}"
    return warning("descriptors", text, remedy, soft=soft, hard=hard, connections=most)


def _memory(config: OssConfig) -> list[Finding]:
    info = _meminfo()
    if not info:
        return []
    total, available = info["MemTotal"], info["MemAvailable"]
    limit = number_in(_CGROUP / "memory.max", _CGROUP / "memory/memory.limit_in_bytes")
    text = f"{available / _GIB:.1f} of {total / _GIB:.1f} GiB are available"
    if limit is not None and limit < total:
        used = number_in(_CGROUP / "memory.current", _CGROUP / "memory/memory.usage_in_bytes") or 0
        available = min(available, limit - used)
        text += f"; the container may use {limit / _GIB:.1f} GiB, of which {(limit - used) / _GIB:.1f} are free"
    text += f"; each process reads ahead up to {config.prefetch_bytes / _MIB:.0f} MiB"
    values = {"total": total, "available": available, "limit": limit}
    if available < _LEAST_MEMORY:
        remedy = "end other programs, raise the container's limit, or lower prefetch_bytes and the number of workers"
        return [warning("memory", text, remedy, **values)]
    return [ok("memory", text, **values)]


def _shared_memory() -> list[Finding]:
    try:
        status = os.statvfs(_SHARED)
    except OSError:
        return []
    size, free = status.f_blocks * status.f_frsize, status.f_bavail * status.f_frsize
    text = f"{_SHARED} has {size / _GIB:.2f} GiB, of which {free / _GIB:.2f} are free"
    if free < _LEAST_SHARED:
        remedy = "DataLoader workers send batches through it: docker run --shm-size=8g (or --ipc=host)"
        return [warning("shared memory", text, remedy, size=size, free=free)]
    return [ok("shared memory", text, size=size, free=free)]


def _processors() -> Finding:
    count = os.cpu_count() or 1
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else count
    quota = _quota()
    text = f"{count} processors"
    if usable < count:
        text += f", {usable} usable (affinity)"
    if quota is not None:
        text += f", {quota:.1f} by the container's quota"
    values = {"count": count, "usable": usable, "quota": quota}
    if quota is not None and quota < usable:
        remedy = f"use num_workers and OMP_NUM_THREADS for {quota:.0f}: more threads are throttled, not faster"
        return warning("processors", text, remedy, **values)
    return ok("processors", text, **values)


def _features() -> list[Finding]:
    try:
        lines = (_PROC / "cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return []
    flags = next((set(line.split()) for line in lines if line.lower().startswith(("flags", "features"))), set())
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    shown = [feature for feature in _SHOWN_FEATURES if feature in flags]
    text = f"{model or platform.machine()}: {' '.join(shown)}"
    needed = _CHECKSUM_FEATURE.get(platform.machine())
    if needed is not None and flags and needed not in flags:
        remedy = "checksums are computed slowly: use a machine or a virtual machine type that offers it"
        return [warning("processor", f"{text}; without {needed}", remedy, features=shown)]
    return [ok("processor", text, model=model, features=shown)]


def _meminfo() -> dict[str, int]:
    try:
        lines = (_PROC / "meminfo").read_text().splitlines()
    except OSError:
        return {}
    # The numbers are KiB.
    return {line.partition(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.startswith("Mem")}


def _quota() -> float | None:
    try:
        quota, period = (_CGROUP / "cpu.max").read_text().split()
    except (OSError, ValueError):
        quota = str(number_in(_CGROUP / "cpu/cpu.cfs_quota_us") or "max")
        period = str(number_in(_CGROUP / "cpu/cpu.cfs_period_us") or 1)
    return None if quota == "max" or int(quota) <= 0 else int(quota) / int(period)
