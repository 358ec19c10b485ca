"""All runs of a benchmark, within a bound of time and of traffic, and their results."""

import statistics
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from osstorchconnector.cli.bench_runs.floor import Floor, measure_floor
from osstorchconnector.cli.bench_runs.measured import Measured
from osstorchconnector.cli.bench_runs.runner import Runner
from osstorchconnector.cli.bench_runs.verdict import (
    Limit,
    Recommendation,
    better_concurrency,
    enough_workers,
    limit,
)
from osstorchconnector.cli.uninterrupted import uninterrupted
from osstorchconnector.connection.config import OssConfig

if TYPE_CHECKING:
    from osstorchconnector.cli.bench_runs.sample import Row, Sample
    from osstorchconnector.connection.client import OssClient

# One request at a time shows the latency; 256 hide 35 ms for objects of 100 KB at 700 MB/s.
CONCURRENCIES: Final = (1, 8, 64, 256)
_IN_FLIGHT: Final = 16
# Runs of the default and of a recommended value, in turn.
_REPEATS: Final = 2
# Parts of the time and of the traffic; the main run has the most of both.
_MAIN: Final = (4.0, 4.0)
_CONCURRENCY: Final = (1.4, 1.0)
_WORKERS: Final = (2.0, 2.0)
_LATENCY: Final = (1.0, 0.3)
_CLASS: Final = (1.2, 1.0)
_AGAIN: Final = (1.2, 0.8)
_WRITE: Final = (2.0, 1.0)
# The rest is for what comes twice.
_PLANNED: Final = 0.95
# Version of the form of the document.
_FORM: Final = 1


@dataclass
class Result:
    """What a benchmark has measured.

    Attributes:
        sample: The objects that were read.
        main: One process with the default settings.
        first_byte: Single requests for one byte.
        single: Single requests for whole objects, one at a time.
        loaded: The same, with 16 in flight.
        by_concurrency: One process with so many requests in flight.
        by_workers: So many processes.
        by_class: One process, by class of size.
        written: Objects that were stored, if any were.
        floor: What this machine could do at best.
        limit: What limits the main run.
        recommended: Settings that are worth a change.
        traffic: Bytes that were read and written.
        short: Runs that the bound of the traffic ended early.
    """

    sample: "Sample"
    main: Measured
    first_byte: Measured
    single: Measured
    loaded: Measured
    by_concurrency: dict[int, Measured]
    by_workers: dict[int, Measured]
    by_class: dict[str, Measured]
    written: Measured | None
    floor: Floor
    limit: Limit
    recommended: list[Recommendation]
    traffic: int
    short: list[str] = field(default_factory=list)

    @property
    def cpu_over_floor(self) -> float:
        """How many times the processor time of the floor the main run needs for a byte."""
        return self.main.cpu_per_gb / self.floor.cpu_per_gb

    def document(self) -> dict[str, Any]:
        """Return the result for programs."""
        return {
            "version": _FORM,
            "uri": self.sample.uri,
            "objects_listed": len(self.sample.rows),
            "median_size": self.sample.median,
            "read": self.main.document(),
            "first_byte": self.first_byte.document(),
            "one_at_a_time": self.single.document(),
            f"{_IN_FLIGHT}_in_flight": self.loaded.document(),
            "by_concurrency": {str(number): run.document() for number, run in self.by_concurrency.items()},
            "by_workers": {str(number): run.document() for number, run in self.by_workers.items()},
            "by_size": {name: run.document() for name, run in self.by_class.items()},
            "write": None if self.written is None else self.written.document(),
            "floor": {**vars(self.floor), "cpu_per_gb": self.floor.cpu_per_gb, "times": self.cpu_over_floor},
            "limit": {"name": self.limit.name, "text": self.limit.text},
            "recommended": [one.document() for one in self.recommended],
            "traffic": self.traffic,
            "bounded_by_traffic": self.short,
        }


