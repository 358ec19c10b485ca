"""Batches of a map dataset that are prefetched."""

import itertools
import pickle
import time
from collections.abc import Sequence
from typing import Any
from unittest.mock import Mock

import pytest
from torch.utils.data import DataLoader, Subset
from torchdata.stateful_dataloader import StatefulDataLoader

from osstorchconnector import DataObject, OssClient, OssMapDataset, OssNotFoundError
from osstorchconnector._native import ObjectStream
from osstorchconnector.dataset.read_ahead import ReadAhead
from osstorchconnector.testing import Emulator
from osstorchconnector.testing.admin import Admin

BATCH = 3
BATCHES = [list(range(first, first + BATCH)) for first in range(0, 15, BATCH)]
LAST = 15


def content(item: DataObject) -> bytes:
    return item.read()


@pytest.fixture
def dataset(emulator: Emulator, client: OssClient, bucket: str) -> OssMapDataset:
    for number in range(LAST + 1):
        client.put(f"oss://{bucket}/{number}", str(number).encode())
    uris = [f"oss://{bucket}/{number}" for number in range(LAST + 1)]
    return OssMapDataset.from_objects(uris, transform=content, **emulator.connection)


def requested(server: Emulator | Admin, bucket: str) -> list[int]:
    gets = (request for request in server.requests() if request.operation == "GetObject" and request.bucket == bucket)
    return sorted(int(request.key or "") for request in gets)


def wait_for(server: Emulator | Admin, bucket: str, number: int) -> None:
    deadline = time.monotonic() + 10
    while number not in requested(server, bucket):
        assert time.monotonic() < deadline, f"{number} was not requested"
        time.sleep(0.01)


def expected(positions: list[int]) -> list[bytes]:
    return [str(position).encode() for position in positions]


def foreseen(ahead: ReadAhead, batches: list[list[int]]) -> list[list[int]]:
    """Return the batches that are foreseen while these are read."""
    started: list[list[int]] = []

    def start(positions: list[int]) -> ObjectStream:
        started.append(positions)
        return Mock(ObjectStream)

    for batch in batches:
        ahead.take(batch)
        ahead.foresee(batch, LAST + 1, start)
    return started


def test_after_three_batches_in_order_the_next_one_is_in_flight(
    emulator: Emulator, bucket: str, dataset: OssMapDataset
) -> None:
    for batch in BATCHES[:3]:
        assert dataset.__getitems__(batch) == expected(batch)
    wait_for(emulator, bucket, BATCHES[3][-1])
    for batch in BATCHES[3:]:
        assert dataset.__getitems__(batch) == expected(batch)
    # Each object once, and none of the last batch, which is shorter and may be left out.
    assert requested(emulator, bucket) == list(range(LAST))


@pytest.mark.parametrize(
    "batches",
    [
        BATCHES[:2],
        [[0, 1, 2], [9, 10, 11], [3, 4, 5], [12, 13, 14]],
        [[4, 0, 9], [7, 3, 12], [10, 6, 15]],
        [[number] for number in range(6)],
        [[0, 1, 2], [3, 4, 5], [6, 7]],
        [[12, 13, 14], [9, 10, 11], [6, 7, 8], [3, 4, 5]],
        [[0, 1], [], [2, 3], []],
    ],
)
def test_other_batches_foresee_nothing(batches: list[list[int]]) -> None:
    assert foreseen(ReadAhead(), batches) == []


def test_a_batch_that_was_not_foreseen_is_fetched(dataset: OssMapDataset) -> None:
    for batch in [*BATCHES[:3], [0, 15, 2], *BATCHES[1:]]:
        assert dataset.__getitems__(batch) == expected(batch)


def test_an_object_that_fails_ahead_fails_at_its_place(
    client: OssClient, bucket: str, dataset: OssMapDataset, emulator: Emulator
) -> None:
    client.delete(f"oss://{bucket}/10")
    for batch in BATCHES[:3]:
        dataset.__getitems__(batch)
    wait_for(emulator, bucket, 11)
    with pytest.raises(OssNotFoundError, match='key="10"'):
        dataset.__getitems__(BATCHES[3])
    assert dataset.__getitems__(BATCHES[4]) == expected(BATCHES[4])


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_each_worker_foresees_its_own_batches(dataset: OssMapDataset, context: str) -> None:
    for batch in BATCHES[:3]:
        dataset.__getitems__(batch)
    loader = DataLoader(dataset, batch_size=2, num_workers=2, collate_fn=list, multiprocessing_context=context)
    assert [item for batch in loader for item in batch] == expected(list(range(LAST + 1)))
    # The batch that this process foresaw is still in flight.
    assert dataset.__getitems__(BATCHES[3]) == expected(BATCHES[3])


def test_a_copy_foresees_nothing() -> None:
    ahead = ReadAhead()
    assert foreseen(ahead, BATCHES[:2]) == []
    assert foreseen(pickle.loads(pickle.dumps(ahead)), BATCHES[2:3]) == []
    assert foreseen(ahead, BATCHES[2:3]) == [BATCHES[3]]


# No batch is a run, none follows from the others, and the last one is shorter.
SHUFFLED = [[4, 0, 9], [7, 3, 12], [10, 6, 15], [1, 14, 2], [13, 5]]


