"""Iteration over the objects of a stream: transformed, with failures treated as the options say."""

import logging
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Generic, Self, TypeVar

from osstorchconnector._native import DataObject
from osstorchconnector.dataset.failure_counts import FailureCounts, failure_of
from osstorchconnector.dataset.options import Policy
from osstorchconnector.dataset.outcome import Outcome, Outcomes, call
from osstorchconnector.dataset.state import Plan, Resume, Rows, reader_state
from osstorchconnector.exceptions import OssError, OssListingChangedError
from osstorchconnector.process.owner import Owner

_logger: Final = logging.getLogger(__name__)

Item = TypeVar("Item")

#: Positions among which a substitute is looked for where no batch size is told: enough that one of them is good, few
#: enough that looking ahead for it holds little.
BLOCK: Final = 16


class Progress:
    """How far one iteration is."""

    def __init__(self, plan: Plan, consumed: int, rows: Rows, resumed: Resume | None) -> None:
        """Begin behind the positions that are consumed already."""
        self.plan = plan
        self.consumed = consumed
        self.resumed = resumed
        self._rows = rows
        self._owner = Owner()

    def is_here(self) -> bool:
        """Return whether this process iterates, not one that it was forked from."""
        return self._owner.is_this_process()

    def check_listing(self) -> None:
        """Compare the listing with the one that the state was taken of.

        Raises:
            OssListingChangedError: It is another one, and the program did not say to go on regardless.
        """
        if self.resumed is None or self.resumed.finished:
            return
        try:
            self.resumed.seen.check(self._rows)
        except OssListingChangedError as error:
            if self.resumed.on_listing_change == "raise":
                raise
            _logger.warning("going on regardless: %s", error)
        self.resumed = None

    def state(self) -> Resume:
        """Return where it stands."""
        # Until the first object the listing may not be known as far as it was when the state was taken.
        if self.resumed is not None and self.resumed.consumed == self.consumed:
            return self.resumed
        if self.resumed is not None and self.resumed.consumed is None and self.consumed == 0:
            return Resume(self.plan, 0, self.resumed.seen, self.resumed.finished)
        return reader_state(self.plan, self.consumed, self._rows)


class Iteration(Generic[Item]):
    """Iterator over the transformed objects of a stream.

    It is not a generator on purpose: after an error, of an object or of the transform, the next call goes on with the
    next object.
    """

    def __init__(
        self,
        outcomes: Outcomes,
        policy: Policy,
        counts: FailureCounts,
        progress: Progress,
        block: int,
        before: Callable[[int], DataObject],
    ) -> None:
        """Hold the parts.

        Args:
            outcomes: What becomes of the objects, from the position on that the progress tells.
            policy: What to do about failures.
            counts: Where failures are counted.
            progress: Kept up to date.
            block: A substitute is looked for among so many positions.
            before: Fetches the object of a position that was consumed before this iteration began.
        """
        self._outcomes = outcomes
        self._policy = policy
        self._counts = counts
        self._progress = progress
        self._block = block
        self._before = before
        self._began = progress.consumed
        self._good: DataObject | None = None
        self._ahead: deque[Outcome] = deque()

    def __iter__(self) -> Self:
        """Return the iterator itself."""
        return self

    def __next__(self) -> Item:
        """Return the next object, transformed.

        Raises:
            OssError: This object could not be fetched.
            StopIteration: There is none left.
        """
        progress = self._progress
        while True:
            if progress.consumed % self._block == 0:
                self._good = None
            value, failed, item = outcome = self._ahead.popleft() if self._ahead else self._read()
            progress.consumed += 1
            if failed is None:
                self._good = item
                return value  # type: ignore[no-any-return]
            self._counts.add(failed.kind, failed.error)
            action = self._policy.action(failed.kind)
            if action == "raise":
                raise failed.error
            self._counts.check(self._policy, failed.error)
            if action == "substitute":
                substituted: Item = self._substitute(outcome, failed.error)
                return substituted
            if callable(action) and item is not None:
                replaced: Item = call(action, failed.error, item)
                return replaced

    def close(self) -> None:
        """Stop fetching ahead."""
        self._ahead.clear()
        self._outcomes.close()

    def _read(self) -> Outcome:
        """Return what became of the next object.

        Raises:
            OssError: The listing failed, or is not the one that the state was taken of.
            StopIteration: There is none left.
        """
        try:
            outcome = self._outcomes.read()
        except StopIteration:
            self._progress.check_listing()
            raise
        if self._progress.resumed is not None:
            self._progress.check_listing()
        return outcome

    def _substitute(self, outcome: Outcome, error: Exception) -> Any:  # noqa: ANN401 - the transform decides
        good = self._good or self._good_before_the_beginning()
        if good is None:
            try:
                good = self._good_ahead()
            except Exception:
                # Of the listing: it tells more than the failure, which comes again when it is gone.
                self._ahead.appendleft(outcome)
                self._progress.consumed -= 1
                raise
        if good is None:
            error.add_note(f"on_error='substitute' found no object to take its place among {self._block} neighbours")
            raise error
        return self._outcomes.again(good)

    def _good_ahead(self) -> DataObject | None:
        for _, failed, item in self._ahead:
            if failed is None:
                return item
        room = -self._progress.consumed % self._block - len(self._ahead)
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
        """Find the neighbour that an iteration without interruption would have had in memory."""
        failed = self._progress.consumed - 1
        first = failed - failed % self._block
        if self._began <= first:
            return None
        for position in reversed(range(first, self._began)):
            try:
                item = self._before(position)
            except OssError as error:
                if failure_of(error) is None:
                    raise
                continue
            _, unfit, good = self._outcomes.transformed(item)
            if unfit is None:
                self._good = good
                return good
        return None
