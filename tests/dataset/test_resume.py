"""States and cursors: consumed objects are not fetched again, and all others are delivered."""

import json
import operator
from collections.abc import Callable
from itertools import islice
from typing import Any

import pytest
from torch.utils.data import DataLoader, IterableDataset
from torchdata.stateful_dataloader import StatefulDataLoader

from osstorchconnector import OssClient, OssConfigError, OssIterableDataset, OssListingChangedError
from osstorchconnector.testing import Emulator

NAMES = [f"{number:03}" for number in range(50)]
NAME = operator.attrgetter("name")
METHODS = [
    pytest.param("fork"),
    pytest.param("forkserver", marks=pytest.mark.slow(120)),
    pytest.param("spawn", marks=pytest.mark.slow(120)),
]
Build = Callable[..., OssIterableDataset]


@pytest.fixture
def build(emulator: Emulator, client: OssClient, bucket: str) -> Build:
    for name in NAMES:
        client.put(f"oss://{bucket}/{name}", name.encode())

    def from_prefix(**options: Any) -> OssIterableDataset:
        options = {"transform": NAME, **options}
        return OssIterableDataset.from_prefix(f"oss://{bucket}/", **emulator.connection, **options)

    return from_prefix


def fetched(emulator: Emulator) -> list[str]:
    return sorted(str(request.key) for request in emulator.requests(operation="GetObject"))


def stateful(dataset: OssIterableDataset, workers: int, **options: Any) -> StatefulDataLoader:
    options = {"batch_size": 4, "collate_fn": list, **options}
    method = options.pop("method", "fork") if workers else None
    return StatefulDataLoader(dataset, num_workers=workers, multiprocessing_context=method, **options)


def through_json(state: Any) -> Any:
    return json.loads(json.dumps(state))


@pytest.mark.parametrize("consumed", [0, 1, 7, 49, 50])
@pytest.mark.parametrize("shuffle", [False, True])
def test_an_iteration_resumes_at_its_position(
    emulator: Emulator, build: Build, consumed: int, *, shuffle: bool
) -> None:
    dataset = build(shuffle=shuffle, seed=3)
    whole, following = list(dataset), list(dataset)
    dataset.set_epoch(0)
    iterator = iter(dataset)
    assert list(islice(iterator, consumed)) == whole[:consumed]
    state = dataset.state_dict()
    assert state["consumed"] == consumed
    assert len(json.dumps(state)) < 500
    # To its end: requests in flight of a closed iterator may still reach the server.
    list(iterator)
    again = build(shuffle=shuffle, seed=3)
    again.load_state_dict(through_json(state))
    assert again.state_dict() == state
    emulator.clear_requests()
    assert list(again) == whole[consumed:]
    assert fetched(emulator) == sorted(whole[consumed:])
    # The next iteration begins at the start of the next epoch.
    assert list(again) == following
    again.set_epoch(0)
    assert list(again) == whole


def test_a_finished_epoch_sends_no_request(emulator: Emulator, build: Build) -> None:
    dataset = build()
    list(dataset)
    state = dataset.state_dict()
    assert state["finished"]
    again = build()
    again.load_state_dict(state)
    again.set_epoch(0)
    emulator.clear_requests()
    assert list(again) == []
    assert emulator.requests() == []
    assert again.state_dict() == state
    # The epoch that the program has set is for the iteration that delivers something.
    list(again)
    assert again.state_dict()["epoch"] == 0


def test_a_state_counts_the_objects_that_were_taken_not_those_prefetched(build: Build) -> None:
    dataset = build()
    iterator = iter(dataset)
    next(iterator)
    assert dataset.state_dict()["consumed"] == 1
    next(iterator)
    assert dataset.state_dict()["consumed"] == 2


