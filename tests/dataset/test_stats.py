"""What a dataset and a client say of the time and the requests."""

import copy
import fcntl
import gc
import multiprocessing
import pickle
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import pytest
from torch.utils.data import DataLoader

from osstorchconnector import DataObject, DatasetStats, OssClient, OssConfig, OssIterableDataset, OssMapDataset
from osstorchconnector.dataset import reading_time
from osstorchconnector.dataset.private_directory import PrivateDirectory
from osstorchconnector.dataset.stats_file import StatsFile
from osstorchconnector.process.worker import Share
from osstorchconnector.testing import Emulator
from tests.faults.objects import ObjectServer, Refusal, uri
from tests.faults.readers import connect
from tests.forks import idle_fork

OBJECTS = 100
PLACE = "oss://timed/data/"
SLOW = 0.005

Dataset = OssIterableDataset | OssMapDataset


def read(item: DataObject) -> int:
    return len(item.read())


def read_slowly(item: DataObject) -> int:
    time.sleep(SLOW)
    return len(item.read())


def read_very_slowly(item: DataObject) -> int:
    time.sleep(0.3)
    return len(item.read())


class ReadBeside:
    """A transform that fetches another object too."""

    def __init__(self, client: OssClient) -> None:
        self.client = client

    def __call__(self, item: DataObject) -> int:
        return len(self.client.get(f"oss://timed/beside/{item.name.rpartition('/')[2]}"))


class Decoded(OssMapDataset):
    """A dataset that transforms in a method of its own."""

    def __getitem__(self, index: Any) -> Any:
        item = super().__getitem__(index)
        time.sleep(SLOW)
        return item


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    with Emulator() as emulator:
        emulator.create_bucket("timed")
        client = emulator.client()
        for number in range(OBJECTS):
            client.put(f"{PLACE}{number:03}", b"x" * 1000)
            client.put(f"oss://timed/beside/{number:03}", b"y")
        yield emulator


def loop(dataset: Dataset, workers: int, pause: float = 0.0, start: str | None = None) -> DatasetStats:
    context = start if workers else None
    for _ in DataLoader(dataset, batch_size=10, num_workers=workers, multiprocessing_context=context):
        time.sleep(pause)
    return dataset.stats()


def check_sums(stats: DatasetStats, workers: int) -> None:
    assert stats.samples == OBJECTS
    assert stats.has_workers == (workers > 0)
    parts = stats.waiting_seconds + stats.transform_seconds + stats.program_seconds
    assert parts == pytest.approx(stats.seconds, rel=0.02)
    assert stats.requests >= OBJECTS


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", [OssIterableDataset, OssMapDataset])
class TestWhatAJobWaitsFor:
    def test_oss(self, emulator: Emulator, kind: type[Dataset], workers: int) -> None:
        with emulator.fault(key="data/*", delay=0.3):
            # One request at a time, so that the delays add up.
            config = OssConfig(prefetch_concurrency=1, max_concurrency=1)
            named = [f"{PLACE}{number:03}" for number in range(8)]
            dataset = kind.from_objects(named, transform=read, **emulator.connection, config=config)
            stats = loop(dataset, workers)
        assert stats.waits_for == "OSS", stats
        assert str(stats).startswith("the job waits for OSS: 8 samples, ")
        assert stats.waiting_seconds > 0.5 * stats.seconds

    def test_its_transform(self, emulator: Emulator, kind: type[Dataset], workers: int) -> None:
        dataset = kind.from_prefix(PLACE, transform=read_slowly, **emulator.connection)
        stats = loop(dataset, workers)
        check_sums(stats, workers)
        assert stats.waits_for == "transform", stats
        assert stats.transform_seconds >= OBJECTS * SLOW

    def test_the_program(self, emulator: Emulator, kind: type[Dataset], workers: int) -> None:
        dataset = kind.from_prefix(PLACE, transform=read, **emulator.connection)
        stats = loop(dataset, workers, pause=0.1)
        check_sums(stats, workers)
        assert stats.waits_for == "program", stats

    def test_oss_in_the_transform(self, emulator: Emulator, kind: type[Dataset], workers: int) -> None:
        with emulator.fault(key="beside/*", delay=0.02):
            transform = ReadBeside(OssClient(**emulator.connection))
            dataset = kind.from_prefix(PLACE, transform=transform, **emulator.connection)
            stats = loop(dataset, workers)
        check_sums(stats, workers)
        assert stats.waits_for == "OSS", stats
        assert stats.waiting_seconds >= OBJECTS * 0.02


