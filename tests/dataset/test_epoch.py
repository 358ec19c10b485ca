"""Epochs decide the shuffle, in every process that iterates."""

import copy
import operator
import pickle
from collections.abc import Callable
from itertools import chain
from typing import Any

import pytest
from torch.utils.data import DataLoader

from osstorchconnector import OssClient, OssConfigError, OssIterableDataset
from osstorchconnector.testing import Emulator
from tests.dataset.order_model import Reader

NAMES = [f"{number:02}" for number in range(40)]
METHODS = [
    pytest.param("fork"),
    pytest.param("forkserver", marks=pytest.mark.slow(120)),
    pytest.param("spawn", marks=pytest.mark.slow(120)),
]
Build = Callable[..., OssIterableDataset]


@pytest.fixture
def build(emulator: Emulator, client: OssClient, bucket: str) -> Build:
    for name in NAMES:
        client.put(f"oss://{bucket}/{name}", b"")

    def from_prefix(**options: Any) -> OssIterableDataset:
        transform = operator.attrgetter("name")
        return OssIterableDataset.from_prefix(f"oss://{bucket}/", transform=transform, **emulator.connection, **options)

    return from_prefix


def expected(epoch: int, shuffle: bool | int = True, seed: int = 9) -> list[str]:  # noqa: FBT001, FBT002 - the option's
    return [NAMES[entry] for entry in Reader(seed=seed, epoch=epoch, shuffle=shuffle).entries(len(NAMES))]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("persistent", [False, True])
def test_an_epoch_reaches_the_workers(build: Build, method: str, *, persistent: bool) -> None:
    dataset = build(shuffle=True, seed=9, batch_size=4)
    loader = DataLoader(
        dataset,
        batch_size=4,
        collate_fn=list,
        num_workers=2,
        multiprocessing_context=method,
        persistent_workers=persistent,
    )
    # Workers that are started for each epoch import torch each time.
    for epoch in (0, 7) if method == "spawn" and not persistent else (0, 1, 7):
        dataset.set_epoch(epoch)
        assert list(chain.from_iterable(loader)) == expected(epoch)
    # The epoch does not advance by itself.
    assert list(chain.from_iterable(loader)) == expected(7)


def test_blocks_are_shuffled_as_documented(build: Build) -> None:
    dataset = build(shuffle=True, shuffle_block=16, seed=9)
    assert list(dataset) == expected(0, 16)
    dataset.set_epoch(3)
    assert list(dataset) == expected(3, 16)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_a_copy_begins_with_the_epoch_and_has_its_own(build: Build, duplicate: Any) -> None:
    dataset = build(shuffle=True, seed=9)
    dataset.set_epoch(2)
    twin = duplicate(dataset)
    assert list(twin) == expected(2)
    dataset.set_epoch(3)
    if duplicate is not copy.copy:
        assert list(twin) == expected(2)
    assert list(dataset) == expected(3)


@pytest.mark.parametrize("epoch", [-1, 1.0, None, True, 1 << 63])
def test_an_invalid_epoch_is_refused(build: Build, epoch: Any) -> None:
    with pytest.raises(OssConfigError, match="epoch must be an integer of at least 0"):
        build().set_epoch(epoch)


@pytest.mark.parametrize("workers", [0, 2])
def test_arrival_delivers_the_same_objects(build: Build, workers: int) -> None:
    dataset = build(order="arrival", shuffle=True)
    loader = DataLoader(
        dataset, batch_size=None, num_workers=workers, multiprocessing_context="fork" if workers else None
    )
    assert sorted(loader) == NAMES
