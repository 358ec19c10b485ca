"""The next batch of a map dataset, in flight before the program asks for it."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from osstorchconnector._native import ObjectStream
from osstorchconnector._torch.coming_batches import announce_batches
from osstorchconnector.process.owner import Owner

#: Starts the stream of a batch.
Start = Callable[[list[int]], ObjectStream]


class ReadAhead:
    """Foresees the next batch of a process, and holds its stream.

    A worker of a ``DataLoader`` learns of its next batch as soon as torch has assigned it, so a shuffle is foreseen
    too. Batches in order are foreseen without that, and earlier: each worker reads runs of consecutive indices, and
    skips the batches of the other workers between them. If the last three batches were runs of one length at one
    distance, so is the next one.
    """

    def __init__(self) -> None:
        """Foresee nothing yet."""
        self._forget()

    def _forget(self) -> None:
        self._owner = Owner()
        # A forked process makes a new one, also if the parent holds it.
        self._lock = threading.Lock()
        self._first = 0
        self._length = 0
        self._distance = 0
        # None: nobody was asked yet whether batches are announced.
        self._is_announced: bool | None = None
        # Batches that were announced, of which none is in flight.
        self._coming: deque[list[int]] = deque()
        self._foreseen: tuple[list[int], ObjectStream] | None = None

    def take(self, indices: list[int]) -> ObjectStream | None:
        """Return the stream of a batch, if this batch was foreseen."""
        if not self._owner.is_this_process():
            # The parent's stream does not work in a forked process, which reads other batches.
            self._forget()
        with self._lock:
            foreseen, self._foreseen = self._foreseen, None
            if indices in self._coming:
                # A batch before it failed, or the process waited for this one.
                while self._coming.popleft() != indices:
                    pass
        if foreseen is None:
            return None
        expected, stream = foreseen
        if expected == indices:
            return stream
        # Whatever was announced, the dataset is asked for something else.
        self._is_announced = False
        stream.close()
        return None

    def foresee(self, indices: list[int], count: int, start: Start) -> None:
        """Start the batch that follows a batch, or that probably does.

        Args:
            indices: The batch.
            count: Number of rows in all.
            start: Starts the stream of a batch.
        """
        if self._is_announced:
            with self._lock:
                self._start_announced(start)
            return
        first, length = indices[0] if indices else 0, len(indices)
        is_run = length > 1 and indices == list(range(first, first + length))
        distance = first - self._first if is_run and length == self._length else 0
        is_foreseen = distance >= length > 0 and distance == self._distance
        self._first, self._length, self._distance = first, length if is_run else 0, distance
        begin = first + distance
        # The program may leave out a last batch that is shorter.
        if is_foreseen and begin + length <= count:
            expected = list(range(begin, begin + length))
            self._foreseen = expected, start(expected)

    def listen(self, indices: Sequence[Any], rows_of: Callable[[Iterable[Any]], list[int]], start: Start) -> None:
        """Have the next batches announced, if this is a worker whose batches are not in order.

        Args:
            indices: The batch that the program asked for.
            rows_of: Makes row numbers of indices.
            start: Starts the stream of a batch.
        """
        if self._is_announced is None and self._length == 0:
            self._is_announced = announce_batches(
                indices, lambda coming, is_awaited: self._announce(rows_of(coming), start, is_awaited=is_awaited)
            )

    def _announce(self, indices: list[int], start: Start, *, is_awaited: bool) -> None:
        with self._lock:
            if self._is_announced is not False:
                self._coming.append(indices)
                if not is_awaited:
                    self._start_announced(start)

    def _start_announced(self, start: Start) -> None:
        if self._foreseen is None and self._coming:
            indices = self._coming.popleft()
            self._foreseen = indices, start(indices)

    def __reduce__(self) -> tuple[type["ReadAhead"], tuple[()]]:
        """Return one that foresees nothing: another process reads other batches."""
        return ReadAhead, ()