@pytest.mark.slow(120)
@pytest.mark.parametrize("start", ["spawn", "forkserver"])
@pytest.mark.parametrize("kind", [OssIterableDataset, OssMapDataset])
def test_started_workers_add_up(emulator: Emulator, kind: type[Dataset], start: str) -> None:
    dataset = kind.from_prefix(PLACE, transform=read_slowly, **emulator.connection)
    check_sums(loop(dataset, 2, start=start), 2)


def test_two_epochs_add_up(emulator: Emulator) -> None:
    dataset = OssIterableDataset.from_prefix(PLACE, transform=read, **emulator.connection)
    assert [loop(dataset, workers).samples for workers in (0, 2, 0)] == [OBJECTS, 2 * OBJECTS, 3 * OBJECTS]


@pytest.mark.parametrize("kind", [OssIterableDataset, OssMapDataset, Decoded])
def test_an_iteration_that_was_broken_off_counts_what_it_delivered(emulator: Emulator, kind: type[Dataset]) -> None:
    dataset = kind.from_prefix(PLACE, **emulator.connection)
    assert str(dataset.stats()) == "no sample was read yet"
    assert dataset.stats().waits_for == "nothing"
    iteration = iter(dataset)
    for number in range(1, 81):
        next(iteration)
        assert dataset.stats().samples == number
    next(iteration)
    del iteration
    ended = dataset.stats()
    assert ended.samples == 81
    time.sleep(0.05)
    assert dataset.stats() == ended


def test_workers_that_stay_count_their_last_batches_before_they_are_asked_for_more(emulator: Emulator) -> None:
    dataset = OssMapDataset.from_prefix(PLACE, transform=read, **emulator.connection)
    loader = DataLoader(dataset, batch_size=10, num_workers=2, persistent_workers=True)
    for epoch in (1, 2):
        assert len(list(loader)) == OBJECTS // 10
        until = time.monotonic() + 30
        while dataset.stats().samples < epoch * OBJECTS:
            assert time.monotonic() < until, dataset.stats()
            time.sleep(0.05)
        assert dataset.stats().samples == epoch * OBJECTS


@pytest.mark.parametrize("kind", [OssIterableDataset, OssMapDataset])
def test_a_worker_that_waits_until_the_program_takes_its_first_batches_counts_them(
    emulator: Emulator, kind: type[Dataset]
) -> None:
    dataset = kind.from_prefix(PLACE, transform=read, **emulator.connection)
    batches = iter(DataLoader(dataset, batch_size=1, num_workers=1, prefetch_factor=2))
    next(batches)
    # It has read three, in some milliseconds, and reads no more before the program takes the next one.
    until = time.monotonic() + 30
    while dataset.stats().samples < 3:
        assert time.monotonic() < until, dataset.stats()
        time.sleep(0.05)
    assert dataset.stats().samples == 3


@pytest.mark.parametrize("kind", [OssIterableDataset, OssMapDataset])
def test_a_pause_between_epochs_is_no_time_of_workers_that_stay(emulator: Emulator, kind: type[Dataset]) -> None:
    pause = 3.0
    dataset = kind.from_prefix(PLACE, transform=read_slowly, **emulator.connection)
    loader = DataLoader(dataset, batch_size=10, num_workers=2, persistent_workers=True)
    for _ in range(2):
        for _ in loader:
            pass
        time.sleep(pause)
    stats = dataset.stats()
    # Without the pauses of two workers.
    assert stats.seconds < pause, stats
    assert stats.samples == 2 * OBJECTS
    assert stats.waits_for == "transform", stats


def test_a_pause_inside_an_epoch_is_time_of_workers_that_stay(emulator: Emulator) -> None:
    pause = 1.0
    dataset = OssMapDataset.from_prefix(PLACE, transform=read, **emulator.connection)
    loader = DataLoader(dataset, batch_size=10, num_workers=1, persistent_workers=True)
    for _ in range(2):
        for number, _ in enumerate(loader):
            if number == 2:
                time.sleep(pause)
    until = time.monotonic() + 30
    while dataset.stats().samples < 2 * OBJECTS:
        assert time.monotonic() < until, dataset.stats()
        time.sleep(0.05)
    assert dataset.stats().program_seconds > 2 * pause * 0.9


