"""One pass of one process over its share: objects are transformed, and failures treated as the policy says."""

import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Generic, Self, TypeVar

from osstorchconnector._native import DataObject
from osstorchconnector.connection.spans import ranged
from osstorchconnector.dataset.failure_counts import FailureCounts, failure_class_of
from osstorchconnector.dataset.options import Policy
from osstorchconnector.dataset.outcome import Outcome, Outcomes, call
from osstorchconnector.dataset.reader_position import ReaderPosition
from osstorchconnector.dataset.reading_time import Pass
from osstorchconnector.exceptions import OssError

Item = TypeVar("Item")

#: If the dataset has no batch size, a substitute is one of so many neighbours: enough that one of them is good, and few
#: enough that looking ahead takes little memory.
NEIGHBOURS: Final = 16


class Iteration(Generic[Item]):
    """Iterator over the transformed objects of a stream.

    It is not a generator on purpose: after an error of an object or of the transform, the next call continues with the
    next object.
    """

    def __init__(
        self,
        outcomes: Outcomes,
        policy: Policy,
        counts: FailureCounts,
        position: ReaderPosition,
        neighbours: int,
        before: Callable[[int], DataObject],
        finished: Callable[[], None] = lambda: None,
        confirmed: "Callable[[], Iteration[Item] | None]" = lambda: None,
        *,
        reading: Pass,
    ) -> None:
        """Hold the parts.

        Args:
            outcomes: The outcomes of the objects that are not consumed yet.
            policy: What to do about failures.
            counts: Counts the failures.
            position: How far the reader is; the iteration moves it.
            neighbours: A substitute is one of so many consecutive positions, normally a batch.
            before: Fetches the object of a position that was consumed before this iteration began.
            finished: Called when no object is left.
            confirmed: Called before the first object; returns the iteration that must take the place of this one, if it
                has the wrong share.
            reading: Measures where the time goes.
        """
        self._outcomes = outcomes
        self._next_outcome = ranged("sample", outcomes.read)
        self._policy = policy
        self._counts = counts
        self._position = position
        self._neighbours = neighbours
        self._before = before
        self._finished = finished
        self._confirmed: Callable[[], Iteration[Item] | None] | None = confirmed
        self._began = began = position.consumed
        self._reading = reading
        self._look_at = began + 1
        reading.delivered = lambda: position.consumed - began
        # A program may leave the loop early.
        self._ending = self._end_with_this(reading)
        self._good: DataObject | None = None
        self._ahead: deque[Outcome] = deque()

    def __iter__(self) -> Self:
        """Return the iterator itself."""
        return self

    def __next__(self) -> Item:
        """Return the next object, transformed.

        Raises:
            OssError: This object could not be fetched.
            StopIteration: No object is left.
        """
        if self._confirmed is not None:
            self._confirm(self._confirmed())
        position = self._position
        while True:
            if position.consumed % self._neighbours == 0:
                self._good = None
            value, failed, item = outcome = self._ahead.popleft() if self._ahead else self._read()
            position.consumed += 1
            if position.consumed >= self._look_at:
                self._look_at = position.consumed + self._reading.look()
                self._next_outcome = ranged("sample", self._outcomes.read)
            if failed is None:
                self._good = item
                return value  # type: ignore[no-any-return]
            self._counts.add(failed.failure_class, failed.error)
            action = self._policy.action(failed.failure_class)
            if action == "raise":
                raise failed.error
            self._counts.check(self._policy, failed.error)
            if action == "substitute":
                substituted: Item = self._substitute(outcome, failed.error)
                return substituted
            if callable(action) and item is not None:
                replaced: Item = call(action, failed.error, item)
                return replaced

    def _confirm(self, other: "Iteration[Item] | None") -> None:
        if other is not None:
            self.close()
            # Now, not at the end of what takes its place.
            self._ending()
            other._ending.detach()  # noqa: SLF001 - of the same class
            self.__dict__.update(other.__dict__)
            self._ending = self._end_with_this(self._reading)
        self._confirmed = None

    def _end_with_this(self, reading: Pass) -> "weakref.finalize[[], Self]":
        ending = weakref.finalize(self, reading.end)
        # Nobody asks any more at the end of the process.
        ending.atexit = False
        return ending

    def close(self) -> None:
        """Stop fetching ahead."""
        self._ahead.clear()
        self._outcomes.close()

    def _read(self) -> Outcome:
        """Return the outcome of the next object.

        Raises:
            OssError: The listing failed, or changed since the state was taken.
            StopIteration: No object is left.
        """
        try:
            outcome = self._next_outcome()
        except StopIteration:
            self._reading.end()
            self._position.check_listing()
            self._finished()
            raise
        if self._position.resumed is not None:
            self._position.check_listing()
        return outcome

    def _substitute(self, outcome: Outcome, error: Exception) -> Any:  # noqa: ANN401 - the transform decides
        good = self._good or self._good_before_the_beginning()
        if good is None:
            try:
                good = self._good_ahead()
            except Exception:
                # The error of the listing is more important; the failure comes again after it.
                self._ahead.appendleft(outcome)
                self._position.consumed -= 1
                raise
        if good is None:
            error.add_note(
                f"on_error='substitute' found no object to take its place among {self._neighbours} neighbours"
            )
            raise error
        return self._outcomes.again(good)

    def _good_ahead(self) -> DataObject | None:
        for _, failed, item in self._ahead:
            if failed is None:
                return item
        room = -self._position.consumed % self._neighbours - len(self._ahead)
        for _ in range(room):
            try:
                outcome = self._read()
            except StopIteration:
                return None
            self._ahead.append(outcome)
            _, failed, item = outcome
            if failed is None:
                return item
        return None

    def _good_before_the_beginning(self) -> DataObject | None:
        """Return the neighbour that an iteration without interruption would have in memory."""
        failed = self._position.consumed - 1
        first = failed - failed % self._neighbours
        if self._began <= first:
            return None
        for number in reversed(range(first, self._began)):
            try:
                item = self._before(number)
            except OssError as error:
                if failure_class_of(error) is None:
                    raise
                continue
            _, unfit, good = self._outcomes.transformed(item)
            if unfit is None:
                self._good = good
                return good
        return None