@dataclass
class Benchmark:
    """The runs.

    Attributes:
        sample: The objects.
        connection: The connection arguments of the processes.
        seconds: Seconds of all runs together.
        traffic: Bytes of all runs together.
        workers: Numbers of processes to try.
        client: Removes what was written; None if nothing is written.
        say: Called with the name of each run before it begins.
    """

    sample: "Sample"
    connection: dict[str, str | None]
    seconds: float
    traffic: int
    workers: tuple[int, ...]
    client: "OssClient | None"
    say: Callable[[str], None]

    def run(self) -> Result:
        """Make all runs.

        Raises:
            OssError: One of them failed.
        """
        classes = self.sample.classes if len(self.sample.classes) > 1 else {}
        planned = [_MAIN, *[_CONCURRENCY] * len(CONCURRENCIES), *[_WORKERS] * len(self.workers), *[_LATENCY] * 3]
        # Two settings may be compared with their defaults.
        planned += [*[_CLASS] * len(classes), *[_AGAIN] * 2 * 2 * _REPEATS, *[_WRITE] * (self.client is not None)]
        self._seconds = self.seconds / sum(part[0] for part in planned)
        self._bytes = _PLANNED * self.traffic / sum(part[1] for part in planned)
        self._runner = Runner(self.connection, self.sample.streamed, self.traffic)
        rows = self.sample.main
        self.say("the floor of this machine")
        floor = measure_floor()
        main = self._run("the default settings", rows, _MAIN)
        first_byte = self._latency("the first byte", rows, 1, 1)
        single = self._latency("one request at a time", rows, 1, None)
        loaded = self._latency(f"{_IN_FLIGHT} requests in flight", rows, _IN_FLIGHT, None)
        by_concurrency = {
            number: self._run(
                f"{number} requests in flight",
                rows,
                _CONCURRENCY,
                settings={"prefetch_concurrency": number, "max_concurrency": number},
            )
            for number in CONCURRENCIES
        }
        by_workers = {
            number: self._run(f"{number} workers", rows, _WORKERS, processes=number) for number in self.workers
        }
        by_class = {name: self._run(f"objects {name}", found, _CLASS) for name, found in classes.items()}
        written = self._write() if self.client is not None else None
        return Result(
            sample=self.sample,
            main=main,
            first_byte=first_byte,
            single=single,
            loaded=loaded,
            by_concurrency=by_concurrency,
            by_workers=by_workers,
            by_class=by_class,
            written=written,
            floor=floor,
            limit=limit(main, by_concurrency, by_workers, single.percentile(50)),
            recommended=self._recommend(rows, main, by_concurrency, by_workers),
            traffic=self._runner.traffic,
            short=self._runner.bounded_by_traffic,
        )

    def _run(self, name: str, rows: "list[Row]", part: tuple[float, float], **options: Any) -> Measured:  # noqa: ANN401 - those of `Runner.run`
        self.say(name)
        return self._runner.run(name, rows, part[0] * self._seconds, int(part[1] * self._bytes), **options)

    def _latency(self, name: str, rows: "list[Row]", in_flight: int, length: int | None) -> Measured:
        return self._run(name, rows, _LATENCY, mode="latency", in_flight=in_flight, length=length)

    def _write(self) -> Measured:
        bucket = self.sample.rows[0][0]
        below = self.sample.uri.partition("//")[2].partition("/")[2]
        prefix = f"{below}.osst-bench-{uuid.uuid4().hex}/"
        size = min(self.sample.median, OssConfig().part_size)
        try:
            return self._run(
                "writing", [], _WRITE, mode="write", bucket=bucket, prefix=prefix, length=size, in_flight=_IN_FLIGHT
            )
        finally:
            if self.client is not None:
                with uninterrupted():
                    self.client.delete_many([found.uri for found in self.client.list(f"oss://{bucket}/{prefix}")])

    def _recommend(
        self,
        rows: "list[Row]",
        main: Measured,
        by_concurrency: dict[int, Measured],
        by_workers: dict[int, Measured],
    ) -> list[Recommendation]:
        found = []
        number = better_concurrency(main, by_concurrency)
        if number is not None:
            default, rate = self._compared(rows, {"prefetch_concurrency": number}, 1)
            if rate > default:
                text = "a short read is faster with more requests from the start; a long one finds the number itself"
                found.append(Recommendation("prefetch_concurrency", number, default, rate, text))
        workers = enough_workers(main, by_workers)
        if workers > 1:
            default, rate = self._compared(rows, {}, workers)
            if rate > default:
                text = "several processes read more than one"
                found.append(Recommendation("num_workers", workers, default, rate, text))
        return found

    def _compared(self, rows: "list[Row]", settings: dict[str, int], processes: int) -> tuple[float, float]:
        """Return the medians of the default and of the settings, measured in turn."""
        rates: tuple[list[float], list[float]] = ([], [])
        for turn in range(_REPEATS):
            for place, (values, count) in enumerate((({}, 1), (settings, processes))):
                name = f"{'the default' if place == 0 else 'the recommended value'} again, {turn + 1}"
                run = self._run(name, rows, _AGAIN, settings=values, processes=count)
                rates[place].append(run.rate)
        return statistics.median(rates[0]), statistics.median(rates[1])
