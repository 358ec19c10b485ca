"""Distributed checkpoints: this package beside torch's fsspec storage over ossfs, and reading with several gaps.

    python benchmarks/distributed_checkpoint.py [--megabytes 1024]

One process saves and loads the same state through each, in one run, against the emulator. It prints JSON.
"""

import argparse
import json
import os
import resource
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.distributed.checkpoint as dcp

from osstorchconnector import OssFileSystem
from osstorchconnector.testing import Emulator

BUCKET = "bench"
# The latency of the first byte on OSS, which the loopback interface lacks.
LATENCY = 0.02
GAPS = [0, 4 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20]


def measured(action: Callable[[], object], size: int) -> dict[str, float]:
    """Return what an action takes: wall time, rate, and processor time of this process for each gigabyte."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    started = time.monotonic()
    action()
    seconds = time.monotonic() - started
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "seconds": round(seconds, 3),
        "gigabytes_per_second": round(size / seconds / 1e9, 3),
        "cpu_seconds_per_gigabyte": round(cpu / (size / 1e9), 3),
    }


def large(megabytes: int) -> dict[str, torch.Tensor]:
    """Return a state of tensors of 64 MB, and many small ones."""
    count = max(1, megabytes // 64)
    state = {f"weight.{number}": torch.randn(16_000_000) for number in range(count)}
    return state | {f"bias.{number}": torch.randn(4096) for number in range(500)}


def empty(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return what to load a state into, its memory touched before."""
    return {name: torch.zeros_like(tensor) for name, tensor in state.items()}


def by_ossfs(emulator: Emulator) -> tuple[Callable[[str], Any], Callable[[str], Any]] | None:
    """Return what makes torch's writer and reader over ossfs, where it is installed."""
    try:
        import ossfs
        from torch.distributed.checkpoint.fsspec_filesystem import FsspecReader, FsspecWriter
    except ImportError:
        return None
    os.environ["OSS_ACCESS_KEY_ID"] = emulator.access_key_id
    os.environ["OSS_ACCESS_KEY_SECRET"] = emulator.access_key_secret
    options: dict[str, Any] = {
        "endpoint": emulator.endpoint,
        "key": emulator.access_key_id,
        "secret": emulator.access_key_secret,
    }
    if not hasattr(ossfs, "OSSFileSystem"):
        return None
    return (lambda uri: FsspecWriter(uri, sync_files=False, **options)), (lambda uri: FsspecReader(uri, **options))


def rows(emulator: Emulator, megabytes: int) -> list[dict[str, Any]]:
    """Measure saving and loading."""
    state = large(megabytes)
    size = sum(tensor.nbytes for tensor in state.values())
    file_system = OssFileSystem(**emulator.connection)
    makers: dict[str, tuple[Callable[[str], Any], Callable[[str], Any]] | None] = {
        "osstorchconnector": (lambda uri: file_system.writer(uri, thread_count=2), file_system.reader),
        "torch fsspec over ossfs": by_ossfs(emulator),
    }
    found: list[dict[str, Any]] = []
    for name, maker in makers.items():
        row: dict[str, Any] = {"what": name, "bytes": size}
        found.append(row)
        if maker is None:
            row["skipped"] = "not installed"
            continue
        uri = f"oss://{BUCKET}/{name.replace(' ', '-')}"
        row["save"] = told(partial(dcp.save, state, storage_writer=maker[0](uri)), size)
        # All load what this package has saved: its files are torch's.
        target = empty(state)
        row["load"] = told(
            partial(dcp.load, target, storage_reader=maker[1](f"oss://{BUCKET}/osstorchconnector")), size
        )
        row["same"] = all(torch.equal(state[key], target[key]) for key in state)
    return found


def told(action: Callable[[], object], size: int) -> dict[str, Any]:
    """Return what an action takes, or why it failed: a peer that fails has a row all the same."""
    try:
        return measured(action, size)
    except (Exception, dcp.CheckpointException) as error:  # noqa: BLE001 - as said
        return {"failed": str(error).strip().splitlines()[-1][-300:]}


def gap_rows(emulator: Emulator) -> list[dict[str, Any]]:
    """Measure a load of every second small tensor with several gaps, at the latency of OSS."""
    file_system = OssFileSystem(**emulator.connection)
    found: list[dict[str, Any]] = []
    for kilobytes in (16, 128, 512):
        state = {f"tensor.{number:05}": torch.randn(kilobytes * 256) for number in range(24_000 // kilobytes)}
        uri = f"oss://{BUCKET}/gaps-{kilobytes}"
        dcp.save(state, storage_writer=file_system.writer(uri))
        wanted = empty(dict(list(state.items())[::2]))
        needed = sum(tensor.nbytes for tensor in wanted.values())
        with emulator.fault(operation="GetObject", delay=LATENCY):
            for gap in GAPS:
                reader = file_system.reader(uri, gap=gap)
                row = measured(partial(dcp.load, wanted, storage_reader=reader), needed)
                if reader.report is None:
                    continue
                row |= {"amplification": round(reader.report.amplification, 2), "ranges": reader.report.ranges}
                found.append({"tensors_of_kib": kilobytes, "gap": gap, **row})
    return found


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser(description="Distributed checkpoints against the emulator")
    parser.add_argument("--megabytes", type=int, default=1024, help="size of the state (default: %(default)s)")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", message="torch.distributed")
    with Emulator(buckets=[BUCKET], etag="fast") as emulator:
        found = {"rows": rows(emulator, options.megabytes), "gaps": gap_rows(emulator)}
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
