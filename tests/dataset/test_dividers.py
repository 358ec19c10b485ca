"""Programs that divide are recognized on the call stack, and what cannot be known is refused."""

import functools
import logging
import operator
import random
import sys
import threading
from collections.abc import Callable, Iterator
from itertools import islice
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch.distributed as dist
import tqdm
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from torchdata.stateful_dataloader import StatefulDataLoader

from osstorchconnector import OssConfigError, OssIterableDataset
from osstorchconnector.dataset import dividers, rank_share
from osstorchconnector.dataset.reading_time import Pass, ReadingTime

NAMES = [f"{number:02}" for number in range(10)]
Build = Callable[..., OssIterableDataset]


@pytest.fixture
def build(tmp_path: Any) -> Build:
    for name in NAMES:
        (tmp_path / name).write_bytes(b"x")

    def from_prefix(**options: Any) -> OssIterableDataset:
        name: Any = operator.attrgetter("name")
        return OssIterableDataset.from_prefix(f"{tmp_path}/", endpoint="", transform=name, **options)

    return from_prefix


@pytest.fixture
def ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process seems to be rank 1 of 2."""
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_rank", lambda _group=None: 1)
    monkeypatch.setattr(dist, "get_world_size", lambda _group=None: 2)
    monkeypatch.setattr(rank_share, "_warned_of", set())
    monkeypatch.setattr(dividers, "_warned_of", set())


def names(samples: Any) -> list[str]:
    return [sample.rpartition("/")[2] for sample in samples]


ACCELERATE = """
class IterableDatasetShard:
    def __init__(self, dataset, num_processes=2, process_index=0):
        self.dataset, self.num_processes, self.process_index = dataset, num_processes, process_index
    def __iter__(self):
        for number, sample in enumerate(self.dataset):
            if number % self.num_processes == self.process_index:
                yield sample
class DataLoaderDispatcher:
    def __init__(self, loader):
        self.base_dataloader = loader
    def __iter__(self):
        yield from self.base_dataloader
class Renamed(IterableDatasetShard):
    def __iter__(self):
        yield from list(self.dataset)
