"""Iterating for long takes no more than iterating once, and the death of a worker raises in its parent."""

import gc
import operator
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import DataLoader

from osstorchconnector import OssClient, OssConfig, OssIterableDataset
from osstorchconnector.testing import Emulator

COUNT = 300
SIZE = 50_000
MIB = 1 << 20
LENGTH = operator.methodcaller("read")


@pytest.fixture
def filled(client: OssClient, bucket: str) -> str:
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: client.put(f"oss://{bucket}/{number:03}", bytes(SIZE)), range(COUNT)))
    return bucket


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def native_threads() -> int:
    return sum(1 for _ in Path("/proc/self/task").iterdir())


class Measured:
    """Returns the object's size, and the open files, threads and memory of the process that transforms."""

    def __call__(self, item: Any) -> tuple[int, int, int, int]:
        return len(item.read()), descriptors(), native_threads(), resident()


@pytest.mark.slow(120)
@pytest.mark.parametrize("workers", [0, 2])
def test_ten_epochs_take_no_more_than_two(emulator: Emulator, filled: str, workers: int) -> None:
    # Without a bound, the number of requests in flight would depend on how busy the machine is.
    config = OssConfig(prefetch_concurrency=8, max_concurrency=8)
    dataset = OssIterableDataset.from_prefix(
        f"oss://{filled}/", transform=Measured(), shuffle=True, batch_size=10, config=config, **emulator.connection
    )
    loader = DataLoader(
        dataset,
        batch_size=None,
        num_workers=workers,
        multiprocessing_context="fork" if workers else None,
        persistent_workers=workers > 0,
    )
    most = []
    own = []
    for epoch in range(10):
        dataset.set_epoch(epoch)
        measured = list(loader)
        assert len(measured) == COUNT
        assert all(length == SIZE for length, *_ in measured)
        most.append([max(column) for column in zip(*measured, strict=True)][1:])
        gc.collect()
        own.append((descriptors(), threading.active_count(), native_threads()))
    (files, threads, memory), late = most[1], most[2:]
    assert max(row[0] for row in late) <= files + 2
    assert max(row[1] for row in late) <= threads
    # An epoch is 15 MB. If each were kept, that would be 120 MB at the end.
    assert max(row[2] for row in late) <= memory + 20 * MIB
    assert own[-1] <= own[1]


def test_iterators_that_are_dropped_leave_nothing_behind(emulator: Emulator, filled: str) -> None:
    # As above: a dropped stream has as many connections as requests in flight.
    config = OssConfig(prefetch_concurrency=24, max_concurrency=24)
    dataset = OssIterableDataset.from_prefix(f"oss://{filled}/", config=config, **emulator.connection)
    counted = []
    for _ in range(20):
        iterator = iter(dataset)
        next(iterator)
        iterator.close()
        del iterator
        gc.collect()
        counted.append((native_threads(), descriptors()))
    assert counted[-1][0] <= counted[1][0]
    # The I/O thread closes connections that were in use when a stream was closed: later, if the machine is busy.
    most = max(files for _, files in counted[:5]) + 16
    deadline = time.monotonic() + 10
    while descriptors() > most and time.monotonic() < deadline:
        time.sleep(0.05)
    assert descriptors() <= most


@pytest.mark.parametrize("which", [0, 1])
def test_a_killed_worker_raises_in_the_parent_within_ten_seconds(emulator: Emulator, filled: str, which: int) -> None:
    dataset = OssIterableDataset.from_prefix(f"oss://{filled}/", transform=LENGTH, **emulator.connection)
    loader = DataLoader(dataset, batch_size=None, num_workers=2, multiprocessing_context="fork")
    with emulator.fault(operation="GetObject", bucket=filled, delay=0.2):
        iterator: Any = iter(loader)
        next(iterator)
        killed = time.monotonic()
        os.kill(iterator._workers[which].pid, 9)
        with pytest.raises(RuntimeError, match=r"DataLoader worker .* (killed|exited unexpectedly)"):
            list(iterator)
        assert time.monotonic() - killed < 10
        iterator._shutdown_workers()
    assert len(list(loader)) == COUNT


@pytest.mark.slow(120)
@pytest.mark.parametrize(("size", "budget"), [(512 * MIB, 16 * MIB), (1024 * MIB, 256 * MIB)])
def test_an_object_far_above_the_budget_streams(
    emulator: Emulator, client: OssClient, bucket: str, size: int, budget: int
) -> None:
    block = bytes(range(256)) * (MIB // 256)
    with client.writer(f"oss://{bucket}/large") as writer:
        for _ in range(size // MIB):
            writer.write(block)
    del writer
    for number in range(20):
        client.put(f"oss://{bucket}/small-{number:02}", bytes(MIB))
    gc.collect()
    config = OssConfig(prefetch_bytes=budget)
    dataset = OssIterableDataset.from_prefix(f"oss://{bucket}/", config=config, **emulator.connection)
    before = most = resident()
    read = 0
    for item in dataset:
        while chunk := item.read(MIB):
            assert item.name != "large" or chunk == block
            read += len(chunk)
            most = max(most, resident())
    assert read == size + 20 * MIB
    # The budget, which includes the large object's window, and unused memory of the allocator.
    assert most - before < budget + 48 * MIB
    client.delete(f"oss://{bucket}/large")
