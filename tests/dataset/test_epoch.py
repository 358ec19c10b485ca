"""Epochs decide the shuffle, in every process that iterates, and advance by themselves in one rank."""

import copy
import fcntl
import operator
import os
import pickle
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from torch.utils.data.datapipes.iter import IterableWrapper
from torchdata.stateful_dataloader import StatefulDataLoader

from osstorchconnector import OssClient, OssConfigError, OssIterableDataset
from osstorchconnector._torch import loader_worker
from osstorchconnector.dataset import epochs
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
    assert list(chain.from_iterable(loader)) == expected(8)


def test_blocks_are_shuffled_as_documented(build: Build) -> None:
    dataset = build(shuffle=True, shuffle_block=16, seed=9)
    assert list(dataset) == expected(0, 16)
    assert list(dataset) == expected(1, 16)
    dataset.set_epoch(3)
    assert list(dataset) == expected(3, 16)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_a_copy_counts_with_the_dataset_and_a_pickle_for_itself(build: Build, duplicate: Any) -> None:
    dataset = build(shuffle=True, seed=9)
    dataset.set_epoch(2)
    twin = duplicate(dataset)
    assert list(twin) == expected(2)
    if duplicate in {copy.copy, copy.deepcopy}:
        assert list(dataset) == expected(3)
        assert list(twin) == expected(4)
    else:
        assert list(dataset) == expected(2)
        assert list(twin) == expected(3)


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


def forked(dataset: Any, workers: int, loader: Any = DataLoader, **options: Any) -> Any:
    """Return a loader with forked workers, or without workers."""
    method = "fork" if workers else None
    options = {"batch_size": 4, "collate_fn": list, **options}
    return loader(dataset, num_workers=workers, multiprocessing_context=method, **options)


def names(batches: Any) -> list[str]:
    return list(chain.from_iterable(batches))


@pytest.mark.parametrize(("workers", "persistent"), [(0, False), (2, False), (2, True)])
@pytest.mark.parametrize("loader", [DataLoader, StatefulDataLoader])
def test_each_iterator_of_a_loader_has_the_next_epoch(
    build: Build, loader: Any, workers: int, *, persistent: bool
) -> None:
    dataset = build(shuffle=True, seed=9, batch_size=4)
    batches = forked(dataset, workers, loader, persistent_workers=persistent)
    for epoch in range(3):
        # The seed of an iterator's workers is then the same.
        torch.manual_seed(0)
        assert names(batches) == expected(epoch)
    dataset.set_epoch(7)
    assert names(batches) == expected(7)
    assert names(batches) == expected(8)
    # The program may leave a loop at any batch.
    for taken in (1, 3, 0):
        list(islice(iter(batches), taken))
    # Workers of an iterator that is dropped at once may begin or not.
    assert names(batches) in [expected(epoch) for epoch in range(9, 13)]
    dataset.set_epoch(0)
    assert names(batches) == expected(0)


@pytest.mark.slow(120)
def test_the_epoch_advances_with_workers_of_every_start_method(build: Build) -> None:
    dataset = build(shuffle=True, seed=9, batch_size=4)
    epoch = 0
    for method in ("spawn", "forkserver", "fork"):
        loader = DataLoader(
            dataset,
            batch_size=4,
            collate_fn=list,
            num_workers=2,
            multiprocessing_context=method,
            persistent_workers=method == "spawn",
        )
        for _ in range(2):
            assert names(loader) == expected(epoch)
            epoch += 1


@pytest.mark.parametrize("workers", [0, 2])
def test_iterators_at_once_have_different_epochs(build: Build, workers: int) -> None:
    dataset = build(shuffle=True, seed=9, batch_size=4)
    first, second = iter(forked(dataset, workers)), iter(forked(dataset, workers))
    found = [names(pair) for pair in zip(*zip(first, second, strict=True), strict=True)]
    assert sorted(found) == sorted([expected(0), expected(1)])


def test_threads_at_once_have_different_epochs(build: Build) -> None:
    dataset = build(shuffle=True, seed=9)
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: list(dataset), range(16)))
    assert sorted(found) == sorted(expected(epoch) for epoch in range(16))


def _die_once(marker: Path, worker: int) -> None:
    if worker == 1 and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_that_was_killed_before_it_began_holds_nothing_up(build: Build, tmp_path: Path) -> None:
    dataset = build(shuffle=True, seed=9, batch_size=4)
    init = lambda worker: _die_once(tmp_path / "died", worker)  # noqa: E731 - forked workers need no pickle
    loader = forked(dataset, 2, worker_init_fn=init)
    with pytest.raises(RuntimeError, match="exited unexpectedly"):
        list(loader)
    # The other worker may have begun, or not.
    found = names(loader)
    assert found in (expected(0), expected(1))
    assert names(loader) == expected(1 if found == expected(0) else 2)


