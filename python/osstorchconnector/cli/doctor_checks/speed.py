"""The time to the first byte, and the bandwidth with one connection and with many, within a bound of bytes."""

import statistics
import time
from typing import TYPE_CHECKING, Final

from osstorchconnector.cli.doctor_checks.finding import Finding, ok, warning
from osstorchconnector.cli.doctor_checks.service import Listed
from osstorchconnector.cli.doctor_checks.target import Target

if TYPE_CHECKING:
    from osstorchconnector._native import Client

_MIB: Final = 1 << 20
# Requests for the time to the first byte, after one that makes the connection.
_FIRST_BYTES: Final = 5
# Together at most 64 MiB are read, so that nobody is surprised by a bill.
_ONE_BYTES: Final = 16 * _MIB
_MANY_BYTES: Final = 47 * _MIB
_SECONDS: Final = 1.0
# What one request reads at most: what the native client keeps of one answer.
_RANGE: Final = 4 * _MIB
# The service answers from another region in that time, or it is overloaded: within one, 35 ms are usual.
_SLOW_FIRST_BYTE: Final = 0.2
# Less than a disk.
_SLOW: Final = 20 * _MIB


def speed(target: Target, client: "Client", listed: Listed) -> list[Finding]:
    """Measure with the objects that were listed."""
    if not listed.objects:
        return []
    largest = max(listed.objects, key=lambda one: one[1])
    first = _first_byte(target, client, largest[0])
    # Many small objects if there is no large one: then the number of requests counts, and not the bytes.
    large = largest[1] >= _RANGE
    one, one_requests = _with_one(target, client, [largest] if large else listed.objects)
    many, objects = _large(target, client, largest) if large else _small(target, client, listed.objects)
    concurrency = target.config.prefetch_concurrency
    text = f"{one / 1e6:.0f} MB/s with one connection ({one_requests:.0f} requests/s), {many / 1e6:.0f} MB/s with many"
    if not large:
        text += f" ({objects:.0f} objects/s)"
    values = {"one": one, "one_requests": one_requests, "many": many, "objects": objects, "concurrency": concurrency}
    if many < _SLOW and large:
        remedy = "use the -internal endpoint from the bucket's region, and no proxy; `osst bench` measures more"
        return [first, warning("bandwidth", text, remedy, **values)]
    return [first, ok("bandwidth", text, **values)]


def _first_byte(target: Target, client: "Client", key: str) -> Finding:
    times = []
    for _ in range(_FIRST_BYTES + 1):
        started = time.perf_counter()
        _get(target, client, key, 0, 1)
        times.append(time.perf_counter() - started)
    # The first one may have made the connection.
    median = statistics.median(times[1:])
    text = f"{median * 1000:.2f} ms (median of {_FIRST_BYTES}; the one before took {times[0] * 1000:.2f} ms)"
    if median > _SLOW_FIRST_BYTE:
        remedy = "use a bucket in this machine's region and its -internal endpoint; more requests in flight hide it"
        return warning("first byte", text, remedy, seconds=median)
    return ok("first byte", text, seconds=median)


def _get(target: Target, client: "Client", key: str, start: int, end: int) -> int:
    """Return how many bytes one request for a range has brought."""
    headers = [("range", f"bytes={start}-{end - 1}"), ("x-oss-range-behavior", "standard")]
    return len(client.request("GET", target.bucket, key, headers=headers)[1])


def _with_one(target: Target, client: "Client", objects: list[tuple[str, int]]) -> tuple[float, float]:
    """Return bytes and requests per second of one request after the other."""
    received = count = 0
    started = time.perf_counter()
    for key, size in objects:
        for start in range(0, size, _RANGE):
            received += _get(target, client, key, start, min(start + _RANGE, size))
            count += 1
            took = time.perf_counter() - started
            if took > _SECONDS or received + _RANGE > _ONE_BYTES:
                return received / took, count / took
    took = time.perf_counter() - started
    return received / took, count / took


def _large(target: Target, client: "Client", largest: tuple[str, int]) -> tuple[float, float]:
    """Return bytes and objects per second of a reader, which has many requests in flight."""
    key, size = largest
    buffer = bytearray(min(size, _MANY_BYTES))
    piece = max(_RANGE, len(buffer) // 4)
    started = time.perf_counter()
    received = 0
    with client.reader(target.bucket, key) as reader, memoryview(buffer) as view:
        while received < len(buffer) and time.perf_counter() < started + _SECONDS:
            part = view[received : received + piece]
            # Sequential reads would fetch ahead, beyond the bound.
            reader.readinto_many([(received, part)])
            received += len(part)
    took = time.perf_counter() - started
    return received / took, 1 / took


def _small(target: Target, client: "Client", objects: list[tuple[str, int]]) -> tuple[float, float]:
    """Return bytes and objects per second, as a dataset reads them."""
    from osstorchconnector._native import ObjectTable  # noqa: PLC0415 - few commands need it

    total, chosen = 0, []
    for key, size in objects:
        if total + size > _MANY_BYTES:
            break
        total += size
        chosen.append((target.bucket, key, size, None, "", None))
    rows = ObjectTable.from_objects(chosen)
    received = count = 0
    started = time.perf_counter()
    stream = client.stream_at(rows, range(len(chosen)))
    try:
        for item in stream:
            received += len(item.read())
            count += 1
            if time.perf_counter() > started + _SECONDS:
                break
    finally:
        stream.close()
    took = time.perf_counter() - started
    return received / took, count / took
