"""The result of a run, as plain data."""

from dataclasses import dataclass, field
from typing import Any, Final

#: Percentiles of latencies that are shown.
PERCENTILES: Final = (50, 90, 99)


@dataclass
class Measured:
    """What one run, or one of its processes, has measured.

    Attributes:
        objects: Objects that arrived.
        size: Their bytes.
        seconds: The time that they took, without making connections.
        cpu: Seconds of processor time of the reading processes.
        latencies: Seconds of single requests; empty if they were not measured.
        retries: Requests that were sent again.
        throttled: Those of them that the service refused because of too many.
        traffic: All bytes that were read, with those before the measurement.
        busy: The part of the machine's processors that was busy, with other programs.
    """

    objects: int = 0
    size: int = 0
    seconds: float = 0.0
    cpu: float = 0.0
    latencies: list[float] = field(default_factory=list)
    retries: int = 0
    throttled: int = 0
    traffic: int = 0
    busy: float = 0.0

    @property
    def rate(self) -> float:
        """Bytes per second."""
        return self.size / self.seconds if self.seconds else 0.0

    @property
    def objects_rate(self) -> float:
        """Objects per second."""
        return self.objects / self.seconds if self.seconds else 0.0

    @property
    def cpu_per_object(self) -> float:
        """Seconds of processor time for each object."""
        return self.cpu / self.objects if self.objects else 0.0

    @property
    def cpu_per_gb(self) -> float:
        """Seconds of processor time for 10**9 bytes."""
        return self.cpu / (self.size / 1e9) if self.size else 0.0

    @property
    def cores(self) -> float:
        """How many processors were in use."""
        return self.cpu / self.seconds if self.seconds else 0.0

    def percentile(self, percent: int) -> float:
        """Return a percentile of the latencies."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] if ordered else 0.0

    def document(self) -> dict[str, Any]:
        """Return the result for programs."""
        document: dict[str, Any] = {
            "objects": self.objects,
            "bytes": self.size,
            "seconds": self.seconds,
            "objects_per_second": self.objects_rate,
            "bytes_per_second": self.rate,
            "cpu_seconds_per_object": self.cpu_per_object,
            "cpu_seconds_per_gb": self.cpu_per_gb,
            "cores": self.cores,
            "machine_busy": self.busy,
            "retries": self.retries,
            "throttled": self.throttled,
        }
        if self.latencies:
            document["latency"] = {f"p{percent}": self.percentile(percent) for percent in PERCENTILES}
            document["latency"]["max"] = max(self.latencies)
        return document


def joined(parts: list[Measured]) -> Measured:
    """Return what processes that ran at the same time have measured together."""
    seconds = max((part.seconds for part in parts), default=0.0)
    # Each has its own time; the rates add up.
    size = sum(part.rate for part in parts) * seconds
    objects = sum(part.objects_rate for part in parts) * seconds
    return Measured(
        objects=round(objects),
        size=round(size),
        seconds=seconds,
        cpu=sum(part.cores for part in parts) * seconds,
        latencies=[latency for part in parts for latency in part.latencies],
        retries=sum(part.retries for part in parts),
        throttled=sum(part.throttled for part in parts),
        traffic=sum(part.traffic for part in parts),
    )