def test_a_worker_that_was_killed_with_the_lock_holds_nothing_up(build: Build) -> None:
    dataset = build(shuffle=True, seed=9)
    assert list(dataset) == expected(0)
    child = os.fork()
    if child == 0:
        fcntl.flock(os.open(dataset._directory.path / "epochs", os.O_RDWR), fcntl.LOCK_EX)
        os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert list(dataset) == expected(1)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_epoch_after_a_resumed_one_is_the_next(build: Build, workers: int) -> None:
    options: dict[str, Any] = {"shuffle": True, "seed": 9, "batch_size": 4}
    dataset = build(**options)
    dataset.set_epoch(3)
    loader = forked(dataset, workers, StatefulDataLoader)
    assert names(islice(iter(loader), 5)) == expected(3)[:20]
    state = loader.state_dict()
    resumed = forked(build(**options), workers, StatefulDataLoader)
    resumed.load_state_dict(state)
    assert names(resumed) == expected(3)[20:]
    assert names(resumed) == expected(4)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_epoch_stays_if_the_program_wishes(build: Build, workers: int) -> None:
    dataset = build(shuffle=True, seed=9, batch_size=4, advance_epochs=False)
    loader = forked(dataset, workers)
    assert [names(loader) for _ in range(2)] == [expected(0)] * 2
    dataset.set_epoch(5)
    assert [names(loader) for _ in range(2)] == [expected(5)] * 2
    with pytest.raises(OssConfigError, match="advance_epochs must be True or False"):
        build(advance_epochs=1)


def test_one_of_several_ranks_repeats_its_epoch_and_says_so_once(build: Build) -> None:
    ranks = [build(shuffle=True, seed=9, batch_size=4, shard=(rank, 2)) for rank in range(2)]
    # Rank 0 alone looks at a batch first.
    next(iter(ranks[0]))
    with pytest.warns(UserWarning, match=r"the shuffle of epoch 0 is repeated. Call dataset.set_epoch\(epoch\)"):
        shares = [list(rank) for rank in ranks]
    assert sorted(chain(*shares)) == NAMES
    # Here they break off at different batches.
    for number, rank in enumerate(ranks):
        rank.set_epoch(1)
        list(islice(iter(rank), number))
    with warnings.catch_warnings():
        # Rank 0 has warned before.
        warnings.filterwarnings("ignore", "this is one of several processes")
        assert sorted(chain(*map(list, ranks))) == NAMES
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert sorted(chain(*map(list, ranks))) == NAMES


@pytest.mark.parametrize("options", [{"shuffle": False}, {"shuffle": True, "advance_epochs": False}])
def test_a_repetition_that_changes_nothing_or_is_intended_warns_of_nothing(
    build: Build, options: dict[str, Any]
) -> None:
    dataset = build(shard=(0, 2), **options)
    assert len({tuple(dataset) for _ in range(3)}) == 1


