"""The formula of docs/concepts/order.md: the core against the model, and what it promises."""

from itertools import chain
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osstorchconnector import OssConfigError
from osstorchconnector._native import Order
from tests.dataset.order_model import Reader, key_of, permuted

WORDS = st.integers(0, 2**64 - 1)
SHUFFLES = st.one_of(st.booleans(), st.integers(1, 50))


@st.composite
def readers(draw: st.DrawFn) -> Reader:
    world, workers = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    return Reader(
        seed=draw(WORDS),
        epoch=draw(st.integers(0, 2**63 - 1)),
        shuffle=draw(SHUFFLES),
        start=draw(st.integers(0, 120)),
        rank=draw(st.integers(0, world - 1)),
        world=world,
        batch_size=draw(st.integers(1, 9)),
        even=draw(st.sampled_from(["pad", "drop", "none"])),
        worker=draw(st.integers(0, workers - 1)),
        workers=workers,
    )


def native(reader: Reader, skip: int = 0) -> Order:
    numbers: dict[str, Any] = vars(reader)
    return Order(**numbers, skip=skip)


def entries(order: Order, count: int) -> list[int]:
    return [order.entry(position, count) for position in range(order.length(count))]


@given(readers(), st.integers(0, 300))
@settings(max_examples=300)
def test_the_core_agrees_with_the_model(reader: Reader, count: int) -> None:
    assert entries(native(reader), count) == reader.entries(count)


@given(readers(), st.integers(0, 300), st.integers(0, 300))
def test_skipping_leaves_out_the_first_positions(reader: Reader, count: int, skip: int) -> None:
    assert entries(native(reader, skip), count) == reader.entries(count)[skip:]


@given(st.integers(1, 2**40), WORDS, st.data())
def test_large_permutations_agree_too(count: int, seed: int, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, count - 1))
    entry = Order(seed=seed, epoch=5, shuffle=True).entry(place, count)
    assert entry == permuted(place, count, key_of(seed, 5)) < count


@pytest.mark.parametrize("count", [1, 2, 3, 255, 256, 257, 1000])
@pytest.mark.parametrize("shuffle", [True, 7, 100])
def test_a_shuffle_delivers_each_entry_once(count: int, *, shuffle: bool | int) -> None:
    assert sorted(entries(Order(seed=1, shuffle=shuffle), count)) == list(range(count))


def test_a_shuffle_by_blocks_stays_in_its_blocks() -> None:
    order = entries(Order(seed=1, shuffle=10), 95)
    assert all(place // 10 == entry // 10 for place, entry in enumerate(order))
    assert order != list(range(95))


def test_seed_and_epoch_decide_the_shuffle() -> None:
    orders = {tuple(entries(Order(seed=seed, epoch=epoch, shuffle=True), 100)) for seed in (0, 1) for epoch in (0, 1)}
    assert len(orders) == 4


@given(
    count=st.integers(0, 200),
    world=st.integers(1, 5),
    workers=st.integers(1, 5),
    batch_size=st.integers(1, 4),
    shuffle=SHUFFLES,
)
def test_ranks_and_workers_have_each_entry_once(
    count: int, world: int, workers: int, batch_size: int, *, shuffle: bool | int
) -> None:
    delivered = chain.from_iterable(
        entries(
            Order(
                shuffle=shuffle,
                rank=rank,
                world=world,
                batch_size=batch_size,
                even="none",
                worker=worker,
                workers=workers,
            ),
            count,
        )
        for rank in range(world)
        for worker in range(workers)
    )
    assert sorted(delivered) == list(range(count))


@pytest.mark.parametrize(
    "numbers",
    [
        {"rank": 2, "world": 2},
        {"worker": 1},
        {"world": 0},
        {"batch_size": 0},
        {"even": "wrap"},
        {"shuffle": 0},
        {"start": 1 << 62},
    ],
)
def test_numbers_that_cannot_be_are_refused(numbers: dict[str, Any]) -> None:
    with pytest.raises(OssConfigError):
        Order(**numbers)


def test_a_position_that_there_is_not_is_refused() -> None:
    with pytest.raises(IndexError, match="position 10 is out of range for 10 positions"):
        Order().entry(10, 10)