@pytest.mark.parametrize("kind", [OssIterableDataset, OssMapDataset])
def test_a_pause_after_a_loop_that_was_left_early(emulator: Emulator, kind: type[Dataset]) -> None:
    pause = 3.0
    dataset = kind.from_prefix(PLACE, transform=read, **emulator.connection)
    loader = DataLoader(dataset, batch_size=10, num_workers=1, persistent_workers=True)
    for _ in loader:
        break
    time.sleep(pause)
    for _ in loader:
        pass
    stats = dataset.stats()
    # Only a worker of an iterable dataset is in the middle of an iteration.
    is_counted = kind is OssIterableDataset
    assert (stats.program_seconds > 0.9 * pause) == is_counted, stats
    assert (stats.seconds < pause) != is_counted, stats


def test_a_pause_between_two_loops_without_workers(emulator: Emulator) -> None:
    pause = 1.0
    for kind, is_counted in ((OssIterableDataset, False), (OssMapDataset, True)):
        dataset = kind.from_prefix(PLACE, transform=read, **emulator.connection)
        for _ in range(2):
            loop(dataset, 0)
            time.sleep(pause)
        assert (dataset.stats().program_seconds > 0.9 * pause) == is_counted, dataset.stats()
        assert dataset.stats().seconds < 2 * pause


def test_a_slow_worker_counts_each_sample(emulator: Emulator) -> None:
    dataset = OssIterableDataset.from_prefix(PLACE, transform=read_very_slowly, **emulator.connection)
    batches = iter(DataLoader(dataset, batch_size=1, num_workers=1, prefetch_factor=1))
    for _ in range(6):
        next(batches)
    assert 3 <= dataset.stats().samples <= 8


def test_a_method_that_a_subclass_overrides_counts_as_the_transform(emulator: Emulator) -> None:
    for run in (lambda dataset: loop(dataset, 0), lambda dataset: (list(dataset), dataset.stats())[1]):
        dataset = Decoded.from_prefix(PLACE, transform=read, **emulator.connection)
        stats = run(dataset)
        check_sums(stats, 0)
        assert stats.waits_for == "transform", stats


def test_time_between_batches_counts_when_the_next_one_is_asked_for(emulator: Emulator) -> None:
    dataset = OssMapDataset.from_prefix(PLACE, **emulator.connection)
    dataset[[0, 1]]
    time.sleep(0.3)
    assert dataset.stats().seconds < 0.3
    dataset[2]
    assert dataset.stats().program_seconds >= 0.3
    assert dataset.stats().samples == 3


def test_an_object_that_is_left_out_counts_as_a_sample(emulator: Emulator) -> None:
    named = [f"{PLACE}000", f"{PLACE}missing", f"{PLACE}001"]
    options: Any = {"on_error": "skip", "even": "none", **emulator.connection}
    dataset = OssIterableDataset.from_objects(named, transform=read, **options)
    assert list(dataset) == [1000, 1000]
    assert dataset.stats().samples == 3


def test_a_copy_inside_the_process_counts_with_the_dataset_and_a_pickled_one_for_itself(emulator: Emulator) -> None:
    dataset = OssIterableDataset.from_prefix(PLACE, **emulator.connection)
    assert len(list(copy.deepcopy(dataset))) == OBJECTS
    assert dataset.stats().samples == OBJECTS
    assert pickle.loads(pickle.dumps(dataset)).stats().samples == 0


