"""The numbers that decide what one reader delivers, and in which order. See docs/concepts/order.md."""

from dataclasses import dataclass, replace
from typing import Literal, Self

from osstorchconnector._native import Order


@dataclass(frozen=True, slots=True)
class ReaderOrder:
    """The numbers that decide, with the length of the listing, what one reader delivers."""

    epoch: int = 0
    seed: int = 0
    shuffle: bool | int = False
    #: The first place: a cursor's places before it are consumed.
    start: int = 0
    batch_size: int = 1
    even: Literal["pad", "drop", "none"] = "pad"
    rank: int = 0
    world: int = 1
    worker: int = 0
    workers: int = 1
    #: Whether the blocks of the shuffle change places too.
    chunks: bool = False

    def formula(self, skip: int = 0) -> Order:
        """Return the formula for the reader's positions from ``skip`` on."""
        return Order(
            seed=self.seed,
            epoch=self.epoch,
            shuffle=self.shuffle,
            start=self.start,
            rank=self.rank,
            world=self.world,
            batch_size=self.batch_size,
            even=self.even,
            worker=self.worker,
            workers=self.workers,
            skip=skip,
            chunks=self.chunks,
        )

    @property
    def shuffle_of_known(self) -> bool | int:
        """The shuffle, as far as it decides which rows must be known: whole chunks come from anywhere."""
        return self.chunks or self.shuffle

    def of_rank(self, rank: int | None = None) -> Self:
        """Return the order of a rank that has one reader; by default of this rank."""
        return replace(self, rank=self.rank if rank is None else rank, worker=0, workers=1)

    def length(self, count: int) -> int:
        """Return how many positions the reader has in a listing of ``count`` rows."""
        return self.formula().length(count)

    def groups_end(self, consumed: int) -> int:
        """Return the place behind the group that holds the reader's last consumed position."""
        if consumed == 0:
            return self.start
        group = self.worker + self.workers * ((consumed - 1) // self.batch_size)
        return self.start + (group + 1) * self.world * self.batch_size
