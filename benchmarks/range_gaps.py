"""Load every second small tensor of a distributed checkpoint at the latency of OSS, with several gap thresholds.

    python benchmarks/range_gaps.py [--rounds 3]

It prints JSON. The default gap was chosen by its figures.
"""

import argparse
import json
import resource
import statistics
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
    """Return the figures of an action: wall time, rate, and processor time of this process for each gigabyte."""
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


def empty(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return tensors to load a state into; their memory has been touched."""
    return {name: torch.zeros_like(tensor) for name, tensor in state.items()}


def middle(results: list[Any]) -> Any:
    """Return the median of numbers, the median of each entry of mappings, or the first of other values."""
    first = results[0]
    if isinstance(first, dict):
        return {name: middle([result[name] for result in results if name in result]) for name in first}
    return statistics.median(results) if isinstance(first, float) else first


def gap_rows(emulator: Emulator, rounds: int) -> list[dict[str, Any]]:
    """Measure a load of every second small tensor with several gaps, at the latency of OSS."""
    file_system = OssFileSystem(**emulator.connection)
    found: list[dict[str, Any]] = []
    for kilobytes in (16, 128, 512):
        state = {f"tensor.{number:05}": torch.randn(kilobytes * 256) for number in range(24_000 // kilobytes)}
        uri = f"oss://{BUCKET}/gaps-{kilobytes}"
        dcp.save(state, storage_writer=file_system.writer(uri))
        wanted = empty(dict(list(state.items())[::2]))
        needed = sum(tensor.nbytes for tensor in wanted.values())
        measured_rows: dict[int, list[dict[str, float]]] = {gap: [] for gap in GAPS}
        with emulator.fault(operation="GetObject", delay=LATENCY):
            for _ in range(rounds):
                for gap, taken in measured_rows.items():
                    reader = file_system.reader(uri, gap=gap)
                    row = measured(partial(dcp.load, wanted, storage_reader=reader), needed)
                    if reader.report is not None:
                        row |= {"amplification": reader.report.amplification, "ranges": float(reader.report.ranges)}
                    taken.append(row)
        found += [{"tensors_of_kib": kilobytes, "gap": gap, **middle(taken)} for gap, taken in measured_rows.items()]
    return found


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured (default: %(default)s)")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", message="torch.distributed")
    with Emulator(buckets=[BUCKET], etag="fast") as emulator:
        print(json.dumps(gap_rows(emulator, options.rounds), indent=2))


if __name__ == "__main__":
    main()
