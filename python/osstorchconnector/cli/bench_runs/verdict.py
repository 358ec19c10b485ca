"""What the figures say: what limits the rate, and which settings are worth a change."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from osstorchconnector.cli.bench_runs.measured import Measured

# Two runs of the same differ by as much on a quiet machine.
NOISE: Final = 1.1
# A thread that does nothing else still waits now and then.
_BUSY_CORE: Final = 0.85
_BUSY_MACHINE: Final = 0.92
_THROTTLED: Final = 0.01
# The smallest number of workers that comes so close to the best is enough.
_ENOUGH: Final = 0.95


#: What may limit the rate, in words.
_WHAT: Final = {
    "throttling": "throttling",
    "processors": "the processors of this machine",
    "one core": "one processor",
    "requests": "the number of requests in flight",
    "network": "the network or the bandwidth of the service",
}


@dataclass(frozen=True)
class Limit:
    """What limits the rate.

    Attributes:
        name: ``"throttling"``, ``"processors"``, ``"one core"``, ``"requests"`` or ``"network"``.
        text: Why, in a sentence.
    """

    name: str
    text: str

    @property
    def what(self) -> str:
        """The name in words."""
        return _WHAT[self.name]


def limit(
    main: "Measured", by_concurrency: "dict[int, Measured]", by_workers: "dict[int, Measured]", latency: float
) -> Limit:
    """Return what limits the main run.

    Args:
        main: One process with the default settings.
        by_concurrency: One process with so many requests in flight.
        by_workers: So many processes.
        latency: Seconds of a single request.
    """
    runs = [main, *by_concurrency.values(), *by_workers.values()]
    throttled = sum(run.throttled for run in runs)
    requests = sum(run.objects for run in runs)
    if throttled > _THROTTLED * requests:
        return Limit("throttling", f"the service asked {throttled} times for fewer requests, of about {requests}")
    if main.busy > _BUSY_MACHINE:
        return Limit("processors", f"{main.busy:.0%} of them were busy, with all programs that ran")
    best = max(by_workers.values(), key=lambda run: run.rate, default=main)
    if main.cores > _BUSY_CORE and best.rate > NOISE * main.rate:
        return Limit("one core", f"one process uses {main.cores:.1f} processors, and several processes are faster")
    numbers = sorted(by_concurrency)
    if len(numbers) > 1 and by_concurrency[numbers[-1]].rate > NOISE * by_concurrency[numbers[-2]].rate:
        text = f"each takes {latency * 1000:.1f} ms, and {numbers[-1]} of them bring more than {numbers[-2]}"
        return Limit("requests", text)
    return Limit("network", "neither more requests nor more processes bring more")


@dataclass(frozen=True)
class Recommendation:
    """A setting that was measured to be no slower than the default.

    Attributes:
        setting: The name of the setting.
        value: The value.
        default: Bytes per second with the default.
        rate: Bytes per second with the value.
        text: Why.
    """

    setting: str
    value: int
    default: float
    rate: float
    text: str

    def document(self) -> dict[str, Any]:
        """Return the recommendation for programs."""
        return {
            "setting": self.setting,
            "value": self.value,
            "default_bytes_per_second": self.default,
            "bytes_per_second": self.rate,
            "text": self.text,
        }


def better_concurrency(main: "Measured", by_concurrency: "dict[int, Measured]") -> int | None:
    """Return the number of requests to begin with that was faster than the default, to be measured once more."""
    best = max(by_concurrency, key=lambda number: by_concurrency[number].rate, default=None)
    if best is None or by_concurrency[best].rate < NOISE * main.rate:
        return None
    return best


def enough_workers(main: "Measured", by_workers: "dict[int, Measured]") -> int:
    """Return the smallest number of processes that is about as fast as the best; 1 if more bring nothing."""
    rates = {1: main.rate, **{number: run.rate for number, run in by_workers.items()}}
    best = max(rates.values())
    if best < NOISE * main.rate:
        return 1
    return min(number for number, rate in rates.items() if rate >= _ENOUGH * best)