def test_a_directory_that_cannot_be_written_does_not_end_a_job(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = OssMapDataset.from_objects([f"{PLACE}000", f"{PLACE}001"], **emulator.connection)
    monkeypatch.setattr(dataset._directory, "_path", dataset._directory.path / "no" / "such")
    assert [item.read() for item in dataset[[0, 1]]] == [b"x" * 1000] * 2
    assert dataset.stats().samples == 2


def test_a_process_that_is_forked_meanwhile_keeps_no_lock() -> None:
    directory = PrivateDirectory()
    stats = StatsFile(directory, "kind", "place")
    with ExitStack() as stack:
        with stats._open():
            stack.enter_context(idle_fork())
        with (directory.path / "stats.json").open("rb") as file:
            # Raises if somebody has the lock.
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _counted(connection: dict[str, Any], results: Any) -> None:
    client = OssClient(**connection)
    client.get(f"{PLACE}000")
    stats = client.stats()
    results.put((stats.requests["get"], stats.received_bytes, stats.connections_opened, sum(stats.first_byte_counts)))


@pytest.mark.slow(60)
@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_a_process_counts_for_itself(emulator: Emulator, start: str) -> None:
    emulator.client().get(f"{PLACE}001")
    context: Any = multiprocessing.get_context(start)
    results = context.SimpleQueue()
    process = context.Process(target=_counted, args=(emulator.connection, results))
    process.start()
    assert results.get() == (1, 1000, 1, 1)
    process.join()


def _difference(action: Callable[[], Any], client: OssClient) -> dict[str, Any]:
    before = client.stats()
    action()
    after = client.stats()
    changed: dict[str, Any] = {}
    for name, value in after.as_dict().items():
        old = before.as_dict()[name]
        if isinstance(value, dict):
            changed |= {f"{name}.{key}": count - old[key] for key, count in value.items() if count != old[key]}
        elif name in {"received_bytes", "verified_bytes", "sent_bytes", "listed_pages"} and value != old:
            changed[name] = value - old
    return changed


def test_a_client_counts_what_it_does(emulator: Emulator) -> None:
    client = emulator.client()
    target = "oss://timed/written"
    assert _difference(lambda: client.put(target, b"12345"), client) == {"requests.put": 1, "sent_bytes": 5}
    assert _difference(lambda: client.get(target), client) == {
        "requests.get": 1,
        "received_bytes": 5,
        "verified_bytes": 5,
    }
    assert _difference(lambda: client.head(target), client) == {"requests.head": 1}
    assert _difference(lambda: list(client.list("oss://timed/wri")), client) == {"requests.list": 1, "listed_pages": 1}
    assert _difference(lambda: client.delete(target), client) == {"requests.delete": 1}
    stats = client.stats()
    median, all_of_them = stats.first_byte(0.5), stats.first_byte(1.0)
    assert median is not None
    assert all_of_them is not None
    assert 0 < median <= all_of_them
    assert sum(stats.first_byte_counts) <= sum(stats.requests.values())
    assert stats.connections_open >= 1


@pytest.mark.parametrize(("fault", "cause"), [("throttled", "throttled"), ("hang up", "lost_connection")])
def test_attempts_are_counted_by_what_failed(fault: str, cause: str) -> None:
    scripted: Any = Refusal(503, "SlowDown") if fault == "throttled" else (lambda exchange, _: exchange.hang_up())
    with ObjectServer({"one": b"1"}, scripted, times=1) as server:
        client = OssClient(**connect(server))
        assert _difference(lambda: client.get(uri("one")), client) == {
            "requests.get": 2,
            f"retries.{cause}": 1,
            "received_bytes": 1,
            "verified_bytes": 1,
        }
    with ObjectServer({"one": b"1"}, scripted) as server:
        client = OssClient(**connect(server))

        def fail() -> None:
            with pytest.raises(Exception, match="one"):
                client.get(uri("one"))

        changed = _difference(fail, client)
        assert changed == {"requests.get": 2, f"retries.{cause}": 1, f"failures.{cause}": 1}


def test_a_worker_keeps_no_iteration_that_was_left() -> None:
    published, gone = threading.Event(), threading.Event()

    class Left:
        is_over = False

        def publish(self) -> None:
            published.set()

    left: Any = Left()
    weakref.finalize(left, gone.set)
    reading_time._Publisher().add(left)
    assert published.wait(10)
    del left
    gc.collect()
    assert gone.wait(10)


def test_what_a_worker_begins_may_be_published_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    published: list[Any] = []

    def publish(running: Any) -> None:
        running.publish()
        published.append(running)

    publisher = SimpleNamespace(add=publish)
    monkeypatch.setattr(reading_time, "_publishers", SimpleNamespace(get=lambda _: publisher))
    monkeypatch.setattr(reading_time, "worker_share", lambda: Share(0, 1))
    reading = reading_time.ReadingTime(PrivateDirectory(), "kind", "place")
    begun = [reading.begin(), reading.batches()]
    assert published == begun