@pytest.mark.slow(120)
@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("told", [4, None])
def test_torchdatas_loader_resumes(build: Build, workers: int, every: int, told: int | None) -> None:
    options: dict[str, Any] = {"batch_size": told, "shuffle": True, "seed": 7}
    dataset = build(**options)
    loader = stateful(dataset, workers, snapshot_every_n_steps=every)
    dataset.set_epoch(2)
    whole = list(loader)
    assert sorted(name for batch in whole for name in batch) == NAMES
    following = list(loader)
    for steps in (0, 1, 5, len(whole) - 1, len(whole)):
        dataset.set_epoch(2)
        iterator = iter(loader)
        assert list(islice(iterator, steps)) == whole[:steps]
        state = through_json(loader.state_dict()) if workers == 0 else loader.state_dict()
        again = build(**options)
        resumed = stateful(again, workers, snapshot_every_n_steps=every)
        resumed.load_state_dict(state)
        if steps == len(whole):
            # The epoch ended, so the loader continues with the next one.
            with pytest.raises(StopIteration):
                next(iterator)
            resumed.load_state_dict(loader.state_dict())
            assert list(resumed) == following
            resumed.load_state_dict(loader.state_dict())
            again.set_epoch(3)
            assert list(resumed) == following
        else:
            assert list(resumed) == whole[steps:]
            assert list(resumed) == following
            again.set_epoch(2)
            assert list(resumed) == whole


@pytest.mark.parametrize("workers", [0, 2])
def test_torchdatas_loader_fetches_nothing_twice(emulator: Emulator, build: Build, workers: int) -> None:
    loader = stateful(build(batch_size=4), workers)
    iterator = iter(loader)
    consumed = [name for batch in islice(iterator, 5) for name in batch]
    state = loader.state_dict()
    list(iterator)
    resumed = stateful(build(batch_size=4), workers)
    resumed.load_state_dict(state)
    emulator.clear_requests()
    left = [name for batch in resumed for name in batch]
    assert sorted(consumed + left) == NAMES
    assert fetched(emulator) == sorted(left)


@pytest.mark.slow(60)
@pytest.mark.parametrize("before", [0, 2, 8])
@pytest.mark.parametrize("after", [0, 2, 8])
def test_other_workers_resume_from_a_cursor_of_torchdatas_loader(build: Build, before: int, after: int) -> None:
    options: dict[str, Any] = {"batch_size": 4, "shuffle": True}
    whole = list(stateful(build(**options), 0))
    dataset = build(**options)
    loader = stateful(dataset, before)
    iterator = iter(loader)
    assert list(islice(iterator, 5)) == whole[:5]
    cursor = through_json(dataset.cursor_from(loader.state_dict()))
    assert cursor == dataset.cursor(samples_consumed=20)
    again = build(**options)
    again.load_state_dict(cursor)
    assert list(stateful(again, after)) == whole[5:]
    again.set_epoch(0)
    assert list(stateful(again, after)) == whole


@pytest.mark.parametrize("even", ["pad", "drop", "none"])
@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 3), (3, 1)])
def test_other_ranks_resume_from_a_cursor(emulator: Emulator, build: Build, before: int, after: int, even: str) -> None:
    def ranks(world: int, workers: int) -> list[tuple[OssIterableDataset, StatefulDataLoader]]:
        datasets = [build(batch_size=4, shuffle=True, shard=(rank, world), even=even) for rank in range(world)]
        return [(dataset, stateful(dataset, workers)) for dataset in datasets]

    consumed: list[str] = []
    cursors = []
    for dataset, loader in ranks(before, 2):
        iterator = iter(loader)
        consumed += [name for batch in islice(iterator, 3) for name in batch]
        cursors.append(through_json(dataset.cursor_from(loader.state_dict())))
        assert dataset.cursor(samples_consumed=12)["start"] == cursors[-1]["start"] == 12 * before
        list(iterator)
    assert len(set(consumed)) == len(consumed) == 12 * before
    emulator.clear_requests()
    left: list[list[str]] = []
    for rank, (dataset, loader) in enumerate(ranks(after, 1)):
        dataset.load_state_dict(cursors[rank % before])
        left.append([name for batch in loader for name in batch])
    names = [name for share in left for name in share]
    assert fetched(emulator) == sorted(names)
    if even != "none":
        assert len(set(map(len, left))) == 1
    if even == "pad":
        assert set(consumed + names) == set(NAMES)
        assert len(consumed + names) < len(NAMES) + after
    else:
        assert len(set(consumed + names)) == len(consumed + names)
        assert len(consumed + names) > len(NAMES) - (after if even == "drop" else 1)


