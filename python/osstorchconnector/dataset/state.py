"""How far an epoch is, as plain data: states of one reader, and cursors that any number of readers can resume from."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Literal, Self

from osstorchconnector.dataset.reader_order import ReaderOrder
from osstorchconnector.dataset.rows import Rows
from osstorchconnector.exceptions import OssConfigError, OssListingChangedError

State = dict[str, Any]

VERSION: Final = 1
# A state is about one reader; a cursor is for all of them, and has none of these.
_OF_A_READER: Final = ("batch_size", "even", "rank", "world", "worker", "workers")
_COUNTS: Final = ("epoch", "seed", "start", "batch_size", "rank", "world", "worker", "workers")
_OF_THE_ORDER: Final = ("seed", "shuffle", "chunks")


@dataclass(frozen=True, slots=True)
class Seen:
    """The part of the listing that decided what was consumed.

    Attributes:
        rows: Its length.
        digest: Its checksum, in hexadecimal.
        whole: Whether the length of the whole listing decided too, as in a full shuffle and in the last batches.
    """

    rows: int
    digest: str
    whole: bool

    @classmethod
    def until(cls, end: int, shuffle: bool | int, rows: Rows) -> Self:  # noqa: FBT001 - the order's
        """Describe the part that decides the places before ``end``."""
        if end == 0:
            return cls._of(0, rows, whole=False)
        if shuffle is True:
            end = rows.count + 1
        elif shuffle is not False:
            end = -(-end // shuffle) * shuffle
        return cls._of(min(end, rows.count), rows, whole=end > rows.count)

    @classmethod
    def _of(cls, count: int, rows: Rows, *, whole: bool) -> Self:
        return cls(count, f"{rows.digest(count):016x}", whole)

    def check(self, rows: Rows) -> None:
        """Compare with the listing as it is now.

        Raises:
            OssListingChangedError: This part has changed.
        """
        if rows.count < self.rows:
            raise _changed(f"it has {rows.count} objects, and {self.rows} had been seen")
        if f"{rows.digest(self.rows):016x}" != self.digest:
            raise _changed(f"its first {self.rows} objects differ from those that had been seen")
        if self.whole and rows.count > self.rows:
            raise _changed(f"it has {rows.count} objects instead of {self.rows}, and the order depends on their number")


def _changed(how: str) -> OssListingChangedError:
    return OssListingChangedError(
        f"the listing changed since this state was taken: {how}. Restore the objects, or begin the epoch anew without "
        'the state, or continue with load_state_dict(state, on_listing_change="continue"), which may repeat some '
        "objects and leave others out"
    )


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """A state or a cursor, checked.

    Attributes:
        order: The order that its positions belong to. A cursor has only the numbers that all readers share.
        consumed: Positions that the reader has consumed; None for a cursor.
        seen: The part of the listing that decided them.
        finished: Whether nothing is left in the epoch.
        on_listing_change: What to do if the listing changed.
    """

    order: ReaderOrder
    consumed: int | None
    seen: Seen
    finished: bool
    on_listing_change: Literal["raise", "continue"] = "raise"

    def state(self) -> State:
        """Return it as a dictionary for JSON."""
        numbers = asdict(self.order)
        if self.consumed is None:
            numbers = {name: value for name, value in numbers.items() if name not in _OF_A_READER}
        else:
            numbers["consumed"] = self.consumed
        return {"version": VERSION, **numbers, "listing": asdict(self.seen), "finished": self.finished}

    @classmethod
    def from_state(cls, state: Mapping[str, Any], on_listing_change: str = "raise") -> Self:
        """Read a state or a cursor.

        Raises:
            OssConfigError: It is neither, or of another version.
        """
        if on_listing_change not in {"raise", "continue"}:
            raise OssConfigError(f"on_listing_change must be 'raise' or 'continue', not {on_listing_change!r}")
        if not isinstance(state, Mapping) or "version" not in state:
            raise OssConfigError(
                "this is not the state of a dataset: give what state_dict(), cursor() or cursor_from() returned"
            )
        if state["version"] != VERSION:
            raise OssConfigError(f"the state has version {state['version']!r}; this release reads version {VERSION}")
        numbers = {name: value for name, value in state.items() if name not in {"version", "listing", "finished"}}
        consumed = numbers.pop("consumed", None)
        try:
            seen, order = Seen(**state["listing"]), ReaderOrder(**numbers)
            finished = state["finished"]
        except (KeyError, TypeError) as error:
            raise OssConfigError(f"the dataset's state is damaged: {error}") from error
        counts = {name: getattr(order, name) for name in _COUNTS}
        counts |= {"consumed": 0 if consumed is None else consumed, "rows": seen.rows}
        for name, value in counts.items():
            if not isinstance(value, int) or value < 0:
                raise OssConfigError(f"the dataset's state is damaged: {name} is {value!r}")
        return cls(order, consumed, seen, finished, on_listing_change)  # type: ignore[arg-type]

    def check_order(self, order: ReaderOrder) -> None:
        """Compare the numbers that decide the order of all readers.

        Raises:
            OssConfigError: The dataset has another order.
        """
        self._compare(order, _OF_THE_ORDER, "build the dataset with the same options")

    def applied_to(self, order: ReaderOrder) -> tuple[ReaderOrder, int]:
        """Return the order that resumes here, and how many of its positions to skip.

        Args:
            order: The reader's order in a new epoch.

        Raises:
            OssConfigError: The dataset has another order, or this is the state of another reader.
        """
        self.check_order(order)
        if self.consumed is None:
            return replace(order, epoch=self.order.epoch, start=self.order.start), 0
        self._compare(
            order,
            _OF_A_READER,
            "to resume with other readers, load dataset.cursor(samples_consumed=...) or dataset.cursor_from(...) of "
            "the loader's state instead",
        )
        return self.order, self.consumed

    def as_cursor(self) -> "ResumePoint":
        """Return the cursor for the case that every rank has consumed as much as this reader.

        Raises:
            OssConfigError: This is the state of one of several workers, or inside a batch.
        """
        if self.consumed is None:
            return self
        order = self.order
        if order.workers > 1 or (self.consumed % order.batch_size and not self.finished):
            raise OssConfigError(
                "this is the state of one of several workers, or inside a batch: only whole batches of all workers "
                "make a cursor"
            )
        return _cursor(order, order.start + self.consumed * order.world, self.seen, finished=self.finished)

    def _compare(self, order: ReaderOrder, names: Sequence[str], advice: str) -> None:
        different = [
            f"{name}={getattr(self.order, name)!r}, and this one has {getattr(order, name)!r}"
            for name in names
            if getattr(self.order, name) != getattr(order, name)
        ]
        if different:
            raise OssConfigError(f"the state is of a dataset with {'; '.join(different)}: {advice}")


def reader_state(order: ReaderOrder, consumed: int, rows: Rows) -> ResumePoint:
    """Return the state of a reader after it consumed a number of positions."""
    finished = rows.complete and consumed >= order.length(rows.count)
    end = order.groups_end(consumed)
    return ResumePoint(order, consumed, Seen.until(end, order.shuffle_of_known, rows), finished)


def cursor_after(order: ReaderOrder, consumed: int, rows: Rows) -> ResumePoint:
    """Return the cursor behind what the ranks have consumed.

    Args:
        order: The order of any reader of a rank.
        consumed: Positions that each rank has consumed since ``order.start``.
        rows: The listing.

    Raises:
        OssConfigError: They end inside a batch, or the rank does not have so many.
    """
    order = order.of_rank()
    if rows.complete:
        own, longest = order.length(rows.count), order.of_rank(0).length(rows.count)
        if consumed > own:
            raise OssConfigError(f"{consumed} samples cannot have been consumed: this rank has {own} in the epoch")
        # If longer ranks have something left, a rank that consumed its last whole batch is not at the end of the epoch.
        if consumed == longest or (consumed == own and consumed % order.batch_size):
            return _cursor(order, rows.count, Seen.until(rows.count + 1, order.shuffle_of_known, rows), finished=True)
    if consumed % order.batch_size:
        raise OssConfigError(
            f"{consumed} samples are not a whole number of batches of batch_size={order.batch_size}: take the cursor "
            "between two batches, and give the dataset the loader's batch size"
        )
    start = order.start + consumed * order.world
    if start > rows.count:
        raise OssConfigError(
            f"{consumed} samples on each of {order.world} ranks cannot have been consumed: {rows.count} are known"
        )
    return _cursor(order, start, Seen.until(start, order.shuffle_of_known, rows), finished=False)


def _cursor(order: ReaderOrder, start: int, seen: Seen, *, finished: bool) -> ResumePoint:
    return ResumePoint(replace(order, start=start), None, seen, finished)