@pytest.mark.parametrize("given", [{"WORLD_SIZE": "2"}, {"group": 2}])
def test_one_of_several_processes_that_read_everything_repeats_its_epoch(
    build: Build, given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    if "group" in given:
        for name, value in {"is_available": True, "is_initialized": True, "get_world_size": 2}.items():
            monkeypatch.setattr(torch.distributed, name, lambda value=value: value)
    else:
        monkeypatch.setenv("WORLD_SIZE", "2")
    dataset = build(shuffle=True, seed=9, shard=None)
    assert list(dataset) == expected(0)
    with pytest.warns(UserWarning, match="set_epoch"):
        assert list(dataset) == expected(0)


class Copying(IterableDataset[Any]):
    """A wrapper that iterates over a copy, as torch's IterableWrapper does."""

    def __init__(self, inner: OssIterableDataset) -> None:
        self.inner = inner

    def __iter__(self) -> Iterator[Any]:
        yield from copy.deepcopy(self.inner)


@pytest.mark.parametrize(("workers", "persistent"), [(0, False), (2, False), (2, True)])
@pytest.mark.parametrize("wrapper", [Copying, IterableWrapper])
def test_a_wrapper_may_copy_for_each_iteration(
    emulator: Emulator, build: Build, wrapper: Any, workers: int, *, persistent: bool
) -> None:
    dataset = build(shuffle=True, seed=9, batch_size=4)
    loader = forked(wrapper(dataset), workers, persistent_workers=persistent)
    emulator.clear_requests()
    assert [names(loader) for _ in range(3)] == [expected(epoch) for epoch in range(3)]
    assert len(emulator.requests(operation="ListObjectsV2")) == 1
    # One iteration resumes from a loaded state.
    other = build(shuffle=True, seed=9, batch_size=4)
    list(other)
    dataset.load_state_dict(other.cursor(samples_consumed=12))
    assert names(loader) == expected(0)[12:]
    assert names(loader) == expected(1)
    dataset.set_epoch(7)
    assert names(loader) == expected(7)


class Lazy(IterableDataset[Any]):
    """The inner iteration begins with the first sample, and in a thread."""

    def __init__(self, inner: OssIterableDataset) -> None:
        self.inner = inner

    def __iter__(self) -> Iterator[Any]:
        with ThreadPoolExecutor(1) as thread:
            iterator = thread.submit(iter, self.inner).result()
        yield from iterator


@pytest.mark.parametrize("persistent", [False, True])
def test_a_wrapper_may_begin_late_and_in_a_thread(build: Build, *, persistent: bool) -> None:
    dataset = build(shuffle=True, seed=9, batch_size=4)
    loader = forked(Lazy(dataset), 2, persistent_workers=persistent)
    assert [names(loader) for _ in range(3)] == [expected(epoch) for epoch in range(3)]


class Endless(IterableDataset[Any]):
    """A wrapper that sets the epochs itself, in each worker."""

    def __init__(self, inner: OssIterableDataset) -> None:
        self.inner = inner

    def __iter__(self) -> Iterator[Any]:
        for epoch in (5, 3):
            self.inner.set_epoch(epoch)
            worker = get_worker_info()
            # Worker 1 is late.
            time.sleep(0 if worker is None or worker.id == 0 else 0.05)
            yield from self.inner


@pytest.mark.parametrize("workers", [0, 2])
def test_a_worker_sets_the_epoch_of_its_own_iteration(build: Build, workers: int) -> None:
    found = names(forked(Endless(build(shuffle=True, seed=9, split_workers=True)), workers))
    assert sorted(found) == sorted(NAMES * 2)
    if not workers:
        assert found == expected(5) + expected(3)


def test_a_worker_without_a_known_loader_repeats_the_epoch_and_says_so(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(epochs, "loader_iterator", lambda: 5)
    assert loader_worker.loader_number() is None
    dataset = build(shuffle=True, seed=9)
    with pytest.warns(UserWarning, match=r"cannot be identified.*epoch 0 is repeated. Call dataset.set_epoch"):
        assert list(dataset) == expected(0)
    assert list(dataset) == expected(0)


def _identity(_: object) -> tuple[str | None, int]:
    return loader_worker.loader_number(), os.getpid()


@pytest.mark.parametrize("loader", [DataLoader, StatefulDataLoader])
def test_the_installed_loaders_identify_their_iterators(loader: Any) -> None:
    batches = forked(range(4), 2, loader, batch_size=1, collate_fn=_identity)
    found = [list(batches) for _ in range(3)]
    assert len({name for iterator in found for name, _ in iterator}) == 3
    for iterator in found:
        assert None not in dict(iterator)
        assert len(dict(iterator)) == 1
        assert len({pid for _, pid in iterator}) == 2
    assert loader_worker.loader_number() is None


def test_only_so_many_iterations_are_remembered(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(epochs, "_REMEMBERED", 4)
    dataset = build(shuffle=True, seed=9)
    for epoch in range(20):
        assert list(islice(iter(dataset), 1)) == expected(epoch)[:1]
    file = dataset._directory.path / "epochs"
    assert len(file.read_text().splitlines()) <= 9
    # A process that was killed may have left half a line.
    with file.open("a") as half:
        half.write("loader-15-2")
    assert list(dataset) == expected(20)
    assert list(dataset) == expected(21)


def test_a_worker_that_cannot_note_its_epoch_is_reported(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    dataset = build(shuffle=True, seed=9)
    with monkeypatch.context() as patches:
        patches.setattr(epochs, "_append", full)
        with pytest.raises(OssConfigError, match=r"cannot be written to.*No space left on device.*TMPDIR"):
            iter(dataset)
    # No worker has seen that epoch.
    assert list(dataset) == expected(1)


def test_the_epoch_advances_where_no_directory_can_be_made(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = build(shuffle=True, seed=9)
    assert list(dataset) == expected(0)

    def refuse(_: object) -> None:
        raise OssConfigError("no room")

    # The listing file is there, and held by the open iterator.
    monkeypatch.setattr(type(dataset._directory), "written", refuse)
    assert dataset._epochs.begin(dataset._epochs.next_name(), None, 1) == 1
    assert dataset._epochs.begin(dataset._epochs.next_name(), None, 1) == 2


def test_the_epoch_advances_without_locks(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    dataset = build(shuffle=True, seed=9)
    assert [list(dataset) for _ in range(2)] == [expected(0), expected(1)]
    # Workers cannot agree then, so they repeat it, and a warning is an error here.
    with pytest.raises(UserWarning, match="the shuffle of epoch 2 is repeated"):
        list(forked(dataset, 2))