@pytest.mark.parametrize("workers", [0, 2])
def test_each_rank_resumes_from_its_own_loaders_state(build: Build, workers: int) -> None:
    left, consumed = [], []
    for rank in range(3):
        options: dict[str, Any] = {"batch_size": 4, "shuffle": True, "shard": (rank, 3), "even": "none"}
        loader = stateful(build(**options), workers)
        consumed += [name for batch in islice(iter(loader), 2) for name in batch]
        resumed = stateful(build(**options), workers)
        resumed.load_state_dict(loader.state_dict())
        left += [name for batch in resumed for name in batch]
    assert len(consumed) == 24
    assert sorted(consumed + left) == NAMES


def test_a_state_that_cannot_be_kept_is_reported(build: Build) -> None:
    dataset = build()
    state = dataset.state_dict()
    directory = dataset._directory.make()
    (directory / "resume.json").mkdir()
    with pytest.raises(OssConfigError, match=r"cannot be written to .*TMPDIR"):
        dataset.load_state_dict(state)


@pytest.mark.slow(60)
def test_a_snapshot_that_is_behind_is_brought_up(build: Build) -> None:
    dataset = build(batch_size=4)
    loader = stateful(dataset, 3, snapshot_every_n_steps=4)
    whole = list(loader)
    for steps in (1, 4, 6, 12):
        iterator = iter(loader)
        assert list(islice(iterator, steps)) == whole[:steps]
        again = build(batch_size=4)
        again.load_state_dict(dataset.cursor_from(loader.state_dict()))
        assert list(stateful(again, 2)) == whole[steps:]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("persistent", [False, True])
def test_a_cursor_from_a_count_is_for_one_iterator_with_all_its_workers(
    build: Build, method: str, *, persistent: bool
) -> None:
    dataset = build(batch_size=4)
    whole = list(DataLoader(dataset, batch_size=4, collate_fn=list))
    cursor = dataset.cursor(samples_consumed=12)
    again = build(batch_size=4)
    loader = DataLoader(
        again,
        batch_size=4,
        collate_fn=list,
        num_workers=2,
        multiprocessing_context=method,
        persistent_workers=persistent,
    )
    again.load_state_dict(through_json(cursor))
    assert list(loader) == whole[3:]
    assert again.cursor(samples_consumed=4) == dataset.cursor(samples_consumed=16)
    assert list(loader) == whole
    assert again.cursor(samples_consumed=16) == {**dataset.cursor(samples_consumed=16), "epoch": 1}
    # Also if the state is loaded after the workers started.
    again.load_state_dict(cursor)
    assert list(loader) == whole[3:]
    assert list(loader) == whole


def test_a_loader_that_seeds_torch_again_does_not_resume_twice(build: Build) -> None:
    import torch  # noqa: PLC0415

    dataset = build(batch_size=4)
    dataset.load_state_dict(dataset.cursor(samples_consumed=0))
    list(dataset)
    dataset.load_state_dict(dataset.cursor(samples_consumed=20))
    loader = DataLoader(dataset, batch_size=4, collate_fn=list, num_workers=2, multiprocessing_context="fork")
    lengths = []
    for _ in range(3):
        torch.manual_seed(0)
        lengths.append(len(list(loader)))
    assert lengths == [8, 13, 13]


def test_the_epoch_of_a_state(build: Build) -> None:
    dataset = build(shuffle=True)
    dataset.set_epoch(3)
    third = list(dataset)
    fourth = list(dataset)
    dataset.set_epoch(3)
    list(islice(iter(dataset), 10))
    state = dataset.state_dict()
    assert state["epoch"] == 3

    again = build(shuffle=True)
    again.load_state_dict(state)
    assert list(again) == third[10:]
    assert list(again) == fourth

    staying = build(shuffle=True, advance_epochs=False)
    staying.load_state_dict(state)
    assert list(staying) == third[10:]
    assert list(staying) == third

    again.load_state_dict(state)
    again.set_epoch(3)
    assert list(again) == third[10:]

    again.load_state_dict(state)
    again.set_epoch(4)
    assert sorted(again) == NAMES


def test_a_changed_listing_raises_or_is_resumed(client: OssClient, bucket: str, build: Build) -> None:
    dataset = build()
    iterator = iter(dataset)
    consumed = list(islice(iterator, 10))
    state = dataset.state_dict()
    # The listing may change after the cursor.
    client.put(f"oss://{bucket}/999", b"new")
    again = build()
    again.load_state_dict(state)
    assert consumed + list(again) == [*NAMES, "999"]
    client.delete(f"oss://{bucket}/004")
    again = build()
    again.load_state_dict(state)
    iterator = iter(again)
    for _ in range(2):
        with pytest.raises(OssListingChangedError, match='on_listing_change="continue"'):
            next(iterator)
    again.load_state_dict(state, on_listing_change="continue")
    assert list(again) == [*NAMES[11:], "999"]


