"""The targets of the suite, and whether the figures reach them."""

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.suite import background, pictures
from benchmarks.suite.contenders import FLOOR, ORIGINAL, OURS, S3
from benchmarks.suite.large import CONNECTION_BYTES_PER_SECOND
from benchmarks.suite.measure import Row, Run, paired

Rows = dict[tuple[str, str], Row]


@dataclass(frozen=True)
class Bar:
    """One target: a figure of one piece of work must be at least, or at most, a value."""

    work: str
    what: str
    least: float | None
    most: float | None
    measure: Callable[[Rows], float]

    @property
    def text(self) -> str:
        """The target as text."""
        return f"≥ {self.least:g}" if self.least is not None else f"≤ {self.most:g}"

    def missed_by(self, value: float) -> float:
        """By what share of the target a figure misses it; 0 if it does not."""
        below = 0.0 if self.least is None else 1 - value / self.least
        above = 0.0 if self.most is None else value / self.most - 1
        return max(below, above, 0.0)


def _rate(run: Run) -> float:
    return run.amount / run.seconds


def _cpu(run: Run) -> float:
    return run.cpu / run.amount


def faster(work: str, other: str, least: float) -> Bar:
    """At least this many times the rate of another contender."""
    return Bar(
        work, f"times the rate of {other}", least, None, lambda rows: paired(rows[work, OURS], rows[work, other], _rate)
    )


def cheaper(work: str, other: str, times: float) -> Bar:
    """At least this many times less processor time than another contender."""
    what = f"times less CPU than {other}"
    return Bar(work, what, times, None, lambda rows: paired(rows[work, other], rows[work, OURS], _cpu))


def dearer(work: str, other: str, most: float) -> Bar:
    """At most this many times the processor time of another contender."""
    what = f"times the CPU of {other}"
    return Bar(work, what, None, most, lambda rows: paired(rows[work, OURS], rows[work, other], _cpu))


def sooner(work: str, other: str, least: float) -> Bar:
    """At least this many times faster than another contender."""
    what = f"times faster than {other}"
    return Bar(work, what, least, None, lambda rows: rows[work, other].seconds / rows[work, OURS].seconds)


def memory(work: str, most: float, beside: float) -> Bar:
    """At most this many megabytes besides what the work itself needs."""
    return Bar(work, "MB besides the data", None, most, lambda rows: (rows[work, OURS].memory - beside) / 1e6)


def waits(work: str, most: float) -> Bar:
    """At most this many times as long as the bare work."""
    what = f"times as long as {FLOOR}"
    return Bar(work, what, None, most, lambda rows: rows[work, OURS].seconds / rows[work, FLOOR].seconds)


def milliseconds(work: str, most: float) -> Bar:
    """At most this many milliseconds."""
    return Bar(work, "ms", None, most, lambda rows: rows[work, OURS].seconds * 1e3)


def _share(work: str, most: float) -> Bar:
    """At most this share of the processor time, beyond what the same work takes without a connector."""

    def measure(rows: Rows) -> float:
        return 1 - paired(rows[work, FLOOR], rows[work, OURS], _cpu)

    return Bar(work, "share of the CPU that the connector takes", None, most, measure)


def _of_connections(work: str, least: float) -> Bar:
    def measure(rows: Rows) -> float:
        row = rows[work, OURS]
        return row.rate / (row.facts["connections"] * CONNECTION_BYTES_PER_SECOND)

    return Bar(work, "share of connections x 50 MB/s", least, None, measure)


_GIB = 1 << 30
_LOCAL = "local file"
_SAVE, _LOAD = "torch.save of 2 GiB into a sink", "torch.load of 2 GiB"
_READ = "2 GiB into given memory"
_MODEL = "a model of 4 GiB"

BARS = [
    *(faster(pictures.WORK, other, 0.97) for other in (ORIGINAL, S3, pictures.WEBDATASET)),
    _share(pictures.WORK, 0.08),
    *(sooner(pictures.FIRST, other, 0.97) for other in (ORIGINAL, S3, pictures.WEBDATASET)),
    faster("100 KB, iterable, 0 workers", ORIGINAL, 3),
    cheaper("100 KB, iterable, 0 workers", ORIGINAL, 3.5),
    faster("100 KB, iterable, 0 workers", FLOOR, 0.75),
    faster("100 KB, iterable, 2 workers", ORIGINAL, 2.4),
    cheaper("100 KB, iterable, 2 workers", ORIGINAL, 3),
    faster("100 KB, map, 2 workers", ORIGINAL, 4),
    cheaper("100 KB, map, 2 workers", ORIGINAL, 4),
    *(
        bar
        for kind in ("iterable, 0", "iterable, 2", "map, 2")
        for bar in (
            faster(f"4 KB, {kind} workers", ORIGINAL, 6),
            cheaper(f"4 KB, {kind} workers", ORIGINAL, 8),
        )
    ),
    faster("100 KB at 35 ms, iterable, 0 workers", ORIGINAL, 15),
    faster("100 KB at 35 ms, iterable, 2 workers", ORIGINAL, 9),
    faster("100 KB at 35 ms, map, 2 workers", ORIGINAL, 3.5),
    faster(_READ, FLOOR, 0.8),
    dearer(_READ, FLOOR, 1.5),
    memory(_READ, 300, 0),
    faster(_MODEL, FLOOR, 0.8),
    dearer(_MODEL, FLOOR, 1.5),
    memory(_MODEL, 300, 4 * _GIB),
    _of_connections(f"{_MODEL} at 35 ms, 50 MB/s a connection", 0.8),
    faster(_SAVE, ORIGINAL, 3),
    memory(_SAVE, 400, 0),
    faster(_LOAD, ORIGINAL, 2),
    faster(_LOAD, _LOCAL, 0.7),
    memory(_LOAD, 400, 2 * _GIB),
    _of_connections("2 GiB at 35 ms, 50 MB/s a connection", 0.8),
    faster("a million keys", ORIGINAL, 2),
    faster("a million keys, fast list, 20 ms a page", ORIGINAL, 2),
    faster("DCP save of 2 GiB into a sink, 2 ranks", ORIGINAL, 2),
    faster("DCP load of 2 GiB, 2 ranks", ORIGINAL, 2),
    *(waits(background.work(*variant), 1.1) for variant in background.VARIANTS),
    sooner("first batch of 64, 2 workers", ORIGINAL, 1),
    sooner("import, after torch", ORIGINAL, 1),
    milliseconds("import, without torch", 60),
]
