"""Where an epoch stands, as plain data: states of one reader, and cursors that any number of readers go on from."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Literal, Protocol, Self

from osstorchconnector._native import Order
from osstorchconnector.exceptions import OssConfigError, OssListingChangedError

State = dict[str, Any]

VERSION: Final = 1
# A state says of one reader how far it is; a cursor is for all of them.
_OF_A_READER: Final = ("batch_size", "even", "rank", "world", "worker", "workers")
_COUNTS: Final = ("epoch", "seed", "start", "batch_size", "rank", "world", "worker", "workers")
_OF_THE_ORDER: Final = ("seed", "shuffle", "chunks")
_NO_STATE: Final = (
    "this is no state of a StatefulDataLoader over an OssIterableDataset: give what loader.state_dict() returned"
)


class Rows(Protocol):
    """What is listed so far, or for good."""

    @property
    def count(self) -> int:
        """How many rows are known."""
        ...

    @property
    def complete(self) -> bool:
        """Whether these are all."""
        ...

    def digest(self, count: int, /) -> int:
        """Return a checksum over the first rows."""
        ...


@dataclass(frozen=True, slots=True)
class Plan:
    """The numbers that, with the length of the listing, decide what one reader delivers. See docs/concepts/order.md."""

    epoch: int = 0
    seed: int = 0
    shuffle: bool | int = False
    start: int = 0
    batch_size: int = 1
    even: Literal["pad", "drop", "none"] = "pad"
    rank: int = 0
    world: int = 1
    worker: int = 0
    workers: int = 1
    #: Whether the blocks of the shuffle change places too.
    chunks: bool = False

    def order(self, skip: int = 0) -> Order:
        """Return the formula, from the reader's position ``skip`` on."""
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

    def of_rank(self, rank: int | None = None) -> "Plan":
        """Return the plan of a rank as if it had one reader."""
        return replace(self, rank=self.rank if rank is None else rank, worker=0, workers=1)

    def length(self, count: int) -> int:
        """Return how many positions the reader has in a listing of ``count`` rows."""
        return self.order().length(count)

    def groups_end(self, consumed: int) -> int:
        """Return the global position behind the group of batches that holds the reader's last consumed position."""
        if consumed == 0:
            return self.start
        group = self.worker + self.workers * ((consumed - 1) // self.batch_size)
        return self.start + (group + 1) * self.world * self.batch_size


@dataclass(frozen=True, slots=True)
class Seen:
    """The part of the listing that decided what was consumed.

    Attributes:
        rows: Its length.
        digest: Its checksum, in hexadecimal.
        whole: Whether the listing's length decided too, as it does in a full shuffle and in the last batches.
    """

    rows: int
    digest: str
    whole: bool

    @classmethod
    def until(cls, end: int, shuffle: bool | int, rows: Rows) -> Self:  # noqa: FBT001 - the plan's
        """Describe the part that decides the global positions before ``end``."""
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
            OssListingChangedError: It is another one.
        """
        if rows.count < self.rows:
            raise _changed(f"it has {rows.count} objects, where {self.rows} had been seen")
        if f"{rows.digest(self.rows):016x}" != self.digest:
            raise _changed(f"its first {self.rows} objects are not those that had been seen")
        if self.whole and rows.count > self.rows:
            raise _changed(f"it has {rows.count} objects instead of {self.rows}, and the order depends on their number")


def _changed(how: str) -> OssListingChangedError:
    return OssListingChangedError(
        f"the listing changed since this state was taken: {how}. Restore the objects, or begin the epoch anew without "
        'the state, or go on regardless with load_state_dict(state, on_listing_change="continue"), which may repeat '
        "some objects and leave others out"
    )


@dataclass(frozen=True, slots=True)
class Resume:
    """A state or a cursor, checked.

    Attributes:
        plan: The numbers that its positions belong to; of a cursor, those of all readers only.
        consumed: Positions that the reader has consumed; None for a cursor.
        seen: The part of the listing that decided them.
        finished: Whether there is nothing left in the epoch.
        on_listing_change: What to do where the listing changed.
    """

    plan: Plan
    consumed: int | None
    seen: Seen
    finished: bool
    on_listing_change: Literal["raise", "continue"] = "raise"

    def state(self) -> State:
        """Return it as a dictionary for JSON."""
        numbers = asdict(self.plan)
        if self.consumed is None:
            numbers = {name: value for name, value in numbers.items() if name not in _OF_A_READER}
        else:
            numbers["consumed"] = self.consumed
        return {"version": VERSION, **numbers, "listing": asdict(self.seen), "finished": self.finished}

    @classmethod
    def from_state(cls, state: Mapping[str, Any], on_listing_change: str = "raise") -> Self:
        """Read a state or a cursor.

        Raises:
            OssConfigError: It is neither, or of a newer version.
        """
        if on_listing_change not in {"raise", "continue"}:
            raise OssConfigError(f"on_listing_change must be 'raise' or 'continue', not {on_listing_change!r}")
        if not isinstance(state, Mapping) or "version" not in state:
            raise OssConfigError(
                "this is no state of a dataset: give what state_dict(), cursor() or cursor_from() returned"
            )
        if state["version"] != VERSION:
            raise OssConfigError(f"the state has version {state['version']!r}; this release reads version {VERSION}")
        numbers = {name: value for name, value in state.items() if name not in {"version", "listing", "finished"}}
        consumed = numbers.pop("consumed", None)
        try:
            seen, plan = Seen(**state["listing"]), Plan(**numbers)
            finished = state["finished"]
        except (KeyError, TypeError) as error:
            raise OssConfigError(f"the dataset's state is damaged: {error}") from error
        counts = {name: getattr(plan, name) for name in _COUNTS}
        counts |= {"consumed": 0 if consumed is None else consumed, "rows": seen.rows}
        for name, value in counts.items():
            if not isinstance(value, int) or value < 0:
                raise OssConfigError(f"the dataset's state is damaged: {name} is {value!r}")
        return cls(plan, consumed, seen, finished, on_listing_change)  # type: ignore[arg-type]

    def check_order(self, plan: Plan) -> None:
        """Compare what decides the order of all readers.

        Raises:
            OssConfigError: The dataset has another order.
        """
        self._compare(plan, _OF_THE_ORDER, "build the dataset with the same options")

    def applied_to(self, plan: Plan) -> tuple[Plan, int]:
        """Return the plan that goes on from here, and how many of its positions to skip.

        Args:
            plan: What the reader would do in a new epoch.

        Raises:
            OssConfigError: The dataset has another order, or a state is for other readers.
        """
        self.check_order(plan)
        if self.consumed is None:
            return replace(plan, epoch=self.plan.epoch, start=self.plan.start), 0
        self._compare(
            plan,
            _OF_A_READER,
            "to go on with other readers, load dataset.cursor(samples_consumed=...) or dataset.cursor_from(...) of the "
            "loader's state instead",
        )
        return self.plan, self.consumed

    def as_cursor(self) -> "Resume":
        """Return the cursor behind what every rank has consumed, if all are where this reader is.

        Raises:
            OssConfigError: It is the state of one of several workers, or inside of a batch.
        """
        if self.consumed is None:
            return self
        plan = self.plan
        if plan.workers > 1 or (self.consumed % plan.batch_size and not self.finished):
            raise OssConfigError(
                "this state is of one of several workers, or inside of a batch: only whole batches of all workers make "
                "a cursor"
            )
        return _cursor(plan, plan.start + self.consumed * plan.world, self.seen, finished=self.finished)

    def _compare(self, plan: Plan, names: Sequence[str], advice: str) -> None:
        different = [
            f"{name}={getattr(self.plan, name)!r} where this one has {getattr(plan, name)!r}"
            for name in names
            if getattr(self.plan, name) != getattr(plan, name)
        ]
        if different:
            raise OssConfigError(f"the state is of a dataset with {', '.join(different)}: {advice}")


def reader_state(plan: Plan, consumed: int, rows: Rows) -> Resume:
    """Return the state of a reader that has consumed so many positions."""
    finished = rows.complete and consumed >= plan.length(rows.count)
    end = plan.groups_end(consumed)
    return Resume(plan, consumed, Seen.until(end, plan.shuffle_of_known, rows), finished)


def cursor_after(plan: Plan, consumed: int, rows: Rows) -> Resume:
    """Return the cursor behind the positions that each rank has consumed.

    Args:
        plan: Of any reader of the rank.
        consumed: Positions that the rank has consumed since ``plan.start``.
        rows: The listing.

    Raises:
        OssConfigError: They end inside of a batch, or there are not so many.
    """
    plan = plan.of_rank()
    if rows.complete:
        own, longest = plan.length(rows.count), plan.of_rank(0).length(rows.count)
        if consumed > own:
            raise OssConfigError(f"{consumed} samples cannot have been consumed: this rank has {own} in the epoch")
        # Where only longer ranks have something left, a whole batch that was consumed is not the end of the epoch.
        if consumed == longest or (consumed == own and consumed % plan.batch_size):
            return _cursor(plan, rows.count, Seen.until(rows.count + 1, plan.shuffle_of_known, rows), finished=True)
    if consumed % plan.batch_size:
        raise OssConfigError(
            f"{consumed} samples are no whole number of batches of batch_size={plan.batch_size}: take the cursor "
            "between two batches, and tell the dataset the loader's batch size"
        )
    start = plan.start + consumed * plan.world
    if start > rows.count:
        raise OssConfigError(
            f"{consumed} samples on each of {plan.world} ranks cannot have been consumed: {rows.count} are known"
        )
    return _cursor(plan, start, Seen.until(start, plan.shuffle_of_known, rows), finished=False)


def _cursor(plan: Plan, start: int, seen: Seen, *, finished: bool) -> Resume:
    return Resume(replace(plan, start=start), None, seen, finished)


def consumed_by_workers(states: Sequence[Mapping[str, Any]], steps: int, rows: Rows) -> tuple[Plan, int]:
    """Return the plan of a rank, and how many of its positions its workers have consumed together.

    Args:
        states: The state of each worker.
        steps: Batches that the loader delivered after it took the states.
        rows: The listing.

    Raises:
        OssConfigError: The states are not those of one loader, or what was consumed is not all before some position.
    """
    resumes = sorted((Resume.from_state(state) for state in states), key=lambda resume: resume.plan.worker)
    plan = resumes[0].plan.of_rank()
    workers = [(resume.plan.worker, resume.plan.workers) for resume in resumes]
    if any(resume.consumed is None or resume.plan.of_rank() != plan for resume in resumes) or workers != [
        (worker, len(states)) for worker in range(len(states))
    ]:
        raise OssConfigError("the states are not those of all workers of one loader")
    if steps and plan.batch_size == 1 and len(states) > 1:
        raise OssConfigError(
            f"the loader delivered {steps} batches since it took its workers' states: tell the dataset batch_size, or "
            "the loader snapshot_every_n_steps=1"
        )
    consumed = [resume.consumed or 0 for resume in resumes]
    blocks = [-(-count // plan.batch_size) for count in consumed]
    if any(found != -(-(sum(blocks) - worker) // len(blocks)) for worker, found in enumerate(blocks)) or any(
        resume.consumed and resume.consumed % plan.batch_size and not resume.finished for resume in resumes
    ):
        raise OssConfigError(
            "what the workers have consumed is not all before one position, so no cursor can tell it: tell the dataset "
            "the loader's batch size with batch_size=..."
        )
    total = sum(consumed) + steps * plan.batch_size
    return plan, min(total, plan.length(rows.count)) if rows.complete else total


def worker_states(loader_state: Mapping[str, Any]) -> tuple[list[Mapping[str, Any]], int]:
    """Return the state of the dataset in each worker, and the batches that were delivered after these were taken.

    Args:
        loader_state: What ``StatefulDataLoader.state_dict()`` returned, with workers or without.

    Raises:
        OssConfigError: It is something else.
    """
    try:
        if "_snapshot" not in loader_state:
            return [_checked(loader_state["dataset_state"])], 0
        snapshots = loader_state["_snapshot"]["_worker_snapshots"]
        states = [_checked(snapshot["dataset_state"]) for snapshot in snapshots.values()]
        return states, int(loader_state["_steps_since_snapshot"])
    except (AttributeError, KeyError, TypeError) as error:
        raise OssConfigError(_NO_STATE) from error


def _checked(state: object) -> Mapping[str, Any]:
    if not isinstance(state, Mapping) or not state:
        raise OssConfigError(_NO_STATE)
    return state
