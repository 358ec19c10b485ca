"""Distributed checkpoints: this package beside the original and torch's fsspec storage over ossfs; gaps of reads.

    python benchmarks/distributed_checkpoint.py [--megabytes 1024] [--rounds 3]

Each saves and loads the same state in processes of its own, in turns, against one emulator. The original is the wheel
that ``benchmarks/small_objects.py`` installs; ``bench.localhost`` has to resolve for it. It prints JSON.
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
import warnings
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import torch
import torch.distributed.checkpoint as dcp

if TYPE_CHECKING:
    from osstorchconnector.testing import Emulator

BUCKET = "bench"
# All load what this package has saved: its files are torch's.
SAVED = f"oss://{BUCKET}/ours"
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
    """Return a state of tensors of 64 MB, and many small ones; the same in every process."""
    torch.manual_seed(1)
    count = max(1, megabytes // 64)
    state = {f"weight.{number}": torch.randn(16_000_000) for number in range(count)}
    return state | {f"bias.{number}": torch.randn(4096) for number in range(500)}


def empty(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return what to load a state into, its memory touched before."""
    return {name: torch.zeros_like(tensor) for name, tensor in state.items()}


def ours(connection: dict[str, str]) -> tuple[Callable[[str], Any], Callable[[str], Any]]:
    """Return what makes this package's writer and reader."""
    from osstorchconnector import OssFileSystem

    file_system = OssFileSystem(connection["endpoint"], connection["cred_path"], region=connection["region"])
    return partial(file_system.writer, thread_count=2), file_system.reader


def original(connection: dict[str, str]) -> tuple[Callable[[str], Any], Callable[[str], Any]]:
    """Return what makes the original's writer and reader, where its package is the one that is imported."""
    # Without it the next import fails.
    from osstorchconnector import OssIterableDataset  # noqa: F401, I001
    from osstorchconnector.oss_dcp_filesystem import OssDCPFileSystem  # type: ignore[import-not-found]

    file_system = OssDCPFileSystem(**connection)
    return partial(file_system.writer, thread_count=2), file_system.reader


def ossfs(connection: dict[str, str]) -> tuple[Callable[[str], Any], Callable[[str], Any]]:
    """Return what makes torch's writer and reader over ossfs."""
    from torch.distributed.checkpoint.fsspec_filesystem import FsspecReader, FsspecWriter

    with open(connection["cred_path"], encoding="utf-8") as file:  # noqa: PTH123
        key = json.load(file)
    os.environ["OSS_ACCESS_KEY_ID"], os.environ["OSS_ACCESS_KEY_SECRET"] = key["AccessKeyId"], key["AccessKeySecret"]
    options: dict[str, Any] = {
        "endpoint": connection["endpoint"],
        "key": key["AccessKeyId"],
        "secret": key["AccessKeySecret"],
    }
    writer = partial(FsspecWriter, sync_files=False, thread_count=2, **options)
    return writer, partial(FsspecReader, **options)


PEERS = {"ours": ours, "original": original, "ossfs": ossfs}


def measure(name: str, connection: dict[str, str], megabytes: int) -> dict[str, Any]:
    """Save and load with one of the peers; called in a process of its own."""
    state = large(megabytes)
    size = sum(tensor.nbytes for tensor in state.values())
    writer, reader = PEERS[name](connection)
    target = empty(state)
    save = told(lambda: dcp.save(state, storage_writer=writer(f"oss://{BUCKET}/{name}")), size)
    load = told(lambda: dcp.load(target, storage_reader=reader(SAVED)), size)
    return {"save": save, "load": load, "same": all(torch.equal(state[key], target[key]) for key in state)}


def rows(emulator: "Emulator", folder: str, megabytes: int, rounds: int) -> dict[str, Any]:
    """Measure saving and loading; return the median of each peer's rounds."""
    from small_objects import PEER, original_endpoint, write_config

    connection = {"endpoint": emulator.endpoint, "cred_path": emulator.cred_path, "region": emulator.region}
    peers: dict[str, tuple[dict[str, str], dict[str, str]]] = {"ours": (connection, {**os.environ})}
    port = urlsplit(emulator.endpoint).port or 80
    if (endpoint := original_endpoint(port)) is not None:
        named = {**connection, "endpoint": endpoint, "config_path": write_config(folder)}
        peers["original"] = (named, {**os.environ, "PYTHONPATH": str(PEER)})
    # Its client takes no IPv6 address for an address.
    peers["ossfs"] = ({**connection, "endpoint": f"http://127.0.0.1:{port}"}, {**os.environ})
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in peers}
    for _ in range(rounds):
        for name, (arguments, environment) in peers.items():
            command = [sys.executable, __file__, "--measure", name, json.dumps(arguments), str(megabytes)]
            done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
            failed = {"failed": done.stderr[-300:]}
            found[name].append(json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else failed)
    return {name: middle(results) for name, results in found.items()}


def middle(results: list[Any]) -> Any:
    """Return the median of numbers, of each entry of mappings, and the first one of others."""
    first = results[0]
    if isinstance(first, dict):
        return {name: middle([result[name] for result in results if name in result]) for name in first}
    return statistics.median(results) if isinstance(first, float) else first


def told(action: Callable[[], object], size: int) -> dict[str, Any]:
    """Return what an action takes, or why it failed: a peer that fails has a row all the same."""
    try:
        return measured(action, size)
    except (Exception, dcp.CheckpointException) as error:  # noqa: BLE001 - as said
        return {"failed": str(error).strip().splitlines()[-1][-300:]}


def gap_rows(emulator: "Emulator", rounds: int) -> list[dict[str, Any]]:
    """Measure a load of every second small tensor with several gaps, at the latency of OSS."""
    from osstorchconnector import OssFileSystem

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
    """Print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=1024, help="size of the state (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured (default: %(default)s)")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.filterwarnings("ignore", message="torch.distributed")
    if options.measure:
        name, connection, megabytes = options.measure
        print(json.dumps(measure(name, json.loads(connection), int(megabytes))))
        return
    from osstorchconnector.testing import Emulator

    # Both IPv4 and IPv6: where the address that localhost resolves to first is refused, the original waits 100 ms.
    with Emulator(host="::", buckets=[BUCKET], etag="fast") as emulator, tempfile.TemporaryDirectory() as folder:
        found = {
            "rows": rows(emulator, folder, options.megabytes, options.rounds),
            "gaps": gap_rows(emulator, options.rounds),
        }
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