def test_a_listing_that_shrank_below_the_cursor_is_reported(client: OssClient, bucket: str, build: Build) -> None:
    dataset = build()
    list(islice(iter(dataset), 10))
    state = dataset.state_dict()
    client.delete_many(f"oss://{bucket}/{name}" for name in NAMES[5:])
    again = build()
    again.load_state_dict(state)
    with pytest.raises(OssListingChangedError, match="it has 5 objects, and 10 had been seen"):
        next(iter(again))


def test_a_main_process_does_not_guess_what_workers_consumed(build: Build) -> None:
    dataset = build(batch_size=4)
    loader = DataLoader(dataset, batch_size=4, collate_fn=list, num_workers=2, multiprocessing_context="fork")
    iterator = iter(loader)
    next(iterator)
    with pytest.raises(OssConfigError, match=r"use cursor\(samples_consumed=...\), or torchdata's"):
        dataset.state_dict()
    assert dataset.cursor(samples_consumed=4)["start"] == 4


def test_a_count_that_does_not_define_a_position_is_refused(build: Build) -> None:
    dataset = build()
    with pytest.raises(OssConfigError, match="before the first iteration"):
        dataset.cursor(samples_consumed=4)
    loader = DataLoader(dataset, batch_size=4, collate_fn=list, num_workers=2, multiprocessing_context="fork")
    list(loader)
    with pytest.raises(OssConfigError, match="build it with batch_size="):
        dataset.cursor(samples_consumed=4)
    dataset = build(batch_size=4)
    list(dataset)
    with pytest.raises(OssConfigError, match="not a whole number of batches"):
        dataset.cursor(samples_consumed=6)
    with pytest.raises(OssConfigError, match="cannot have been consumed"):
        dataset.cursor(samples_consumed=51)
    assert dataset.cursor(samples_consumed=50)["finished"]
    for wrong in (-1, 1.0, None, True):
        with pytest.raises(OssConfigError, match="samples_consumed must be"):
            dataset.cursor(samples_consumed=wrong)  # type: ignore[arg-type]
    skipping = build(on_error="skip", even="none")
    with pytest.raises(OssConfigError, match="cursor_from"):
        skipping.cursor(samples_consumed=0)


def test_a_count_of_nothing_after_a_resumed_iteration_is_refused(build: Build) -> None:
    dataset = build()
    list(dataset)
    cursor = dataset.cursor(samples_consumed=8)
    dataset.load_state_dict(cursor)
    assert dataset.cursor(samples_consumed=0) == cursor
    list(dataset)
    with pytest.raises(OssConfigError, match="call set_epoch"):
        dataset.cursor(samples_consumed=0)
    dataset.set_epoch(1)
    assert (dataset.cursor(samples_consumed=0)["start"], dataset.cursor(samples_consumed=0)["epoch"]) == (0, 1)


def test_a_count_adds_to_a_loaded_state(build: Build) -> None:
    dataset = build()
    whole = list(dataset)
    list(islice(iter(dataset), 10))
    state = dataset.state_dict()
    again = build()
    again.load_state_dict(state)
    assert again.cursor(samples_consumed=0)["start"] == 10
    list(islice(iter(again), 5))
    last = build()
    last.load_state_dict(again.cursor(samples_consumed=5))
    assert list(last) == whole[15:]


def test_a_count_does_not_know_what_a_loader_restored(build: Build) -> None:
    loader = stateful(build(batch_size=4), 2)
    list(islice(iter(loader), 4))
    dataset = build(batch_size=4)
    resumed = stateful(dataset, 2)
    resumed.load_state_dict(loader.state_dict())
    iterator = iter(resumed)
    next(iterator)
    with pytest.raises(OssConfigError, match=r"use cursor_from\(loader.state_dict\(\)\)"):
        dataset.cursor(samples_consumed=4)
    assert dataset.cursor_from(resumed.state_dict())["start"] == 20


