"""Batches of a map dataset that are prefetched."""

import pickle
import time
from unittest.mock import Mock

import pytest
from torch.utils.data import DataLoader

from osstorchconnector import DataObject, OssClient, OssMapDataset, OssNotFoundError
from osstorchconnector._native import ObjectStream
from osstorchconnector.dataset.read_ahead import ReadAhead
from osstorchconnector.testing import Emulator

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


def requested(emulator: Emulator, bucket: str) -> list[int]:
    return sorted(
        int(request.key or "") for request in emulator.requests(operation="GetObject") if request.bucket == bucket
    )


def wait_for(emulator: Emulator, bucket: str, number: int) -> None:
    deadline = time.monotonic() + 10
    while number not in requested(emulator, bucket):
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
