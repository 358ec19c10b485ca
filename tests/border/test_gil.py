"""Every wait inside the native core lets Python's other threads run."""

import threading
from collections.abc import Callable, Iterator
from typing import Any, Self

import pytest

from osstorchconnector import OssClient
from osstorchconnector._native import Order
from tests.border.programs import LARGE, client_of, listing_of, stream_of, uri
from tests.faults.objects import ObjectServer
from tests.faults.server import PATIENCE, Answer, Exchange

CONTENTS = {"small": b"content", "other": b"content", "large": LARGE}
#: How far another thread must count during one request: much further than between two byte codes.
STEPS = 10_000


class Runner:
    """A Python thread that counts, and a fault that answers only after it has counted further."""

    def __init__(self) -> None:
        self._steps = 0
        self._ended = False
        self._moved = threading.Condition()
        self._thread = threading.Thread(target=self._run)

    def __call__(self, exchange: Exchange, answer: Answer) -> None:
        with self._moved:
            start = self._steps
            assert self._moved.wait_for(lambda: self._steps >= start + STEPS, PATIENCE)
        exchange.reply(answer)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._moved:
            self._ended = True
        self._thread.join(PATIENCE)

    def _run(self) -> None:
        while not self._ended:
            for _ in range(1000):
                self._steps += 1
            with self._moved:
                self._moved.notify_all()


@pytest.fixture
def server() -> Iterator[ObjectServer]:
    with Runner() as runner, ObjectServer(CONTENTS, runner, where=lambda _: True, page=2) as server:
        yield server


def write(client: OssClient) -> None:
    with client.writer(uri("written")) as writer:
        writer.write(LARGE)


def abort(client: OssClient) -> None:
    writer = client.writer(uri("written"))
    writer.write(LARGE)
    writer.abort()


def stream_listing(client: OssClient) -> list[bytes]:
    native = client._native_client
    return [item.read() for item in native.stream(listing_of(native, ""), Order(shuffle=True))]


def fetch(client: OssClient) -> list[bytes]:
    native = client._native_client
    return [item.read() for item in native.fetch(listing_of(native, ""), [0, 1, 2])]


CALLS: dict[str, Callable[[OssClient], Any]] = {
    "get": lambda client: client.get(uri("large")),
    "get range": lambda client: client.get(uri("large"), 10, 2_000_000),
    "head": lambda client: client.head(uri("small")),
    "open": lambda client: client.open(uri("small")),
    "read": lambda client: client.open(uri("large")).read(),
    "read ahead": lambda client: client.open(uri("large")).read(10),
    "readinto": lambda client: client.open(uri("large")).readinto(bytearray(3_000_000)),
    "readline": lambda client: client.open(uri("large")).readline(),
    "readlines": lambda client: client.open(uri("small")).readlines(),
    "list": lambda client: [item.name for item in client.list(uri(""))],
    "listing": lambda client: listing_of(client._native_client, ""),
    "stream": lambda client: [item.read() for item in stream_of(client._native_client, "")],
    "stream listing": stream_listing,
    "fetch": fetch,
    "put": lambda client: client.put(uri("written"), b"content"),
    "put in parts": lambda client: client.put(uri("written"), LARGE),
    "write": write,
    "abort": abort,
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_another_thread_runs_while_one_waits_for_an_answer(
    server: ObjectServer, call: Callable[[OssClient], Any]
) -> None:
    # The server's threads are Python threads too: without the interpreter it could not answer.
    call(client_of(server.endpoint, upload_concurrency=2))
    assert server.count() > 0


def test_another_thread_runs_during_a_call_of_a_provider(server: ObjectServer) -> None:
    asked = threading.Event()

    class Provider:
        access_key_id = "id"
        access_key_secret = "secret"

        def get_credentials(self) -> "Provider":
            # This needs the interpreter, which the thread that waits for the answer must not hold.
            asked.set()
            return self

    client = OssClient(server.endpoint, cred_provider=Provider(), region="cn-hangzhou")
    assert client.get(uri("small")) == b"content"
    assert asked.is_set()


def test_threads_wait_side_by_side() -> None:
    together = threading.Barrier(8)

    def answer_all_at_once(exchange: Exchange, answer: Answer) -> None:
        # The barrier opens only if all threads send their requests, so no thread's wait may stop another one.
        together.wait(PATIENCE)
        exchange.reply(answer)

    with ObjectServer(CONTENTS, answer_all_at_once) as server:
        client = client_of(server.endpoint)
        results: list[bytes] = []
        threads = [threading.Thread(target=lambda: results.append(client.get(uri("small")))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert results == [b"content"] * 8


def test_threads_share_one_object_one_after_the_other() -> None:
    with ObjectServer(CONTENTS) as server:
        reader = client_of(server.endpoint).open(uri("large"))
        pieces: list[bytes] = []

        def read_all() -> None:
            while piece := reader.read(100_000):
                pieces.append(piece)

        threads = [threading.Thread(target=read_all) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert sum(map(len, pieces)) == len(LARGE)
        # Each byte was delivered once: the pieces are those of the object, in any order.
        starts = range(0, len(LARGE), 100_000)
        assert sorted(pieces) == sorted(LARGE[start : start + 100_000] for start in starts)


def test_a_stream_shared_by_threads_delivers_each_object_once() -> None:
    contents = {f"{number:03}": f"content {number}".encode() for number in range(300)}
    with ObjectServer(contents) as server:
        stream = stream_of(client_of(server.endpoint)._native_client, "")
        found: list[str] = []

        def read_all() -> None:
            found.extend(item.name for item in stream)

        threads = [threading.Thread(target=read_all) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert sorted(found) == sorted(contents)
