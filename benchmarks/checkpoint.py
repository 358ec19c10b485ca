"""Save and load a large state: wall time, CPU per GB and peak memory, beside a local file in the page cache.

The server is an emulator in a process of its own on this machine, which takes its share of the processors: the rates
are those of the pair, CPU and memory those of this process alone. Each measurement is a process of its own.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

BUCKET = "bench"
MIB = 1 << 20
# As large as a projection of a language model.
TENSOR = 64 * MIB


def state(size: int) -> Any:
    """Return tensors of `size` bytes together."""
    import torch

    return {f"layer.{number}": torch.full((TENSOR // 4,), float(number)) for number in range(size // TENSOR)}


def measure(kind: str, size: int, connection: Any, folder: str) -> dict[str, float]:
    """Save or load once; called in a process of its own."""
    import torch

    from osstorchconnector import OssCheckpoint

    checkpoint = OssCheckpoint(**connection)
    uri, path = f"oss://{BUCKET}/state.pt", f"{folder}/state.pt"
    # Reading back computes no second checksum, and neither needs torch's own, which takes most of a local save.
    torch.serialization.set_crc32_options(False)
    saved = state(size) if kind.startswith("save") else None
    before, start, resident = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter(), peak()
    match kind:
        case "save":
            checkpoint.save(saved, uri)
        case "load":
            loaded = checkpoint.load(uri)
        case "save to a file":
            torch.save(saved, path)
        case "load of a file":
            loaded = torch.load(path)
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF)
    if kind.startswith("load") and len(loaded) != size // TENSOR:
        raise SystemExit(f"{len(loaded)} tensors were loaded")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": seconds, "cpu": cpu, "memory": peak() - resident}


def peak() -> int:
    """Return the most bytes this process has had in memory."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def compare(size: int, rounds: int) -> None:
    """Print what each way takes."""
    from osstorchconnector.testing import Emulator

    kinds = ["save", "load", "save to a file", "load of a file"]
    with Emulator(buckets=[BUCKET], etag="fast") as emulator, tempfile.TemporaryDirectory() as folder:
        results: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
        for _ in range(rounds):
            for kind in kinds:
                command = [
                    sys.executable,
                    __file__,
                    "--measure",
                    kind,
                    str(size),
                    json.dumps(emulator.connection),
                    folder,
                ]
                done = subprocess.run(command, check=False, capture_output=True, text=True)
                if done.returncode != 0:
                    raise SystemExit(done.stderr)
                results[kind].append(json.loads(done.stdout.splitlines()[-1]))
    print(
        f"\n{size / 1e9:.1f} GB in tensors of {TENSOR // MIB} MiB, median of {rounds}; memory is beyond the state's own"
    )
    for kind, rows in results.items():
        seconds, cpu, memory = (statistics.median(row[name] for row in rows) for name in ("seconds", "cpu", "memory"))
        beyond = memory - (size if kind.startswith("load") else 0)
        rate = size / seconds / 1e9
        print(f"  {kind:15} {rate:6.2f} GB/s  {cpu / size * 1e9:6.2f} s of CPU per GB  {beyond / MIB:7.0f} MiB")


def main() -> int:
    """Run the comparison, or one measurement of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gib", type=float, nargs="+", default=[2.0], help="sizes of the state (default: 2)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--measure", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        kind, size, connection, folder = arguments.measure
        print(json.dumps(measure(kind, int(size), json.loads(connection), folder)))
        return 0
    print(f"{os.cpu_count()} processors")
    for gib in arguments.gib:
        compare(int(gib * 1024) * MIB, arguments.rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