"""


@pytest.fixture
def accelerate(ranks: None, monkeypatch: pytest.MonkeyPatch) -> Any:  # noqa: ARG001 - it needs ranks
    """Functions that stand where those of Accelerate do, without the package."""
    module = ModuleType("accelerate.data_loader")
    exec(ACCELERATE, module.__dict__)
    state = SimpleNamespace(num_processes=2, process_index=1)
    monkeypatch.setitem(sys.modules, "accelerate.state", SimpleNamespace(PartialState=lambda: state))
    monkeypatch.setattr("importlib.metadata.version", lambda _: "1.5.0")
    module.state = state  # type: ignore[attr-defined]
    return module


def test_the_whole_is_read_if_a_known_program_divides(build: Build, accelerate: Any) -> None:
    assert names(build()) == NAMES[1::2]
    assert names(accelerate.IterableDatasetShard(build())) == NAMES[::2]
    # It says by its numbers that it does not divide.
    assert names(accelerate.IterableDatasetShard(build(), 1, 0)) == NAMES[1::2]
    assert names(accelerate.IterableDatasetShard(build(shard="ranks"))) == NAMES[1::4]


def test_an_iterator_may_be_made_before_the_program_runs(build: Build, accelerate: Any) -> None:
    assert names(accelerate.IterableDatasetShard(iter(build()))) == NAMES[::2]


def test_what_another_iteration_takes_the_place_of_has_ended(
    build: Build, accelerate: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[Pass] = []
    begin = ReadingTime.begin

    def noted(reading: ReadingTime) -> Pass:
        begun.append(begin(reading))
        return begun[-1]

    monkeypatch.setattr(ReadingTime, "begin", noted)
    iteration = iter(accelerate.IterableDatasetShard(iter(build())))
    next(iteration)
    # Its span is finished, and what it waited is counted.
    assert [each.is_over for each in begun] == [True, False]
    list(iteration)
    assert [each.is_over for each in begun] == [True, True]


def test_a_rank_that_another_rank_reads_for_reads_nothing(build: Build, accelerate: Any) -> None:
    with pytest.raises(OssConfigError, match=r"reads on one rank for all, but it asks another rank too: give shard="):
        next(iter(accelerate.DataLoaderDispatcher(DataLoader(build()))))
    accelerate.state.process_index = 0
    loader = DataLoader(build(), batch_size=None)
    assert names(accelerate.DataLoaderDispatcher(loader)) == NAMES


def test_workers_share_by_the_batches_of_a_loader_that_cuts_them(build: Build, accelerate: Any) -> None:
    accelerate.state.process_index = 0

    def load(**options: Any) -> list[list[str]]:
        dataset = build(**options)
        loader = DataLoader(dataset, 2, collate_fn=names, num_workers=3, multiprocessing_context="fork")
        return list(accelerate.DataLoaderDispatcher(loader))

    # By single objects the last batches would be those with 08, 09, and none.
    assert load() == load(batch_size=2) == [NAMES[start : start + 2] for start in range(0, 10, 2)]
    with pytest.raises(
        OssConfigError, match=r"loses samples if a batch is short: give the dataset batch_size=2, not 4"
    ):
        load(batch_size=4)
    with pytest.raises(OssConfigError, match='on_error="skip"'):
        load(on_error="skip", even="none")


def test_the_samples_of_a_rank_do_not_define_the_position_if_another_program_divides(
    build: Build, accelerate: Any
) -> None:
    dataset = build()
    assert len(list(accelerate.IterableDatasetShard(dataset))) == 5
    with pytest.raises(OssConfigError, match="another program divides what the dataset delivers"):
        dataset.cursor(samples_consumed=5)
    assert len(list(dataset)) == 5
    assert dataset.cursor(samples_consumed=5)["finished"]


def test_an_explicit_share_wins_and_a_warning_says_that_both_divide(
    build: Build, accelerate: Any, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        assert names(accelerate.IterableDatasetShard(build(shard=(0, 5)))) == ["00"]
    (message,) = caplog.messages
    assert "IterableDatasetShard of accelerate divides the samples among the ranks, and shard=(0, 5)" in message


@pytest.mark.parametrize("version", ["0.4", "1.16.0", "9.0"])
def test_a_version_that_was_not_tried_is_named_once(
    build: Build,
    accelerate: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    version: str,
) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda _: version)
    for _ in range(2):
        assert names(accelerate.IterableDatasetShard(build())) == NAMES[::2]
    (message,) = caplog.messages
    assert f"accelerate {version} divides the samples" in message


@pytest.mark.parametrize("version", ["1.0.0", "1.15.9", "1.15.0.dev0"])
def test_a_version_that_was_tried_is_not_named(
    build: Build,
    accelerate: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    version: str,
) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda _: version)
    assert names(accelerate.IterableDatasetShard(build())) == NAMES[::2]
    assert caplog.messages == []


def test_a_function_that_is_not_known_is_refused(build: Build, accelerate: Any) -> None:
    with pytest.raises(OssConfigError, match=r"accelerate may divide.*version 1.5.0 has functions.*shard='ranks'"):
        names(accelerate.Renamed(build()))
    assert names(accelerate.Renamed(build(shard="ranks", split_workers=True))) == NAMES[1::2]


def test_a_function_that_cannot_be_read_is_refused(build: Build, accelerate: Any) -> None:
    shard = accelerate.IterableDatasetShard(build())
    del shard.num_processes
    with pytest.raises(OssConfigError, match=r"IterableDatasetShard.__iter__ cannot be read.*shard=None"):
        next(iter(shard))


@pytest.mark.usefixtures("ranks")
def test_the_log_says_once_that_nobody_divides(build: Build, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "osstorchconnector"):
        for _ in range(2):
            assert names(build(shard=None)) == NAMES
    (message,) = caplog.messages
    assert "each of the 2 ranks reads all objects" in message


def test_another_thread_that_divides_is_refused(build: Build, accelerate: Any) -> None:
    raised: list[Exception] = []

    def read() -> None:
        try:
            list(build())
        except OssConfigError as error:
            raised.append(error)

    class ReadsAhead:
        def __iter__(self) -> Iterator[str]:
            thread = threading.Thread(target=read)
            thread.start()
            thread.join()
            return iter(())

    list(accelerate.IterableDatasetShard(ReadsAhead()))
    assert "divides samples among the ranks in another thread" in str(raised[0])
    raised.clear()
    list(ReadsAhead())
    assert raised == []


def by_rank(dataset: Any, rank: int = 0) -> Iterator[str]:
    for number, sample in enumerate(dataset):
        if number % dist.get_world_size(None) == rank:
            yield sample


@pytest.mark.usefixtures("ranks")
def test_a_generator_that_knows_its_rank_is_refused(build: Build) -> None:
    with pytest.raises(OssConfigError, match=r"whether by_rank \(.*:\d+\) divides.*shard=None if it does"):
        next(by_rank(build()))
    with pytest.raises(OssConfigError, match="whether by_rank"):
        next(by_rank(iter(build())))
    assert names(by_rank(build(shard=None))) == NAMES[::2]
    assert names(by_rank(build(shard="ranks"))) == NAMES[1::4]
    # The program that takes the samples may know its rank.
    assert dist.get_rank(None) == 1
    assert len([name for name in build() if dist.get_rank(None)]) == 5


class ByWorker(IterableDataset[str]):
    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __iter__(self) -> Iterator[str]:
        worker = get_worker_info()
        for number, sample in enumerate(self.dataset):
            if worker is None or number % worker.num_workers == worker.id:
                yield sample


def test_a_wrapper_that_asks_for_its_worker_is_refused(build: Build) -> None:
    def load(dataset: Any, workers: int) -> list[str]:
        context = "fork" if workers else None
        loader = DataLoader(dataset, batch_size=None, num_workers=workers, multiprocessing_context=context)
        return sorted(names(loader))

    assert load(ByWorker(build()), 0) == NAMES
    with pytest.raises(OssConfigError, match=r"whether ByWorker.__iter__ \(.*\) divides.*split_workers=False"):
        load(ByWorker(build()), 2)
    assert load(ByWorker(build(split_workers=False)), 2) == NAMES
    assert load(ByWorker(build(split_workers=True)), 2) == sorted(NAMES[::4] + NAMES[3::4])
    assert load(build(split_workers=False), 2) == sorted(2 * NAMES)


def own_part() -> tuple[int, int]:
    worker = get_worker_info()
    return (0, 1) if worker is None else (worker.id, worker.num_workers)


class ByHelper(ByWorker):
    def __iter__(self) -> Iterator[str]:
        first, step = self.part()
        yield from islice(iter(self.dataset), first, None, step)

    def part(self) -> tuple[int, int]:
        return own_part()


class ByNumber(ByWorker):
    """Another program tells it its part."""

    first, step = 0, 1

    def __iter__(self) -> Iterator[str]:
        return islice(iter(self.dataset), self.first, None, self.step)


def tell(_worker: int) -> None:
    worker = get_worker_info()
    assert worker is not None
    wrapper: Any = worker.dataset
    wrapper.first, wrapper.step = worker.id, worker.num_workers


def seed(_worker: int) -> None:
    worker = get_worker_info()
    assert worker is not None
    random.seed(worker.seed)


@pytest.mark.parametrize(
    ("wrapper", "initializer", "expected"),
    [
        (ByHelper, None, r"whether ByHelper.__iter__ \(.*:\d+, through own_part\) divides"),
        (ByNumber, tell, "whether worker_init_fn tell divides"),
        (ByNumber, functools.partial(tell), "whether worker_init_fn tell divides"),
        (ByNumber, seed, ""),
        (ByNumber, None, ""),
    ],
)
def test_a_wrapper_whose_helper_asks_for_the_worker_is_refused(
    build: Build, wrapper: Any, initializer: Any, expected: str
) -> None:
    def load(dataset: Any, loader: Any = DataLoader) -> list[str]:
        options: Any = {"num_workers": 2, "multiprocessing_context": "fork", "worker_init_fn": initializer}
        return sorted(names(loader(dataset, batch_size=None, **options)))

    for loader in (DataLoader, StatefulDataLoader):
        if expected:
            with pytest.raises(OssConfigError, match=expected):
                load(wrapper(build()), loader)
            assert load(wrapper(build(split_workers=False)), loader) == NAMES
        else:
            assert load(wrapper(build()), loader) == NAMES
    # Without a wrapper nobody can divide.
    assert load(build()) == NAMES


@pytest.mark.usefixtures("ranks")
@pytest.mark.parametrize("around", [tqdm.tqdm, list, enumerate, lambda dataset: map(str, dataset)])
def test_what_divides_nothing_is_not_refused(build: Build, around: Any) -> None:
    assert len(list(around(build()))) == 5


def test_workers_that_read_everything_resume_and_have_no_cursor(build: Build) -> None:
    dataset = build(split_workers=False)
    options: Any = {"batch_size": 2, "num_workers": 2, "multiprocessing_context": "fork", "collate_fn": names}
    plain = StatefulDataLoader(dataset, **options)
    taken = iter(plain)
    first = [next(taken) for _ in range(3)]
    state = plain.state_dict()
    rest = list(taken)
    assert sorted(name for batch in first + rest for name in batch) == sorted(2 * NAMES)
    with pytest.raises(OssConfigError, match="each worker read everything"):
        dataset.cursor_from(state)
    with pytest.raises(OssConfigError, match="another program divides what the dataset delivers"):
        dataset.cursor(samples_consumed=6)
    resumed = StatefulDataLoader(build(split_workers=False), **options)
    resumed.load_state_dict(state)
    assert list(resumed) == rest


@pytest.mark.usefixtures("ranks")
def test_a_copy_in_this_process_keeps_the_group(build: Build) -> None:
    import copy  # noqa: PLC0415

    dataset = build(process_group=object())
    assert names(copy.deepcopy(dataset)) == names(dataset) == NAMES[1::2]
