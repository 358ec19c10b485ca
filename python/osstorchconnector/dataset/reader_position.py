"""How far one iteration is."""

import logging
from typing import Final

from osstorchconnector._torch.stateful_iterator import AskingIterator
from osstorchconnector.dataset.reader_order import ReaderOrder
from osstorchconnector.dataset.rows import Rows
from osstorchconnector.dataset.state import ResumePoint, reader_state
from osstorchconnector.exceptions import OssListingChangedError
from osstorchconnector.process.owner import Owner

_logger: Final = logging.getLogger(__name__)


class ReaderPosition:
    """How far one iteration is."""

    def __init__(self, order: ReaderOrder, consumed: int, rows: Rows, resumed: ResumePoint | None) -> None:
        """Begin after the positions that are consumed already.

        Args:
            order: What the iteration delivers.
            consumed: Positions that were consumed before it began.
            rows: The listing.
            resumed: The state or cursor that the iteration resumes from.
        """
        self.order = order
        self.consumed = consumed
        self._began = consumed
        self.resumed = resumed
        self._rows = rows
        self._owner = Owner()
        self._iterator = AskingIterator()

    def is_here(self) -> bool:
        """Return whether this process iterates, not one that it was forked from."""
        return self._owner.is_this_process()

    def is_of_an_earlier_iterator(self) -> bool:
        """Return whether a loader's iterator asks, and the iteration was begun for another one.

        So the iteration for the one that asks has not begun, as if a wrapper begins late.
        """
        return AskingIterator().differs_from_that_of(self._iterator)

    @property
    def has_moved(self) -> bool:
        """Whether the iteration has delivered anything."""
        return self.consumed != self._began

    def check_listing(self) -> None:
        """Compare the listing with the listing of the state that the iteration resumes from.

        Raises:
            OssListingChangedError: It changed, and the program did not choose to continue.
        """
        if self.resumed is None or self.resumed.finished:
            return
        try:
            self.resumed.seen.check(self._rows)
        except OssListingChangedError as error:
            if self.resumed.on_listing_change == "raise":
                raise
            _logger.warning("the iteration continues, since on_listing_change='continue': %s", error)
        self.resumed = None

    def state(self) -> ResumePoint:
        """Return the state of the reader."""
        # Before the first object, fewer rows may be known than when the state was taken.
        if self.resumed is not None and self.resumed.consumed == self.consumed:
            return self.resumed
        if self.resumed is not None and self.resumed.consumed is None and self.consumed == 0:
            return ResumePoint(self.order, 0, self.resumed.seen, self.resumed.finished)
        return reader_state(self.order, self.consumed, self._rows)