def test_arrival_has_no_state(build: Build) -> None:
    dataset = build(order="arrival")
    for call in (
        dataset.state_dict,
        lambda: dataset.load_state_dict({}),
        lambda: dataset.cursor(samples_consumed=0),
        lambda: dataset.cursor_from({}),
    ):
        with pytest.raises(OssConfigError, match='order="listed"'):
            call()


@pytest.mark.parametrize("state", [None, {}, {"_snapshot": {}}, {"dataset_state": None}, {"dataset_state": {"a": 1}}])
def test_something_else_than_a_loaders_state_is_refused(build: Build, state: Any) -> None:
    with pytest.raises(OssConfigError, match="not the state of a"):
        build().cursor_from(state)


def test_a_state_of_other_options_is_refused(build: Build) -> None:
    dataset = build(seed=1)
    list(islice(iter(dataset), 4))
    with pytest.raises(OssConfigError, match="seed=1, and this one has 0"):
        build().load_state_dict(dataset.state_dict())
    again = build(seed=1, shard=(0, 2))
    again.load_state_dict(dataset.state_dict())
    with pytest.raises(OssConfigError, match=r"world=1, and this one has 2.*cursor"):
        iter(again)


@pytest.mark.usefixtures("build")
def test_a_skipped_object_counts_as_a_position(emulator: Emulator, bucket: str) -> None:
    uris = [f"oss://{bucket}/{name}" for name in ("000", "nowhere", "001", "002")]
    options: dict[str, Any] = {"transform": NAME, "on_error": "skip", "even": "none", **emulator.connection}
    dataset = OssIterableDataset.from_objects(uris, **options)
    assert list(islice(iter(dataset), 2)) == ["000", "001"]
    state = dataset.state_dict()
    assert state["consumed"] == 3
    again = OssIterableDataset.from_objects(uris, **options)
    again.load_state_dict(state)
    assert list(again) == ["002"]


class Late(OssIterableDataset):
    """Its iteration begins with the first sample: the loader asks for the state before it."""

    def __iter__(self) -> Any:
        yield from super().__iter__()


class Packed(IterableDataset[Any]):
    """A wrapper that hands the state on, and begins late."""

    def __init__(self, inner: OssIterableDataset) -> None:
        self.inner = inner

    def __iter__(self) -> Any:
        yield from self.inner

    def state_dict(self) -> Any:
        return {"inner": self.inner.state_dict()}

    def load_state_dict(self, state: Any) -> None:
        self.inner.load_state_dict(state["inner"])


@pytest.mark.parametrize("kind", [Late, Packed])
@pytest.mark.parametrize(("workers", "persistent"), [(0, False), (2, False), (2, True)])
def test_a_wrapper_whose_iteration_begins_late_resumes(
    build: Build, kind: Any, workers: int, *, persistent: bool
) -> None:
    def loader_of() -> StatefulDataLoader:
        dataset: Any = build(batch_size=4, shuffle=True)
        if kind is Late:
            dataset.__class__ = Late
        else:
            dataset = Packed(dataset)
        return stateful(dataset, workers, persistent_workers=persistent)

    expected = list(stateful(build(batch_size=4, shuffle=True), 0))
    loader = loader_of()
    assert list(loader) == expected
    second = list(loader)
    assert sorted(name for batch in second for name in batch) == NAMES
    # Without a batch, after some, and at the end of an epoch.
    for steps in (0, 5, 0):
        iterator = iter(loader)
        begin = list(islice(iterator, steps))
        state = loader.state_dict()
        rest = list(iterator)
        assert sorted(name for batch in begin + rest for name in batch) == NAMES
        resumed = loader_of()
        resumed.load_state_dict(state)
        assert list(resumed) == rest
        ended = loader.state_dict()
        following = list(loader)
        assert list(resumed) == following
        resumed = loader_of()
        resumed.load_state_dict(ended)
        assert list(resumed) == following


def test_a_worker_that_has_not_begun_is_at_position_0(build: Build) -> None:
    loader = stateful(Packed(build(batch_size=4, shuffle=True)), 2)  # type: ignore[arg-type]
    list(loader)
    iter(loader)
    states = [
        worker["dataset_state"]["inner"] for worker in loader.state_dict()["_snapshot"]["_worker_snapshots"].values()
    ]
    assert [(state["epoch"], state["consumed"], state["worker"]) for state in states] == [(1, 0, 0), (1, 0, 1)]
