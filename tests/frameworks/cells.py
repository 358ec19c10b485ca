"""The table of frameworks: who divides the dataset there, and what each rank must get.

A cell is one way to use one framework, with a number of ranks, workers started in one way, a number of objects and a
mode of ``even``. One program run holds many cells, because starting a rank takes seconds.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

# All numbers of ranks divide the first, two ranks do not divide the second, and the third is less than a batch for each
# reader.
NUMBERS = ((24, "none"), (21, "pad"), (5, "none"))
#: For started workers, which take seconds each.
NUMBERS_OF_STARTED = ((21, "none"),)
COUNTS = tuple(count for count, _ in NUMBERS)
BATCH = 4
WORLDS = (1, 2, 3)
#: Each spawned worker imports torch, and a worker from a forkserver gets the same pickle.
WORLD_OF_SPAWN = 2
#: A number of workers, and how they are started.
LOADINGS = (("", 0), ("fork", 2), ("spawn", 2), ("forkserver", 2))
#: Started workers take seconds each.
SLOW = ("spawn", "forkserver")


@dataclass(frozen=True)
class Way:
    """One way to use a framework.

    Attributes:
        framework: The name of the group of ways, which share one program run.
        name: The row of the table.
        result: ``"once"``: each object once, apart from the dataset's own padding; ``"padded"``: the framework repeats
            some, so that all ranks get the same number of batches; or a part of the error that all ranks raise.
        error_from: The number of ranks and of workers from which on it is an error.
        options: Options of the dataset.
        even: The one mode that it is tried with. Steps that wait for all ranks need the same number of batches.
        workers: Whether the way has a loader with workers.
        needs: Packages that must be installed.
        divided_by: Who divides among the ranks, and who among the workers, for the page.
    """

    framework: str
    name: str
    result: str = "once"
    error_from: tuple[int, int] = (1, 0)
    options: dict[str, Any] = field(default_factory=dict)
    even: str = ""
    workers: bool = True
    needs: tuple[str, ...] = ()
    divided_by: tuple[str, str] = ("dataset", "dataset")


@dataclass(frozen=True)
class Cell:
    """One way with all numbers."""

    way: str
    world: int
    method: str
    workers: int
    count: int
    even: str

    @property
    def epochs(self) -> int:
        """In how many epochs it is tried."""
        return 2 if self.count == COUNTS[1] and self.method not in SLOW else 1

    @property
    def title(self) -> str:
        """The cell in words."""
        loading = f"{self.workers} workers ({self.method})" if self.workers else "no workers"
        return f"{self.way}, {self.world} ranks, {loading}, {self.count} objects, even={self.even}"

    def as_json(self) -> dict[str, Any]:
        """The cell as plain data."""
        return asdict(self)


ACCELERATE = ("accelerate",)
BY_ACCELERATE = ("Accelerate", "dataset")

WAYS = {
    way.name: way
    for way in (
        Way("plain", "loop over the dataset", workers=False),
        Way("plain", "DataLoader"),
        Way("plain", "DataLoader, batch_size given", options={"batch_size": BATCH}),
        Way("plain", "DataLoader, persistent workers"),
        Way("plain", "generator around the dataset"),
        Way("plain", "subclass with a generator"),
        Way("plain", "ChainDataset"),
        Way("plain", "copy.deepcopy"),
        Way("plain", "copy by pickle"),
        Way("plain", "wrapper that divides among workers", "split_workers=False", (1, 2)),
        Way(
            "plain",
            "wrapper that divides among workers, split_workers=False",
            options={"split_workers": False},
            divided_by=("dataset", "wrapper"),
        ),
        Way("plain", "wrapper that divides among ranks", "shard=None", (2, 0)),
        Way(
            "plain",
            "wrapper that divides among ranks, shard=None",
            options={"shard": None},
            divided_by=("wrapper", "dataset"),
        ),
        Way("plain", "iterator made before the wrapper runs", "shard=None", (2, 0), workers=False),
        Way("plain", "thread that reads ahead"),
        Way("datapipes", "IterableWrapper"),
        Way("datapipes", "IterableWrapper, sharding_filter", divided_by=("datapipe", "datapipe")),
        Way("torchdata", "StatefulDataLoader", needs=("torchdata",)),
        Way("torchdata", "torchdata.nodes", needs=("torchdata",), workers=False),
        Way("torchdata", "torchdata.nodes, Prefetcher", needs=("torchdata",), workers=False),
        Way("lightning", "Lightning Trainer", even="pad", needs=("lightning",)),
        Way("lightning", "Lightning Fabric", needs=("lightning",)),
        Way("webdataset", "webdataset pipeline", needs=("webdataset",)),
        Way(
            "webdataset",
            "webdataset pipeline, split_by_worker",
            needs=("webdataset",),
            divided_by=("dataset", "webdataset"),
        ),
        Way(
            "webdataset",
            "webdataset pipeline, split_by_node and split_by_worker",
            needs=("webdataset",),
            divided_by=("webdataset", "webdataset"),
        ),
        Way("accelerate", "Accelerate, prepared", "padded", needs=ACCELERATE, divided_by=BY_ACCELERATE),
        Way("accelerate", "Accelerate, dispatch off", "padded", needs=ACCELERATE, divided_by=BY_ACCELERATE),
        Way("accelerate", "Accelerate, split_batches", "padded", needs=ACCELERATE, divided_by=BY_ACCELERATE),
        Way(
            "accelerate",
            "Accelerate, dispatch off, split_batches",
            "padded",
            needs=ACCELERATE,
            divided_by=BY_ACCELERATE,
        ),
        Way("accelerate", "Accelerate, stateful loader", "padded", needs=ACCELERATE, divided_by=BY_ACCELERATE),
        Way("accelerate", "Accelerate, not prepared", needs=ACCELERATE),
        Way(
            "accelerate",
            "Accelerate, one of two prepared",
            needs=ACCELERATE,
            divided_by=("Accelerate, dataset", "dataset"),
        ),
        Way(
            "transformers",
            "Transformers Trainer",
            "padded",
            needs=("accelerate", "transformers"),
            divided_by=("Accelerate", "dataset"),
        ),
        Way(
            "transformers",
            "Transformers Trainer, dispatch off",
            "padded",
            needs=("accelerate", "transformers"),
            divided_by=("Accelerate", "dataset"),
        ),
        Way("datasets", "datasets, from_generator", needs=("datasets",), divided_by=("dataset", "datasets")),
        Way(
            "datasets",
            "datasets, from_generator, split_by_node",
            needs=("datasets",),
            divided_by=("datasets", "datasets"),
        ),
        Way(
            "datasets",
            "datasets, Dataset.from_generator",
            workers=False,
            needs=("datasets",),
            divided_by=("program", "program"),
        ),
        Way("datasets", "datasets, interleave_datasets", needs=("datasets",), divided_by=("dataset", "datasets")),
        Way(
            "datasets",
            "datasets, from_generator, prepared by Accelerate",
            "padded",
            needs=("accelerate", "datasets"),
            divided_by=("Accelerate", "datasets"),
        ),
        Way("ray", "Ray Train", needs=("ray",)),
        Way("ray", "Ray Train, prepare_data_loader", needs=("ray",)),
    )
}


def all_cells(world: int, framework: str) -> Iterator[Cell]:
    """Yield the cells of one program run: all starts of workers, with some numbers of objects and modes."""
    for way in WAYS.values():
        if way.framework != framework:
            continue
        for method, workers in LOADINGS if way.workers else LOADINGS[:1]:
            if method == "spawn" and world != WORLD_OF_SPAWN:
                continue
            for count, even in NUMBERS_OF_STARTED if method in SLOW else NUMBERS:
                yield Cell(way.name, world, method, workers, count, way.even or even)


#: The groups of ways whose packages the tests of the project install.
TESTED = ("plain", "datapipes", "torchdata", "lightning", "webdataset")
#: Ways with started workers in the part that `make test` runs: what they know comes in a pickle.
STARTED = ("DataLoader", "IterableWrapper, sharding_filter")


def pairwise(cells: Sequence[Cell]) -> list[Cell]:
    """Return cells that have each pair of way, ranks, workers and objects which any of the cells has."""

    def pairs(cell: Cell) -> set[Any]:
        values = (("way", cell.way), ("world", cell.world), ("workers", cell.method), ("count", cell.count))
        return set(itertools.combinations(values, 2))

    missing = set().union(*map(pairs, cells))
    chosen = []
    while missing:
        best = max(cells, key=lambda cell: len(pairs(cell) & missing))
        missing -= pairs(best)
        chosen.append(best)
    return chosen


def cells_of_make_test() -> list[Cell]:
    """Return the part of the table that `make test` runs."""
    cells = [cell for world in WORLDS for framework in TESTED for cell in all_cells(world, framework)]
    started = [cell for cell in cells if cell.method in SLOW and cell.way in STARTED and cell.world == WORLDS[1]]
    return pairwise([cell for cell in cells if cell.method not in SLOW]) + started


def expects_error(cell: Cell) -> str:
    """Return a part of the error that the cell must raise on all ranks, or nothing."""
    way = WAYS[cell.way]
    ranks, workers = way.error_from
    fails = way.result not in ("once", "padded") and cell.world >= ranks and cell.workers >= workers
    return way.result if fails else ""


def findings(cell: Cell, ranks: list[Any]) -> list[str]:
    """Return what is wrong with what the ranks got: a list of epochs each, or the text of an error."""
    error = expects_error(cell)
    if error:
        return [f"rank {rank}: no error with {error}: {got}" for rank, got in enumerate(ranks) if error not in str(got)]
    if any(isinstance(got, str) for got in ranks):
        return [f"rank {rank}: {got}" for rank, got in enumerate(ranks) if isinstance(got, str)]
    found = []
    for epoch in range(max(map(len, ranks))):
        got = [rank[epoch] for rank in ranks]
        everything = sorted(number for share in got for number in share)
        missing = sorted(set(range(cell.count)) - set(everything))
        repeated = len(everything) - len(set(everything))
        if missing or set(everything) - set(range(cell.count)):
            found.append(f"epoch {epoch}: {missing} are missing in {got}")
        if WAYS[cell.way].result == "padded":
            # Each worker of each rank may fill a batch of all ranks; one rank has nothing to fill up.
            allowed = cell.world * BATCH * max(cell.workers, 1) * cell.world if cell.world > 1 else 0
            sizes = {len(share) for share in got}
            if len(sizes) > 1:
                found.append(f"epoch {epoch}: the ranks have different numbers: {got}")
        else:
            allowed = 0 if cell.even == "none" or "dataset" not in WAYS[cell.way].divided_by[0] else cell.world - 1
        if repeated > allowed:
            found.append(f"epoch {epoch}: {repeated} are repeated in {got}")
    return found
