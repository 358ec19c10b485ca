"""A model of resuming: with any number of ranks and workers before and after, each entry is consumed once."""

import json
import zlib
from dataclasses import dataclass, replace
from itertools import chain

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osstorchconnector import OssConfigError, OssListingChangedError
from osstorchconnector.dataset.loader_state import consumed_by_workers
from osstorchconnector.dataset.reader_order import ReaderOrder
from osstorchconnector.dataset.state import ResumePoint, cursor_after, reader_state
from tests.dataset.order_model import Reader


@dataclass
class FakeRows:
    """A listing of numbered entries. Each salt gives another listing."""

    count: int
    complete: bool = True
    salt: int = 0

    def digest(self, count: int) -> int:
        assert count <= self.count
        return zlib.crc32(f"{count}/{self.salt}".encode())


def reader(order: ReaderOrder) -> Reader:
    return Reader(
        seed=order.seed,
        epoch=order.epoch,
        start=order.start,
        rank=order.rank,
        world=order.world,
        batch_size=order.batch_size,
        even=order.even,
        worker=order.worker,
        workers=order.workers,
    )


def round_robin(order: ReaderOrder, count: int, workers: int) -> list[list[int]]:
    """Return the batches in the order in which a DataLoader delivers them."""
    parts = [reader(replace(order, worker=worker, workers=workers)).worker_batches(count) for worker in range(workers)]
    delivered = []
    while any(parts):
        delivered += [part.pop(0) for part in parts if part]
    return delivered


EVEN = st.sampled_from(["pad", "drop", "none"])
SMALL = st.integers(1, 5)


@given(st.integers(0, 200), SMALL, SMALL, SMALL, SMALL, EVEN)
def test_batches_are_the_same_for_any_number_of_workers(
    count: int, world: int, batch: int, some: int, others: int, even: str
) -> None:
    for rank in range(world):
        order = ReaderOrder(rank=rank, world=world, batch_size=batch, even=even)  # type: ignore[arg-type]
        assert round_robin(order, count, some) == round_robin(order, count, others)


@given(st.data(), st.integers(0, 200), st.integers(1, 6), EVEN)
def test_a_chain_of_cursors_delivers_each_entry_once(data: st.DataObject, count: int, batch: int, even: str) -> None:
    rows = FakeRows(count)
    order, consumed, worlds = ReaderOrder(even=even), [], [1]  # type: ignore[arg-type]
    for _ in range(data.draw(st.integers(0, 3))):
        world, workers = data.draw(SMALL), data.draw(SMALL)
        worlds.append(world)
        order = replace(order, world=world, batch_size=batch)
        ranks = [round_robin(replace(order, rank=rank), count, workers) for rank in range(world)]
        whole = (count - order.start) // (world * batch)
        steps = data.draw(st.integers(0, whole))
        for batches in ranks:
            consumed += list(chain.from_iterable(batches[:steps]))
        states = []
        for worker in range(workers):
            its = replace(order, worker=worker, workers=workers)
            taken = len(range(worker, steps, workers))
            states.append(json.loads(json.dumps(reader_state(its, taken * batch, rows).state())))
        by_count = cursor_after(order, steps * batch, rows)
        assert cursor_after(*consumed_by_workers(states, 0, rows), rows) == by_count
        point = ResumePoint.from_state(json.loads(json.dumps(by_count.state())))
        point.seen.check(rows)
        order, skip = point.applied_to(replace(order, start=0))
        assert skip == 0
    world = data.draw(SMALL)
    worlds.append(world)
    last = [
        list(chain.from_iterable(round_robin(replace(order, rank=rank, world=world, batch_size=batch), count, 2)))
        for rank in range(world)
    ]
    everything = consumed + list(chain.from_iterable(last))
    if even != "none":
        assert len({len(part) for part in last}) == 1
    if even == "drop":
        assert len(everything) == len(set(everything)) > count - max(worlds)
    elif even == "none":
        assert sorted(everything) == list(range(count))
    else:
        assert set(everything) == set(range(count))
        assert len(everything) < count + world


@given(st.data(), st.integers(1, 200), SMALL, SMALL, SMALL, EVEN)
def test_a_reader_resumes_at_its_position(
    data: st.DataObject, count: int, world: int, batch: int, workers: int, even: str
) -> None:
    rows = FakeRows(count)
    order = ReaderOrder(
        world=world,
        rank=data.draw(st.integers(0, world - 1)),
        batch_size=batch,
        workers=workers,
        worker=data.draw(st.integers(0, workers - 1)),
        even=even,  # type: ignore[arg-type]
        start=data.draw(st.integers(0, count)),
    )
    sequence = reader(order).sequence(count)
    consumed = data.draw(st.integers(0, len(sequence)))
    state = reader_state(order, consumed, rows)
    assert state.finished == (consumed == len(sequence))
    again = ResumePoint.from_state(json.loads(json.dumps(state.state())))
    assert again == state
    assert again.applied_to(replace(order, start=0)) == (order, consumed)
    # All that was consumed is under the checksum, or was repeated from the beginning.
    assert all(number < state.seen.rows for number in sequence[:consumed])


