"""How the rates grow with workers, objects and their size, and the memory with the prefetch budget."""

from collections.abc import Callable
from pathlib import Path

from benchmarks.suite.contenders import BUCKET, ORIGINAL, OURS, Site, contender, contenders
from benchmarks.suite.measure import Row, Run
from benchmarks.suite.objects import COUNT, PREFIX, fill, write_small
from benchmarks.suite.servers import emulator, nginx, write_objects

WORKERS = (1, 2, 4, 8)
OBJECTS = (1_000, 10_000, 100_000, 1_000_000)
# The original takes minutes for a million.
_MOST_OF_ORIGINAL = 100_000
SIZES = (*(1024 * 10**power for power in range(6)), 1 << 30)
BUDGETS = tuple(mebibytes << 20 for mebibytes in (16, 64, 256, 1024))


def run(folder: Path, rounds: int) -> list[Row]:
    """Measure all four with few rounds: only the shape of the curves matters."""
    rounds = min(rounds, 2)
    return [
        *_workers_and_budgets(folder / "many", rounds),
        *_sizes(folder / "sizes", rounds),
        *_objects(folder, rounds),
    ]


def _row(kind: str, name: str, unit: str, x: float, runs: list[Run]) -> Row:
    row = Row(kind, name, unit, runs, {"x": x})
    print(f"  {kind} {x:g}, {name}: {row.rate:,.0f} {unit}/s, {row.memory / 1e6:,.0f} MB", flush=True)
    return row


def _times(rounds: int, name: str, job: Callable[[], Run]) -> list[Run]:
    # The part has to take less than ten minutes, and the original would take most of them.
    return [job() for _ in range(rounds if name == OURS else 1)]


def _workers_and_budgets(folder: Path, rounds: int) -> list[Row]:
    folder.mkdir()
    sums, names = write_small(folder, 100_000)
    rows = []
    with nginx(folder, sums) as site:
        for workers in WORKERS:
            task = {"job": "small", "dataset": "iterable", "workers": workers, "names": str(names), "expected": COUNT}
            for name, job in contenders((OURS, ORIGINAL), site, task).items():
                rows.append(_row("workers", name, "objects", workers, _times(rounds, name, job)))
        for budget in BUDGETS:
            job = contender(
                OURS, site, {"job": "slow_reader", "names": str(names), "budget": budget, "expected": COUNT}
            )
            rows.append(_row("budget", OURS, "objects", budget, _times(rounds, OURS, job)))
    return rows


def _sizes(folder: Path, rounds: int) -> list[Row]:
    folder.mkdir()
    rows = []
    for size in SIZES:
        place = folder / str(size)
        place.mkdir()
        count = min(COUNT, max(1, (1 << 30) // size))
        body = bytes(size)
        sums = write_objects(place, ((f"{PREFIX}/{number}", body) for number in range(count)))
        names = place / "names"
        names.write_text("\n".join(f"{BUCKET}/{key}" for key in sums))
        with nginx(place, sums) as site:
            task = {"job": "sizes", "names": str(names), "expected": count * size}
            for name, job in contenders((OURS, ORIGINAL), site, task).items():
                rows.append(_row("size", name, "bytes", size, _times(rounds, name, job)))
    return rows


def _objects(folder: Path, rounds: int) -> list[Row]:
    with emulator(folder) as (server, site):
        keys = fill(server, OBJECTS[-1], 1_000)
        names = folder / "names"
        names.write_text("\n".join(f"{BUCKET}/{key}" for key in keys))
        return [row for count in OBJECTS for row in _count(site, names, count, rounds if count < OBJECTS[-1] else 1)]


def _count(site: Site, names: Path, count: int, rounds: int) -> list[Row]:
    task = {"job": "small", "dataset": "iterable", "workers": 2, "names": str(names), "count": count, "expected": count}
    which = (OURS, ORIGINAL) if count <= _MOST_OF_ORIGINAL else (OURS,)
    found = contenders(which, site, task)
    return [_row("objects", name, "objects", count, _times(rounds, name, job)) for name, job in found.items()]
