"""The next batch of a map dataset, in flight before the program asks for it, if batches are read in order."""

from collections.abc import Callable

from osstorchconnector._native import ObjectStream
from osstorchconnector.process.owner import Owner


class ReadAhead:
    """Foresees the next batch of a process, and holds its stream.

    Without a shuffle, each worker of a ``DataLoader`` reads runs of consecutive positions, and skips the batches of the
    other workers between them. If the last three batches were runs of one length at one distance, the next one is
    foreseen. A shuffle does not produce such batches.
    """

    def __init__(self) -> None:
        """Foresee nothing yet."""
        self._forget()

    def _forget(self) -> None:
        self._owner = Owner()
        self._first = 0
        self._length = 0
        self._distance = 0
        self._foreseen: tuple[list[int], ObjectStream] | None = None

    def take(self, positions: list[int]) -> ObjectStream | None:
        """Return the stream of a batch, if this batch was foreseen."""
        if not self._owner.is_this_process():
            # The parent's stream does not work in a forked process, which reads other batches.
            self._forget()
        foreseen, self._foreseen = self._foreseen, None
        if foreseen is None:
            return None
        expected, stream = foreseen
        if expected == positions:
            return stream
        stream.close()
        return None

    def foresee(self, positions: list[int], count: int, start: Callable[[list[int]], ObjectStream]) -> None:
        """Start the batch that probably follows a batch.

        Args:
            positions: The batch.
            count: Number of rows in all.
            start: Starts the stream of a batch.
        """
        first, length = positions[0] if positions else 0, len(positions)
        is_run = length > 1 and positions == list(range(first, first + length))
        distance = first - self._first if is_run and length == self._length else 0
        is_foreseen = distance >= length > 0 and distance == self._distance
        self._first, self._length, self._distance = first, length if is_run else 0, distance
        begin = first + distance
        # The program may leave out a last batch that is shorter.
        if is_foreseen and begin + length <= count:
            expected = list(range(begin, begin + length))
            self._foreseen = expected, start(expected)

    def __reduce__(self) -> tuple[type["ReadAhead"], tuple[()]]:
        """Return one that foresees nothing: another process reads other batches."""
        return ReadAhead, ()
