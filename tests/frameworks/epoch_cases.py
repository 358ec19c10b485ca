"""Which trainings the tests of epochs run, and what each must deliver."""

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tests.dataset.order_model import Reader

# Two ranks with batches of 4 divide it, so that no framework pads.
COUNT = 24
BATCH = 4
SEED = 9
EPOCHS = 3
#: It stands before the warnings of each case.
MARK = "-- case"

#: What may bring ranks out of step before an epoch.
TROUBLES = ("", "rank 0 looks first", "ranks break off", "equal seeds", "two at once")
#: These set the epoch of the dataset themselves.
SETTING = ("Accelerate", "Trainer")
#: Loaders without a framework.
LOADERS = ("DataLoader", "StatefulDataLoader")
#: Their steps wait for all ranks.
ALONE = ("Accelerate", "Lightning", "Trainer")


@dataclass(frozen=True)
class EpochCase:
    """A training of some epochs.

    Attributes:
        way: The framework.
        trouble: What happens before each epoch.
        sets: Whether the program calls ``set_epoch`` before each epoch.
        workers: Forked workers of the loader.
        persistent: Whether they serve all epochs.
        restarts: Whether the training ends after the first epoch, and a new one resumes from its checkpoint.
    """

    way: str
    trouble: str
    sets: bool
    workers: int
    persistent: bool
    restarts: bool = False

    def as_json(self) -> dict[str, Any]:
        """The case as plain data."""
        return asdict(self)


def cases(ways: Sequence[str]) -> list[EpochCase]:
    """Return the cases of some ways."""
    found = []
    loadings = ((0, False), (2, False), (2, True))
    for way, trouble, sets, (workers, persistent) in itertools.product(ways, TROUBLES, (False, True), loadings):
        if way == "loop" and workers:
            continue
        # Frameworks start workers as torch's loader does, so each trouble has one of the two kinds there.
        if way not in LOADERS and workers and persistent == (trouble in TROUBLES[::2]):
            continue
        # A loader with persistent workers has one iterator, and these trainers make their iterators themselves.
        if trouble == "two at once" and (persistent or sets or way in {*ALONE, "loop"}):
            continue
        found.append(EpochCase(way, trouble, sets, workers, persistent))
    if "Lightning" in ways:
        found += [EpochCase("Lightning", "", sets=True, workers=w, persistent=False, restarts=True) for w in (0, 2)]
    return found


def findings(case: EpochCase, ranks: Sequence[Sequence[Sequence[int]]], warned: Sequence[str]) -> list[str]:
    """Return what is wrong with the epochs that the ranks got, and with their warnings."""
    found = []
    epochs = EPOCHS * 2 if case.trouble == "two at once" else EPOCHS
    world = len(ranks)
    for number, got in enumerate(zip(*ranks, strict=True)):
        if sorted(itertools.chain(*got)) != list(range(COUNT)):
            found.append(f"epoch {number} has not each object once: {got}")
    if {len(rank) for rank in ranks} != {epochs}:
        found.append(f"not {epochs} epochs")
    advances = case.sets or case.way in SETTING or world == 1
    for number, rank in enumerate(ranks):
        if len({tuple(epoch) for epoch in rank}) != (epochs if advances else 1):
            found.append(f"rank {number} has the orders {rank}")
    if case.way not in SETTING and (case.sets or not advances):
        expected = [
            [
                Reader(SEED, epoch if case.sets else 0, shuffle=True, rank=rank, world=world, batch_size=BATCH).entries(
                    COUNT
                )
                for epoch in range(epochs)
            ]
            for rank in range(world)
        ]
        if [list(map(list, rank)) for rank in ranks] != expected:
            found.append(f"expected {expected}, got {ranks}")
    for number, text in enumerate(warned):
        says = "dataset.set_epoch(epoch) before each epoch" in text
        # A look at a batch may itself repeat an order.
        if says == advances and case.trouble in {"", "equal seeds", "two at once"}:
            found.append(f"rank {number} {'warns' if says else 'does not warn'}: {text}")
    return found
