"""One listing for all processes of a dataset: who makes it, who reads it, and what happens when that one is gone."""

import os
import pickle
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.context import set_spawning_popen
from pathlib import Path

import pytest

from osstorchconnector import OssClient, OssConfig, OssConfigError, OssError, OssNotFoundError
from osstorchconnector._native import Client, ListingFile, ObjectTable, Order, PrefixToList
from osstorchconnector.dataset.rows import Row
from osstorchconnector.testing import Emulator
from tests.border.running import Program

COUNT = 2500
NAMES = [f"{number:04}" for number in range(COUNT)]
PAGES = 3


@pytest.fixture(scope="module")
def server() -> Iterator[Emulator]:
    with Emulator(buckets=["bucket"]) as server:
        client = server.client()
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda name: client.put(f"oss://bucket/{name}", name.encode()), NAMES))
        yield server


@pytest.fixture
def native(server: Emulator) -> Client:
    server.clear_requests()
    # One page after the other, so that a test can say which one it means.
    config = OssConfig(fast_list=False)
    return OssClient(server.endpoint, server.cred_path, region=server.region, config=config)._native_client


@pytest.fixture
def directory(tmp_path: Path) -> str:
    return str(tmp_path / "listing")


def listing_at(directory: str) -> ListingFile:
    return ListingFile(directory, limit=1 << 30)


def row(name: str, label: str = "") -> Row:
    return "bucket", name, None, None, label, None


def lists(server: Emulator) -> int:
    return len(server.requests(operation="ListObjectsV2"))


EVERYTHING = PrefixToList("bucket", "")


def test_one_listing_serves_all_streams(server: Emulator, native: Client, directory: str) -> None:
    def read(worker: int) -> list[str]:
        order = Order(batch_size=10, worker=worker, workers=4)
        return [item.name for item in native.stream(listing_at(directory), order, producer=EVERYTHING)]

    with ThreadPoolExecutor(4) as threads:
        shares = list(threads.map(read, range(4)))
    assert sorted(name for share in shares for name in share) == NAMES
    assert shares[1][:12] == [*NAMES[10:20], *NAMES[50:52]]
    assert lists(server) == PAGES
    assert read(0) == shares[0]
    assert lists(server) == PAGES


@pytest.mark.slow(60)
def test_the_next_reader_goes_on_where_a_killed_lister_stopped(
    server: Emulator, native: Client, directory: str
) -> None:
    with server.fault(operation="ListObjectsV2", nth=2, delay=60):
        with Program("producing", "list", server.endpoint, server.cred_path, "bucket", directory) as program:
            program.expect("begun 1000")
            stream = native.stream(listing_at(directory), Order(), producer=EVERYTHING)
            assert [next(stream).name for _ in range(1000)] == NAMES[:1000]
            found: list[str] = []
            waiting = threading.Thread(target=lambda: found.extend(item.name for item in stream))
            waiting.start()
        # Leaving the block killed it.
        waiting.join(10)
        assert found == NAMES[1000:]
    rows = listing_at(directory)
    assert [rows[index].name for index in range(len(rows))] == NAMES


@pytest.mark.slow(60)
def test_the_next_parser_goes_on_where_a_killed_one_stopped(server: Emulator, directory: str) -> None:
    listing = listing_at(directory)
    with Program("producing", "parse", server.endpoint, server.cred_path, "bucket", directory) as program:
        program.expect("begun 1500")
        assert listing.acquire(0.05) == "taken"
    assert listing.acquire(10) == "ours"
    assert listing.count == 1500
    listing.put([row(name, name) for name in NAMES[1500:]])
    listing.finish()
    assert listing.acquire() == "over"
    rows = listing_at(directory)
    assert [(rows[index].name, rows[index].label) for index in (0, 1499, 1500, -1)] == [
        ("0000", "0"),
        ("1499", "1499"),
        ("1500", "1500"),
        ("2499", "2499"),
    ]
    # However the rows came in, they are the same.
    table = ObjectTable.from_objects(row(name, str(int(name))) for name in NAMES)
    for count in (0, 1, 1000, 1001, COUNT):
        assert rows.digest(count) == table.digest(count)
    with pytest.raises(ValueError, match="fewer than 2501"):
        rows.digest(COUNT + 1)


def test_closing_the_stream_that_lists_lets_the_next_go_on(server: Emulator, native: Client, directory: str) -> None:
    with server.fault(operation="ListObjectsV2", nth=2, delay=60):
        first = native.stream(listing_at(directory), Order(), producer=EVERYTHING)
        second = native.stream(listing_at(directory), Order(), producer=EVERYTHING)
        assert next(first).name == next(second).name == "0000"
        first.close()
        assert [item.name for item in second] == NAMES[1:]


def test_a_listing_is_read_in_every_order(native: Client, directory: str) -> None:
    listing = listing_at(directory)
    listing.wait(native, EVERYTHING)
    table = ObjectTable.from_objects(("bucket", name, 4, None, "", None) for name in NAMES)
    for order in (
        Order(shuffle=True, seed=3, epoch=1, rank=1, world=3, batch_size=7, even="none"),
        Order(shuffle=300, rank=2, world=3, batch_size=50, skip=20),
        Order(start=2000, batch_size=100, rank=0, world=2, worker=1, workers=2, even="drop"),
    ):
        expected = [NAMES[order.entry(position, COUNT)] for position in range(order.length(COUNT))]
        for rows in (listing, table):
            assert [item.name for item in native.stream(rows, order)] == expected
    with pytest.raises(IndexError, match=r"position 5 is out of range for 5 positions"):
        Order(world=2).entry(5, 10)


