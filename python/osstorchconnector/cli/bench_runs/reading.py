"""What a process of a run does: it reads, or writes, until its time or its bytes are used up."""

import itertools
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from osstorchconnector._native import ObjectTable
from osstorchconnector.cli.bench_runs.measured import Measured
from osstorchconnector.connection.stats import stats

if TYPE_CHECKING:
    from osstorchconnector._native import Client

#: What one request for a latency reads at most: more would measure the bandwidth.
LARGEST_ANSWER: Final = 1 << 20
#: A larger object is read by a reader of its own: a stream would not fetch it ahead.
LARGEST_STREAMED: Final = 32 << 20
# The first part of a run makes connections, and the number of requests in flight grows.
_WARMING: Final = 0.3
# What must arrive after that, as a part of everything.
_LEAST: Final = 0.4
# What a reader has in flight at the same time.
_PIECE: Final = 64 << 20
_MOST_ROWS: Final = 200_000
_MOST_LATENCIES: Final = 5_000


@dataclass(frozen=True)
class Bounds:
    """When a process stops.

    Attributes:
        seconds: After that time.
        size: Before it has read more bytes.
    """

    seconds: float
    size: int


class _Clock:
    """Measures what arrives, from the end of the warming on.

    What counts is what this process has received, and not what the program took: objects that were fetched ahead during
    the warming would otherwise count as if they had arrived in no time.
    """

    def __init__(self, bounds: Bounds) -> None:
        """Begin."""
        self._bounds = bounds
        self._begin = self._warm = _Mark.now()
        self._objects = self._size = 0

    def add(self, size: int) -> bool:
        """Count an object; return whether to go on."""
        self._objects += 1
        self._size += size
        now = time.perf_counter() - self._begin.when
        if self._warm is self._begin and (
            now > self._bounds.seconds * _WARMING or self._size > self._bounds.size * _WARMING
        ):
            self._warm = _Mark.now()
        return now < self._bounds.seconds and self._size + size <= self._bounds.size

    def measured(self) -> Measured:
        """Return what was measured."""
        end = _Mark.now()
        # If nearly everything had arrived by then, the run was too short for a warming, and counts as a whole.
        short = end.received - self._warm.received < _LEAST * (end.received - self._begin.received)
        start = self._begin if short else self._warm
        received = end.received - start.received
        return Measured(
            objects=max(1, round(received * self._objects / max(1, self._size))),
            size=received,
            seconds=end.when - start.when,
            cpu=end.cpu - start.cpu,
            traffic=self._size,
        )


class _Mark(NamedTuple):
    """A moment of a run."""

    when: float
    cpu: float
    received: int

    @classmethod
    def now(cls) -> "_Mark":
        """Return this moment."""
        return cls(time.perf_counter(), time.process_time(), stats().received_bytes)


def stream(client: "Client", rows: list[tuple[str, str, int]], bounds: Bounds) -> Measured:
    """Read objects as a dataset does."""
    table = ObjectTable.from_objects((bucket, key, size, None, "", None) for bucket, key, size in rows)
    order: list[int] = []
    total = 0
    while len(order) < _MOST_ROWS and rows:
        index = len(order) % len(rows)
        if order and total + rows[index][2] > bounds.size:
            break
        order.append(index)
        total += rows[index][2]
    clock = _Clock(bounds)
    reading = client.stream_at(table, order)
    try:
        for item in reading:
            size = item.size
            item.close()
            if not clock.add(size):
                break
    finally:
        reading.close()
    found = clock.measured()
    # What was requested and is dropped now is on its way, too.
    requested = stats().requests.get("get", 0)
    found.traffic = max(found.traffic, sum(rows[index][2] for index in order[:requested]))
    return found


def read_large(client: "Client", rows: list[tuple[str, str, int]], bounds: Bounds) -> Measured:
    """Read large objects, one after the other, each with many requests in flight."""
    buffer = memoryview(bytearray(max(1, min(_PIECE, bounds.size, max(row[2] for row in rows)))))
    clock = _Clock(bounds)
    pieces = [(row, start, min(start + len(buffer), row[2])) for row in rows for start in range(0, row[2], len(buffer))]
    opened = None
    for row, start, end in itertools.cycle(pieces):
        if opened is None or opened.uri != f"oss://{row[0]}/{row[1]}":
            opened = client.reader(row[0], row[1])
        # A sequential read would fetch ahead, beyond the bound.
        opened.readinto_many([(start, buffer[: end - start])])
        if not clock.add(end - start):
            break
    return clock.measured()


def latencies(
    client: "Client", rows: list[tuple[str, str, int]], bounds: Bounds, in_flight: int, length: int | None
) -> Measured:
    """Send single requests from several threads, and measure each.

    Args:
        client: Sends them.
        rows: The objects.
        bounds: When to stop.
        in_flight: The number of threads.
        length: Bytes to ask for. None: the object, at most what an answer may have.
    """
    # So that the first request of each thread, and the last one, stay within the bound.
    most = max(1, min(LARGEST_ANSWER if length is None else length, bounds.size // (4 * in_flight)))

    def read(first: int, end: float, share: int) -> tuple[list[float], int]:
        times: list[float] = []
        received, number = 0, first
        while time.perf_counter() < end and received < share and len(times) < _MOST_LATENCIES:
            bucket, key, size = rows[number % len(rows)]
            number += in_flight
            wanted = min(size, most)
            headers = [("range", f"bytes=0-{wanted - 1}"), ("x-oss-range-behavior", "standard")]
            started = time.perf_counter()
            received += len(client.request("GET", bucket, key, headers=headers)[1])
            times.append(time.perf_counter() - started)
        return times, received

    def read_all(seconds: float, share: int) -> list[tuple[list[float], int]]:
        end = time.perf_counter() + seconds
        return list(threads.map(lambda first: read(first, end, share), range(in_flight)))

    with ThreadPoolExecutor(in_flight) as threads:
        # One request of each thread makes its connection.
        warming = sum(received for _, received in read_all(bounds.seconds, 1))
        start, cpu = time.perf_counter(), time.process_time()
        results = read_all(bounds.seconds, max(1, (bounds.size - warming) // in_flight - most))
    times = [one for found, _ in results for one in found]
    size = sum(received for _, received in results)
    return Measured(
        objects=len(times),
        size=size,
        seconds=time.perf_counter() - start,
        cpu=time.process_time() - cpu,
        latencies=times,
        traffic=size + warming,
    )


def write(
    client: "Client", prefix: tuple[str, str], size: int, bounds: Bounds, in_flight: int, stopped: threading.Event
) -> Measured:
    """Store objects from several threads, and measure each.

    Args:
        client: Stores them.
        prefix: Bucket and beginning of the keys.
        size: Bytes of an object.
        bounds: When to stop.
        in_flight: The number of threads.
        stopped: Ends it after the requests that are in flight.
    """
    content = os.urandom(size)
    end = time.perf_counter() + bounds.seconds
    most = max(1, bounds.size // max(1, size) // in_flight)

    def store(thread: int) -> list[float]:
        times: list[float] = []
        while len(times) < most and time.perf_counter() < end and not stopped.is_set():
            started = time.perf_counter()
            client.put(prefix[0], f"{prefix[1]}{thread}-{len(times)}", content)
            times.append(time.perf_counter() - started)
        return times

    start, cpu = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(in_flight) as threads:
        times = [one for found in threads.map(store, range(in_flight)) for one in found]
    return Measured(
        objects=len(times),
        size=len(times) * size,
        seconds=time.perf_counter() - start,
        cpu=time.process_time() - cpu,
        latencies=times,
        traffic=len(times) * size,
    )
