"""Endpoints that do not answer raise within the connect timeout."""

import contextlib
import errno
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from osstorchconnector import OssClient, OssConnectionError, OssTimeoutError
from tests.faults.readers import LISTERS, READERS, Reader, settings, with_each
from tests.faults.server import Answer, Exchange, ScriptedServer

CONNECT_TIMEOUT = 1.0
# A busy machine wakes a waiting thread late. The next larger time limit is ten times the connect timeout.
TOLERANCE = 3.0


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that neither accepts nor refuses connections, because its queue is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        port: int = listener.getsockname()[1]
        while True:
            filler = stack.enter_context(socket.socket())
            filler.settimeout(0.3)
            try:
                filler.connect(("127.0.0.1", port))
            except TimeoutError:
                break
        yield port


def raised_in_time(reader: Reader, endpoint: str, tolerance: float = TOLERANCE, **given: Any) -> OssConnectionError:
    connection = {
        "endpoint": endpoint,
        "region": "cn-hangzhou",
        "config": settings(**{"connect_timeout": CONNECT_TIMEOUT, "max_attempts": 6, **given}),
    }
    start = time.monotonic()
    with pytest.raises(OssConnectionError) as caught:
        reader(connection, ["a"])
    assert time.monotonic() - start < CONNECT_TIMEOUT + tolerance
    return caught.value


@with_each(READERS)
def test_a_silent_endpoint_is_given_up_within_the_connect_timeout(reader: Reader, silent_port: int) -> None:
    error = raised_in_time(reader, f"http://127.0.0.1:{silent_port}")
    assert f"no connection to 127.0.0.1:{silent_port} within 1.0 s (connect_timeout): no answer" in str(error)
    assert (error.bucket, error.key) == ("scripted-bucket", None if reader in LISTERS else "a")
    assert error.status is None
    assert error.code is None


@with_each(READERS)
def test_a_refused_connection_is_retried_and_reported(reader: Reader) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
    error = raised_in_time(reader, f"http://127.0.0.1:{port}", max_attempts=2)
    assert f"no connection to 127.0.0.1:{port}" in str(error)
    assert "refused" in str(error)
    assert error.attempts == 2


def test_no_pause_between_attempts_outlasts_the_connect_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}"
    # The pauses are random. With many at a time, one of them is long.
    with ThreadPoolExecutor(32) as pool:
        tried = [pool.submit(raised_in_time, READERS[0], endpoint, 1.0) for _ in range(32)]
        for attempt in tried:
            attempt.result()


def test_a_name_that_does_not_resolve_is_reported() -> None:
    error = raised_in_time(READERS[0], "http://no-such-host.invalid", max_attempts=1)
    assert "scripted-bucket.no-such-host.invalid" in str(error)


def test_a_server_without_tls_is_reported() -> None:
    def never(_: Exchange) -> None:
        raise AssertionError("a request was sent in the clear")

    with ScriptedServer(never) as server:
        raised_in_time(READERS[0], server.endpoint.replace("http:", "https:"), max_attempts=2)


def test_a_server_that_accepts_and_says_nothing_times_out() -> None:
    def stall(exchange: Exchange) -> None:
        exchange.stall()

    with ScriptedServer(stall) as server:
        client = OssClient(server.endpoint, region="cn-hangzhou", config=settings(read_timeout=0.4))
        start = time.monotonic()
        with pytest.raises(OssTimeoutError) as caught:
            client.get("oss://some-bucket/a")
        assert time.monotonic() - start < 2 * 0.4 + TOLERANCE
        assert caught.value.errno == errno.ETIMEDOUT
        assert caught.value.attempts == 2
        assert (caught.value.bucket, caught.value.key) == ("some-bucket", "a")


def test_the_total_timeout_bounds_all_attempts() -> None:
    def stall(exchange: Exchange) -> None:
        exchange.stall()

    with ScriptedServer(stall) as server:
        config = settings(total_timeout=1, max_attempts=100)
        start = time.monotonic()
        with pytest.raises(OssTimeoutError):
            OssClient(server.endpoint, region="cn-hangzhou", config=config).get("oss://some-bucket/a")
        assert time.monotonic() - start < 1 + TOLERANCE


def test_the_client_works_again_when_the_server_does() -> None:
    def answer(exchange: Exchange) -> None:
        exchange.reply(Answer(200, {"ETag": '"1"'}, b"content"))

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
    client = OssClient(f"http://127.0.0.1:{port}", region="cn-hangzhou", config=settings(max_attempts=1))
    with pytest.raises(OssConnectionError):
        client.get("oss://some-bucket/a")
    with ScriptedServer(answer, port) as server:
        assert client.get("oss://some-bucket/a") == b"content"
        assert server.count() == 1