def test_positions_to_skip_are_not_fetched(server: Emulator, native: Client, directory: str) -> None:
    stream = native.stream(listing_at(directory), Order(skip=2400), producer=EVERYTHING)
    assert [item.read().decode() for item in stream] == NAMES[2400:]
    assert len(server.requests(operation="GetObject")) == 100


def test_objects_come_as_they_arrive_where_that_is_asked_for(server: Emulator, native: Client) -> None:
    table = ObjectTable.from_uris(f"oss://bucket/{name}" for name in NAMES[:200])
    with server.fault(operation="GetObject", key="0000", delay=1):
        found = [item.name for item in native.stream(table, Order(), arrival=True)]
    assert found[-1] == "0000"
    assert sorted(found) == NAMES[:200]


def test_directory_markers_are_left_out_and_counted_unless_asked_for(server: Emulator, directory: str) -> None:
    client = server.client()
    client.create_bucket("markers")
    for name, content in {"a/": b"", "a/1": b"1", "a/b/": b"", "a/b/empty": b"", "c/": b"not empty", "d/": b""}.items():
        client.put(f"oss://markers/{name}", content)
    native = client._native_client
    listing = listing_at(directory)
    listing.wait(native, PrefixToList("markers", ""))
    assert [listing[index].name for index in range(len(listing))] == ["a/1", "a/b/empty", "c/"]
    assert listing.markers == 3
    listing.renew()
    listing.wait(native, PrefixToList("markers", "", directory_markers=True))
    assert (len(listing), listing.markers) == (6, 0)


class Unpicklable(Exception):  # noqa: N818 - its name is part of the message
    def __reduce__(self) -> str:
        raise TypeError("not this one")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OssNotFoundError("gone", code="NoSuchKey", status=404, request_id="66F0"), OssNotFoundError),
        (ZeroDivisionError("in the parser"), ZeroDivisionError),
        (Unpicklable("odd"), OssError),
    ],
)
def test_every_reader_raises_what_the_listing_failed_with(
    native: Client, directory: str, error: Exception, expected: type[Exception]
) -> None:
    listing, other = listing_at(directory), listing_at(directory)
    streams = [native.stream(rows, Order()) for rows in (listing, other)]
    assert listing.acquire() == "ours"
    listing.put([row("0000")])
    listing.fail(error)
    for stream in streams:
        assert next(stream).name == "0000"
        with pytest.raises(expected, match=str(error.args[0]).split(" [")[0]) as caught:
            next(stream)
        if isinstance(error, OssError):
            assert vars(caught.value) == vars(error)
        assert list(stream) == []
    for rows in (listing, other):
        with pytest.raises(expected):
            len(rows)
    # The next iteration begins anew.
    again = native.stream(other, Order(), producer=EVERYTHING)
    assert len(list(again)) == COUNT


def test_a_listing_that_fails_in_the_service_keeps_its_fields(native: Client, directory: str) -> None:
    # First, since a stream that comes after the failure begins anew.
    other = native.stream(listing_at(directory), Order())
    stream = native.stream(listing_at(directory), Order(), producer=PrefixToList("no-such-bucket", ""))
    for reader in (stream, other):
        with pytest.raises(OssNotFoundError) as caught:
            next(reader)
        assert (caught.value.code, caught.value.status, caught.value.bucket) == ("NoSuchBucket", 404, "no-such-bucket")
        assert caught.value.request_id


def test_rows_are_appended_by_who_acquired_the_listing(directory: str) -> None:
    listing = listing_at(directory)
    with pytest.raises(RuntimeError, match="acquired"):
        listing.put([])
    assert listing.acquire() == "ours"
    listing.put([row("a")])
    with pytest.raises(ValueError, match="tuple of length"):
        listing.put([row("b"), ("bucket", "c")])  # type: ignore[list-item]
    assert listing.count == 1
    with pytest.raises(RuntimeError, match="not complete"):
        len(listing)
    listing.release()
    with pytest.raises(RuntimeError, match="acquired"):
        listing.finish()


def test_a_listing_is_pickled_only_to_start_a_process(native: Client, directory: str) -> None:
    listing = listing_at(directory)
    listing.wait(native, EVERYTHING)
    with pytest.raises(TypeError, match="pickle"):
        pickle.dumps(listing)
    set_spawning_popen(object())  # type: ignore[arg-type]
    try:
        pickled = pickle.dumps(listing)
    finally:
        set_spawning_popen(None)
    assert len(pickle.loads(pickled)) == COUNT


def test_a_forked_child_opens_the_listing_again_and_leaves_the_lock_to_its_parent(directory: str) -> None:
    listing = listing_at(directory)
    assert listing.acquire() == "ours"
    listing.put([row("a")])
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            if listing.count == 1 and listing.acquire(0.05) == "taken":
                status = 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    assert listing_at(directory).acquire(0.05) == "taken"
    listing.put([row("b")])
    listing.finish()
    assert len(listing) == 2


def test_an_order_with_impossible_numbers_is_refused() -> None:
    for numbers, reason in [
        ({"rank": 2, "world": 2}, "rank 2"),
        ({"worker": 1}, "worker 1"),
        ({"batch_size": 0}, "batch_size"),
        ({"world": 1 << 31}, "world"),
        ({"shuffle": 0}, "block"),
        ({"even": "odd"}, "even"),
        ({"start": 1 << 63}, "start"),
    ]:
        with pytest.raises(OssConfigError, match=reason):
            Order(**numbers)  # type: ignore[arg-type]