class RequestsOfNext:
    """A transform that waits until the server was asked for the batch after its object's."""

    def __init__(self, emulator: Emulator, bucket: str, batches: Sequence[Sequence[int]]) -> None:
        # A started process gets this, and not the emulator.
        self.admin, self.bucket = emulator._running(), bucket
        self.next_of = {now: later[-1] for batch, later in itertools.pairwise(batches) for now in batch}

    def __call__(self, item: DataObject) -> bytes:
        if (coming := self.next_of.get(int(item.name))) is not None:
            wait_for(self.admin, self.bucket, coming)
        return item.read()


class Overriding(OssMapDataset):
    def __getitem__(self, index: Any) -> Any:
        return super().__getitem__(index)


def written(client: OssClient, bucket: str) -> list[str]:
    uris = [f"oss://{bucket}/{number}" for number in range(LAST + 1)]
    for number, uri in enumerate(uris):
        client.put(uri, str(number).encode())
    return uris


@pytest.mark.parametrize(
    ("loader_class", "kind", "options"),
    [
        (DataLoader, OssMapDataset, {"multiprocessing_context": "fork"}),
        (DataLoader, OssMapDataset, {"multiprocessing_context": "spawn"}),
        (DataLoader, OssMapDataset, {"prefetch_factor": 4}),
        (DataLoader, Overriding, {}),
        (StatefulDataLoader, OssMapDataset, {}),
    ],
)
def test_the_next_batch_of_a_shuffle_is_in_flight(
    emulator: Emulator,
    client: OssClient,
    bucket: str,
    loader_class: type[DataLoader[Any]],
    kind: type[OssMapDataset],
    options: dict[str, Any],
) -> None:
    transform = RequestsOfNext(emulator, bucket, SHUFFLED)
    dataset = kind.from_objects(written(client, bucket), transform=transform, **emulator.connection)
    loader = loader_class(dataset, batch_sampler=SHUFFLED, num_workers=1, collate_fn=list, timeout=60, **options)
    assert [item for batch in loader for item in batch] == expected([number for batch in SHUFFLED for number in batch])
    # Each object once.
    assert requested(emulator, bucket) == sorted(number for batch in SHUFFLED for number in batch)


def test_the_next_batch_of_a_shuffled_subset_is_in_flight(emulator: Emulator, client: OssClient, bucket: str) -> None:
    turned = [[LAST - number for number in batch] for batch in SHUFFLED]
    dataset = OssMapDataset.from_objects(
        written(client, bucket), transform=RequestsOfNext(emulator, bucket, SHUFFLED), **emulator.connection
    )
    subset = Subset(Subset(dataset, range(LAST + 1)), range(LAST, -1, -1))
    loader = DataLoader(subset, batch_sampler=turned, num_workers=1, collate_fn=list, timeout=60)
    assert [item for batch in loader for item in batch] == expected([number for batch in SHUFFLED for number in batch])


def test_a_persistent_worker_foresees_each_epoch(emulator: Emulator, client: OssClient, bucket: str) -> None:
    batches = [[number] for number in (4, 0, 9, 7)]
    dataset = OssMapDataset.from_objects(
        written(client, bucket), transform=RequestsOfNext(emulator, bucket, batches), **emulator.connection
    )
    loader = DataLoader(
        dataset, batch_sampler=batches, num_workers=1, collate_fn=list, timeout=60, persistent_workers=True
    )
    for epoch in range(1, 4):
        assert [item for batch in loader for item in batch] == expected([4, 0, 9, 7])
        assert requested(emulator, bucket) == sorted([4, 0, 9, 7] * epoch)


def test_a_batch_that_cannot_be_fetched_fails_at_its_place(emulator: Emulator, client: OssClient, bucket: str) -> None:
    dataset = OssMapDataset.from_objects(written(client, bucket), transform=content, **emulator.connection)
    batches = [[4, 0], [9, LAST + 1], [7, 3], [12, 10], [2, 6]]
    loader = DataLoader(dataset, batch_sampler=batches, num_workers=1, collate_fn=list, timeout=60)
    found = iter(loader)
    assert next(found) == expected([4, 0])
    with pytest.raises(IndexError, match="index 16 is out of range"):
        next(found)
    assert [item for batch in found for item in batch] == expected([7, 3, 12, 10, 2, 6])


class Shifted:
    """A dataset of a user between the loader and the map dataset, which asks for other objects."""

    def __init__(self, dataset: OssMapDataset) -> None:
        self.dataset = dataset

    def __getitems__(self, indices: list[int]) -> list[Any]:
        return self.dataset.__getitems__([(index + 1) % (LAST + 1) if index > 5 else index for index in indices])

    def __len__(self) -> int:
        return LAST + 1


def test_a_wrapper_that_asks_for_other_objects_gets_them(emulator: Emulator, client: OssClient, bucket: str) -> None:
    dataset = OssMapDataset.from_objects(written(client, bucket), transform=content, **emulator.connection)
    # The first batch is as announced, and the others are not.
    batches = [[4, 0], [9, 2], [7, 3], [12, 10], [15, 6]]
    shifted: Any = Shifted(dataset)
    loader: DataLoader[Any] = DataLoader(shifted, batch_sampler=batches, num_workers=1, collate_fn=list)
    assert [item for batch in loader for item in batch] == expected([4, 0, 10, 2, 8, 3, 13, 11, 0, 7])
    # At most one batch was fetched in vain.
    assert len(requested(emulator, bucket)) <= 12
