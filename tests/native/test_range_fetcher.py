"""RangeFetcher: many ranges of many objects, in the order of their arrival, within a budget."""

from typing import Any

import numpy as np
import pytest

from osstorchconnector import OssClient, OssNotFoundError
from osstorchconnector._native import FetchedRange, RangeFetcher, crc64
from osstorchconnector.testing import Emulator

KIB = 1024
CONTENT = np.random.default_rng(3).integers(0, 256, 300 * KIB, dtype=np.uint8).tobytes()


@pytest.fixture
def uri(client: OssClient, bucket: str) -> str:
    client.put(f"oss://{bucket}/object", CONTENT)
    return bucket


def fetcher_of(client: OssClient, batches: Any, **limits: int) -> RangeFetcher:
    given = {"gap": 0, "run_limit": 64 * KIB, "concurrency": 4, "budget": 1 << 20} | limits
    return client._native_client.range_fetcher(batches, allocate=bytearray, **given)


def content_of(fetched: FetchedRange, length: int) -> bytes:
    assert fetched.error is None
    assert fetched.intact
    return bytes(memoryview(fetched.memory)[fetched.offset : fetched.offset + length])


def test_ranges_arrive_with_their_tags_and_neighbours_are_one_request(
    client: OssClient, emulator: Emulator, uri: str
) -> None:
    places = [(0, 1000), (1000, 5000), (7000, 100), (100 * KIB, 64 * KIB), (290 * KIB, 10 * KIB)]
    batch = [
        (place, uri, "object", len(CONTENT), *place, crc64(CONTENT[place[0] : sum(place)]), None) for place in places
    ]
    emulator.clear_requests()
    with fetcher_of(client, [batch], gap=1000) as fetcher:
        found = {fetched.tag: content_of(fetched, fetched.tag[1]) for fetched in fetcher}
        assert (fetcher.runs, fetcher.bytes_read) == (3, 7100 + 74 * KIB)
    assert found == {(start, length): CONTENT[start : start + length] for start, length in places}
    assert len(emulator.requests(operation="GetObject")) == 3
    assert len(emulator.requests(operation="HeadObject")) <= 3


def test_given_memory_receives_its_range(client: OssClient, uri: str) -> None:
    memories = [bytearray(10 * KIB) for _ in range(20)]
    batches = (
        [(number, uri, "object", None, number * 10 * KIB, 10 * KIB, None, memory)]
        for number, memory in enumerate(memories)
    )
    with fetcher_of(client, batches) as fetcher:
        assert sorted(fetched.tag for fetched in fetcher) == list(range(20))
    assert b"".join(memories) == CONTENT[: 200 * KIB]


def test_an_error_belongs_to_its_range_and_others_arrive(client: OssClient, uri: str) -> None:
    batch = [
        ("missing", uri, "missing", None, 0, 10, None, None),
        ("here", uri, "object", None, 0, 10, None, None),
    ]
    with fetcher_of(client, [batch]) as fetcher:
        found = {fetched.tag: fetched for fetched in fetcher}
    assert isinstance(found["missing"].error, OssNotFoundError)
    assert content_of(found["here"], 10) == CONTENT[:10]


@pytest.mark.parametrize(("size", "length"), [(5, 10), (None, 400 * KIB)])
def test_an_object_of_another_size_is_not_received(client: OssClient, uri: str, size: int | None, length: int) -> None:
    with fetcher_of(client, [[("range", uri, "object", size, 0, length, None, None)]]) as fetcher:
        (fetched,) = fetcher
    assert (fetched.object_size, fetched.intact, fetched.error) == (len(CONTENT), False, None)


@pytest.mark.parametrize("times", [1, 2])
def test_a_flipped_byte_is_received_once_more(client: OssClient, emulator: Emulator, uri: str, times: int) -> None:
    batch = [("range", uri, "object", None, 0, 1000, crc64(CONTENT[:1000]), None)]
    with emulator.fault(operation="GetObject", flip=7, times=times), fetcher_of(client, [batch]) as fetcher:
        (fetched,) = fetcher
    assert fetched.intact == (times == 1)


def test_closing_stops_what_is_in_flight(client: OssClient, emulator: Emulator, uri: str) -> None:
    memory = bytearray(100 * KIB)
    with emulator.fault(operation="GetObject", delay=3):
        with fetcher_of(client, [[("range", uri, "object", None, 0, 100 * KIB, None, memory)]]) as fetcher:
            fetcher.close()
        with pytest.raises(ValueError, match="closed"):
            next(fetcher)
    assert memory == bytes(100 * KIB)
