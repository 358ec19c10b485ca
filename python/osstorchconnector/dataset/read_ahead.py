"""The batch that is asked for next, where batches are read in order: on its way before it is asked for."""

from collections.abc import Callable

from osstorchconnector._native import ObjectStream
from osstorchconnector.process.owner import Owner


class ReadAhead:
    """Foresees the next batch of a process, and has its stream.

    Each worker of a ``DataLoader`` reads runs of consecutive positions, as far apart as all workers' batches are long.
    The next is foreseen where the last three were runs of one length at one distance, which no sampler that shuffles
    makes.
    """

    def __init__(self) -> None:
        """Know nothing yet."""
        self._forget()

    def _forget(self) -> None:
        self._owner = Owner()
        self._first = 0
        self._length = 0
        self._distance = 0
        self._under_way: tuple[list[int], ObjectStream] | None = None

    def take(self, positions: list[int]) -> ObjectStream | None:
        """Return the stream of a batch, where it is the one that is under way."""
        if not self._owner.is_this_process():
            # Streams do not live on in a forked process, and its batches are others.
            self._forget()
        under_way, self._under_way = self._under_way, None
        if under_way is None:
            return None
        expected, stream = under_way
        if expected == positions:
            return stream
        stream.close()
        return None

    def go_on(self, positions: list[int], count: int, start: Callable[[list[int]], ObjectStream]) -> None:
        """Start what probably comes after `positions`, of `count` in all."""
        first, length = positions[0] if positions else 0, len(positions)
        is_run = length > 1 and positions == list(range(first, first + length))
        distance = first - self._first if is_run and length == self._length else 0
        is_foreseen = distance >= length > 0 and distance == self._distance
        self._first, self._length, self._distance = first, length if is_run else 0, distance
        begin = first + distance
        # A shorter last one may be left out by who reads.
        if is_foreseen and begin + length <= count:
            expected = list(range(begin, begin + length))
            self._under_way = expected, start(expected)

    def __reduce__(self) -> tuple[type["ReadAhead"], tuple[()]]:
        """Return one that knows nothing: another process reads other batches."""
        return ReadAhead, ()