@given(st.data(), st.integers(1, 100), SMALL, SMALL, EVEN)
@settings(max_examples=50)
def test_the_end_of_a_ranks_share_is_the_end_of_the_epoch(
    data: st.DataObject, count: int, world: int, batch: int, even: str
) -> None:
    rank = data.draw(st.integers(0, world - 1))
    order = ReaderOrder(world=world, rank=rank, batch_size=batch, even=even)  # type: ignore[arg-type]
    length = len(reader(order).sequence(count))
    longest = len(reader(replace(order, rank=0)).sequence(count))
    cursor = cursor_after(order, length, FakeRows(count))
    assert cursor.finished == (length == longest or length % batch != 0)
    if cursor.finished:
        assert cursor.order.start == count
    with pytest.raises(OssConfigError, match="cannot have been consumed"):
        cursor_after(order, length + 1, FakeRows(count))


def test_a_growing_listing_keeps_what_was_consumed() -> None:
    order = ReaderOrder(world=2, batch_size=4)
    growing = reader_state(order, 8, FakeRows(17, complete=False))
    assert (growing.seen.rows, growing.seen.whole, growing.finished) == (16, False, False)
    assert growing == reader_state(order, 8, FakeRows(40))
    growing.seen.check(FakeRows(16))
    growing.seen.check(FakeRows(400))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (FakeRows(10, salt=1), "its first 10 objects differ from those"),
        (FakeRows(9), "it has 9 objects, and 10 had been seen"),
        (FakeRows(11), "it has 11 objects instead of 10"),
    ],
)
def test_a_changed_listing_raises_with_what_to_do(rows: FakeRows, message: str) -> None:
    state = reader_state(ReaderOrder(shuffle=True), 3, FakeRows(10))
    assert state.seen.whole
    with pytest.raises(OssListingChangedError, match=message) as caught:
        state.seen.check(rows)
    assert 'on_listing_change="continue"' in str(caught.value)


def test_the_end_of_a_block_that_is_shuffled_counts() -> None:
    state = reader_state(ReaderOrder(shuffle=16, batch_size=4), 4, FakeRows(20))
    assert (state.seen.rows, state.seen.whole) == (16, False)
    # The last block is shorter, so the length of the listing decided too.
    state = reader_state(ReaderOrder(shuffle=16, batch_size=4), 20, FakeRows(20))
    assert (state.seen.rows, state.seen.whole) == (20, True)


def test_a_state_does_not_grow() -> None:
    small = reader_state(ReaderOrder(), 1, FakeRows(10)).state()
    large = reader_state(ReaderOrder(epoch=10**9, seed=2**64 - 1), 10**11, FakeRows(10**12, complete=False)).state()
    assert len(json.dumps(large)) < len(json.dumps(small)) + 100 < 500


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"world": 3}, "world=2, and this one has 3.*cursor_from"),
        ({"worker": 1, "workers": 2}, "worker=0, and this one has 1; workers=1, and this one has 2"),
        ({"batch_size": 8}, "batch_size=4, and this one has 8"),
        ({"seed": 1}, "seed=0, and this one has 1: build the dataset with the same options"),
        ({"shuffle": 8}, "shuffle=False, and this one has 8"),
    ],
)
def test_a_state_for_other_readers_is_refused(changed: dict[str, int], message: str) -> None:
    order = ReaderOrder(world=2, batch_size=4)
    with pytest.raises(OssConfigError, match=message):
        reader_state(order, 4, FakeRows(20)).applied_to(replace(order, **changed))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (None, "not the state of a dataset"),
        ({}, "not the state of a dataset"),
        ({"version": 2}, "version 2"),
        ({"version": 1}, "damaged"),
        (
            {"version": 1, "rnk": 3, "listing": {"rows": 0, "digest": "", "whole": False}, "finished": False},
            "damaged.*rnk",
        ),
    ],
)
def test_something_else_than_a_state_is_refused(state: object, message: str) -> None:
    with pytest.raises(OssConfigError, match=message):
        ResumePoint.from_state(state)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changed", [{"consumed": -1}, {"consumed": "3"}, {"epoch": None}, {"start": -3}, {"seed": 1.5}]
)
def test_a_damaged_state_is_refused(changed: dict[str, object]) -> None:
    state = {**reader_state(ReaderOrder(), 4, FakeRows(20)).state(), **changed}
    with pytest.raises(OssConfigError, match=f"damaged: {next(iter(changed))} is"):
        ResumePoint.from_state(state)


def test_samples_that_end_inside_a_batch_are_refused() -> None:
    with pytest.raises(OssConfigError, match="not a whole number of batches of batch_size=4"):
        cursor_after(ReaderOrder(batch_size=4), 6, FakeRows(20))


def test_workers_at_different_positions_are_refused() -> None:
    rows = FakeRows(100)
    orders = [ReaderOrder(batch_size=4, worker=worker, workers=2) for worker in range(2)]
    states = [reader_state(order, consumed, rows).state() for order, consumed in zip(orders, [12, 4], strict=True)]
    with pytest.raises(OssConfigError, match="one worker is ahead of the others"):
        consumed_by_workers(states, 0, rows)
    with pytest.raises(OssConfigError, match="not those of all workers"):
        consumed_by_workers(states[:1], 0, rows)


def test_steps_after_the_snapshot_count() -> None:
    rows = FakeRows(100)
    orders = [ReaderOrder(batch_size=4, worker=worker, workers=2) for worker in range(2)]
    states = [reader_state(order, consumed, rows).state() for order, consumed in zip(orders, [8, 4], strict=True)]
    assert consumed_by_workers(states, 2, rows) == (orders[0].of_rank(), 20)
    assert consumed_by_workers(states, 22, rows) == (orders[0].of_rank(), 100)
