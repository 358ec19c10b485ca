"""What the clients of this process have done so far: requests, bytes, retries, times."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from itertools import accumulate
from typing import Any

from osstorchconnector._native import counts


@dataclass(frozen=True)
class ClientStats:
    """Counts and levels of all clients of one process, DataLoader workers not included.

    Attributes:
        requests: Requests, each attempt counted, by what they do: ``"get"``, ``"head"``, ``"list"`` (whatever is asked
            of a bucket), ``"put"``, ``"post"`` (the ends of uploads in parts), ``"delete"``.
        retries: Attempts after which the request was sent again, by cause: ``"throttled"``, ``"server_error"``,
            ``"refused"``, ``"timeout"``, ``"no_connection"``, ``"lost_connection"``, ``"corrupted"``, ``"other"``.
        failures: Operations that failed, by the cause of the last attempt. That an object does not exist is
            ``"refused"``.
        first_byte_bounds: Upper ends, in seconds, of the classes of ``first_byte_counts``.
        first_byte_counts: How many requests got the first byte of their answer within each class; the last class has no
            end.
        first_byte_seconds: All these times together.
        waited_seconds: How long threads of the program waited for OSS, all together.
        received_bytes: Bytes of objects received. Bytes that were requested twice count twice.
        verified_bytes: Bytes of whole objects whose CRC-64 was found to be the one that OSS stores.
        sent_bytes: Bytes of request bodies.
        connections_opened: Connections opened so far.
        connections_open: Connections that are open now, the idle ones included.
        listed_pages: Pages of listings.
        concurrency: How many requests datasets may have in flight now.
        held_bytes: Bytes that datasets and readers hold ahead of the program now.
    """

    requests: Mapping[str, int]
    retries: Mapping[str, int]
    failures: Mapping[str, int]
    first_byte_bounds: tuple[float, ...]
    first_byte_counts: tuple[int, ...]
    first_byte_seconds: float
    waited_seconds: float
    received_bytes: int
    verified_bytes: int
    sent_bytes: int
    connections_opened: int
    connections_open: int
    listed_pages: int
    concurrency: int
    held_bytes: int

    def first_byte(self, quantile: float) -> float | None:
        """Return a time, in seconds, within which this part of the requests got the first byte of their answer.

        It is the upper end of a class, so it is at most 2.5 times the true value; infinite in the last class.

        Args:
            quantile: For instance 0.5 for the median, 0.99.

        Returns:
            None before the first answer.
        """
        total = sum(self.first_byte_counts)
        if not total:
            return None
        ends = (*self.first_byte_bounds, float("inf"))
        reached = zip(accumulate(self.first_byte_counts), ends, strict=True)
        return next(end for count, end in reached if count >= quantile * total)

    def as_dict(self) -> dict[str, Any]:
        """Return the values by name, for JSON."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def stats() -> ClientStats:
    """Return what this process has counted so far."""
    counted = counts()
    for name in ("first_byte_bounds", "first_byte_counts"):
        counted[name] = tuple(counted[name])
    return ClientStats(**counted)
