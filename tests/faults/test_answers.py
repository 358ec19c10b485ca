"""Answers that are errors, or no HTTP at all."""

import time

import pytest

from osstorchconnector import (
    OssClient,
    OssConnectionError,
    OssError,
    OssIterableDataset,
    OssMapDataset,
    OssNotFoundError,
    OssPermissionError,
    OssThrottledError,
    OssTimeoutError,
)
from tests.faults.objects import ObjectServer, Refusal, uri
from tests.faults.readers import LISTERS, READERS, Reader, connect, get, with_each
from tests.faults.server import Answer, Exchange, Request, ScriptedServer

CONTENTS = {f"{number:03}": f"content {number}".encode() * 20 for number in range(60)}
NAMES = sorted(CONTENTS)


def every_request(_: Request) -> bool:
    return True


def is_about_the_first(request: Request) -> bool:
    return request.key == "000"


@pytest.mark.parametrize(
    ("status", "code", "kind", "attempts"),
    [
        (400, "InvalidArgument", OssError, 1),
        (403, "AccessDenied", OssPermissionError, 1),
        (403, "UserDisable", OssPermissionError, 1),
        (404, "NoSuchKey", OssNotFoundError, 1),
        (405, "MethodNotAllowed", OssError, 1),
        (409, "FileImmutable", OssError, 1),
        (429, "TooManyRequests", OssError, 2),
        (500, "InternalError", OssError, 2),
        (502, "BadGateway", OssError, 2),
        (503, "ServiceUnavailable", OssThrottledError, 2),
        (503, "SlowDown", OssThrottledError, 2),
        (504, "GatewayTimeout", OssError, 2),
        (599, "Unheard", OssError, 2),
    ],
)
@with_each(READERS)
def test_an_error_of_the_service_keeps_all_its_fields(
    reader: Reader, status: int, code: str, kind: type[OssError], attempts: int
) -> None:
    with ObjectServer(CONTENTS, Refusal(status, code), where=is_about_the_first) as server:
        with pytest.raises(kind) as caught:
            reader(connect(server), ["000"])
        error = caught.value
        assert type(error) is kind
        assert (error.code, error.status, error.ec) == (code, status, "0000-00000001")
        assert (error.bucket, error.key, error.attempts) == ("scripted-bucket", "000", attempts)
        last = max(number for number, request in enumerate(server.requests, 1) if is_about_the_first(request))
        assert error.request_id == f"REQUEST-{last}"
        for field in (code, str(status), f"REQUEST-{last}", "scripted-bucket", "000", f"It is {code}."):
            assert field in str(error)


@with_each(READERS)
def test_an_error_without_a_body_is_reported_by_its_status(reader: Reader) -> None:
    def refuse(exchange: Exchange, _: Answer) -> None:
        exchange.reply(Answer(403))

    with ObjectServer(CONTENTS, refuse, where=every_request) as server:
        with pytest.raises(OssPermissionError) as caught:
            reader(connect(server), ["000"])
        assert (caught.value.status, caught.value.bucket) == (403, "scripted-bucket")
        assert caught.value.request_id == f"REQUEST-{server.count()}"


@pytest.mark.parametrize("body", [b"not XML", b"<html>\xff</html>", b"<Error>", b"x" * 1_000_000])
def test_an_unreadable_error_is_reported_by_its_status(body: bytes) -> None:
    def refuse(exchange: Exchange, _: Answer) -> None:
        exchange.reply(Answer(403, {}, body))

    with ObjectServer(CONTENTS, refuse) as server:
        with pytest.raises(OssPermissionError) as caught:
            get(connect(server), ["000"])
        assert (caught.value.status, caught.value.key) == (403, "000")
        assert len(str(caught.value)) < 1000


def test_an_error_whose_body_stalls_is_reported_by_its_status() -> None:
    def refuse(exchange: Exchange, _: Answer) -> None:
        exchange.reply(Answer(403, {}, b"<Error>"), length=1000)
        exchange.stall()

    with ObjectServer(CONTENTS, refuse) as server:
        with pytest.raises(OssPermissionError) as caught:
            get(connect(server, read_timeout=0.3), ["000"])
        assert (caught.value.status, caught.value.key) == (403, "000")


@pytest.mark.parametrize("status", [301, 302, 307, 308, 304])
@with_each(READERS)
def test_a_redirect_is_an_error_and_is_not_followed(reader: Reader, status: int) -> None:
    # Following it would send a signed request to any host that the answer names.
    def never(_: Exchange) -> None:
        raise AssertionError("the redirect was followed")

    with ScriptedServer(never) as elsewhere:

        def redirect(exchange: Exchange, _: Answer) -> None:
            exchange.reply(Answer(status, {"Location": f"{elsewhere.endpoint}{exchange.request.target}"}))

        with ObjectServer(CONTENTS, redirect, where=every_request) as server:
            with pytest.raises(OssError) as caught:
                reader(connect(server), ["000"])
            assert (caught.value.status, caught.value.attempts) == (status, 1)


@pytest.mark.parametrize("times", [1, 3])
@with_each(READERS)
def test_readers_survive_a_short_storm_of_503(reader: Reader, times: int) -> None:
    fault = Refusal(503, "SlowDown")
    with ObjectServer(CONTENTS, fault, where=is_about_the_first, times=times) as server:
        assert reader(connect(server, max_attempts=4), NAMES) == [CONTENTS[name] for name in NAMES]


def test_a_storm_over_everything_slows_down_and_loses_nothing() -> None:
    with ObjectServer(CONTENTS, Refusal(503, "SlowDown"), times=50) as server:
        connection = connect(server, max_attempts=10)
        for dataset in (
            OssIterableDataset.from_prefix(uri(""), **connection),
            OssMapDataset.from_prefix(uri(""), **connection),
        ):
            assert [item.read() for item in dataset] == [CONTENTS[name] for name in NAMES]


@with_each(READERS)
def test_a_storm_that_does_not_end_is_reported(reader: Reader) -> None:
    with ObjectServer(CONTENTS, Refusal(503, "SlowDown"), where=every_request) as server:
        with pytest.raises(OssThrottledError) as caught:
            reader(connect(server), ["000"])
        error = caught.value
        assert (error.code, error.status, error.attempts) == ("SlowDown", 503, 2)
        assert error.bucket == "scripted-bucket"
        assert error.key == (None if reader in LISTERS else "000")
        assert error.request_id
        assert "after 1 failed attempts" in str(error)


@pytest.mark.parametrize("header", [{"Retry-After": "3600"}, {"x-oss-qos-delay-time": "3600000"}])
def test_a_client_does_not_wait_longer_than_its_total_timeout(header: dict[str, str]) -> None:
    with ObjectServer(CONTENTS, Refusal(503, "SlowDown", header)) as server:
        start = time.monotonic()
        with pytest.raises(OssThrottledError, match=r"begin in 3600\.0 s, when total_timeout \(25\.0 s\) is over"):
            get(connect(server, max_attempts=5), ["000"])
        assert time.monotonic() - start < 5
        assert server.count() == 1


def test_a_client_waits_as_long_as_the_service_asks() -> None:
    with ObjectServer(CONTENTS, Refusal(503, "SlowDown", {"Retry-After": "1"}), times=1) as server:
        start = time.monotonic()
        assert get(connect(server), ["000"]) == [CONTENTS["000"]]
        assert time.monotonic() - start >= 1


NO_HTTP = {
    "greeting": b"220 mail.example.com ESMTP\r\n",
    "binary": bytes(range(256)),
    "empty lines": b"\r\n\r\n\r\n",
    "html": b"<html><body>Hello</body></html>\r\n\r\n",
    "http 2": b"HTTP/2 200 OK\r\nContent-Length: 0\r\n\r\n",
    "bad status": b"HTTP/1.1 abc OK\r\n\r\n",
    "bad length": b'HTTP/1.1 200 OK\r\nETag: "1"\r\nContent-Length: many\r\n\r\n',
    "two lengths": b'HTTP/1.1 200 OK\r\nETag: "1"\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab',
    "bad chunks": b'HTTP/1.1 200 OK\r\nETag: "1"\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n',
    "bad header": b"HTTP/1.1 200 OK\r\n: nothing\r\n\r\n",
    "endless head": b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 10_000,
}


@pytest.mark.parametrize("reply", NO_HTTP.values(), ids=NO_HTTP)
@with_each(READERS)
def test_a_reply_that_is_not_http_is_an_error(reader: Reader, reply: bytes) -> None:
    def answer(exchange: Exchange, _: Answer) -> None:
        exchange.send(reply)
        exchange.hang_up()

    with ObjectServer(CONTENTS, answer, where=every_request) as server:
        with pytest.raises(OssError) as caught:
            reader(connect(server), ["000"])
        error = caught.value
        assert error.bucket == "scripted-bucket"
        assert error.key == (None if reader in LISTERS else "000")
        assert error.status is None
        assert len(str(error)) < 1000


@pytest.mark.parametrize("length", [1 << 40, 1 << 60, (1 << 63) - 1, (1 << 64) - 1, 1 << 70])
@with_each(READERS)
def test_a_stated_length_beyond_memory_is_an_error(reader: Reader, length: int) -> None:
    def answer(exchange: Exchange, _: Answer) -> None:
        exchange.send(b'HTTP/1.1 200 OK\r\nETag: "1"\r\nContent-Length: %d\r\n\r\nabc' % length)
        exchange.hang_up()

    with (
        ObjectServer(CONTENTS, answer, where=every_request) as server,
        pytest.raises(OssError, match=r"scripted-bucket|there is no memory for"),
    ):
        reader(connect(server), ["000"])


def test_xml_that_nests_without_end_is_an_error() -> None:
    def answer(exchange: Exchange, _: Answer) -> None:
        body = b"<ListBucketResult>" + b"<a>" * 200_000 + b"</a>" * 200_000 + b"</ListBucketResult>"
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    with ObjectServer(CONTENTS, answer, where=every_request) as server, pytest.raises(OssError, match="nest deeper"):
        list(OssClient(**connect(server)).list(uri("")))


def test_a_connection_closed_while_idle_costs_no_attempt() -> None:
    def closing(exchange: Exchange, answer: Answer) -> None:
        exchange.reply(answer)
        exchange.hang_up()

    with ObjectServer(CONTENTS, closing) as server:
        client = OssClient(**connect(server, max_attempts=1))
        for name in NAMES[:20]:
            assert client.get(uri(name)) == CONTENTS[name]


def test_a_head_that_trickles_is_bounded_by_the_total_timeout() -> None:
    def trickle(exchange: Exchange, _: Answer) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\na: ")
        while not exchange.server.stopped.wait(0.05):
            exchange.send(b"b")

    with ObjectServer(CONTENTS, trickle) as server:
        start = time.monotonic()
        with pytest.raises(OssTimeoutError):
            get(connect(server, total_timeout=1), ["000"])
        assert time.monotonic() - start < 5


def test_a_server_that_goes_away_is_reported_and_one_that_comes_back_is_used() -> None:
    with ObjectServer(CONTENTS) as server:
        client = OssClient(**connect(server, max_attempts=1))
        assert client.get(uri("000")) == CONTENTS["000"]
        port = int(server.endpoint.rpartition(":")[2])
    with pytest.raises(OssConnectionError):
        client.get(uri("000"))
    with ObjectServer(CONTENTS, port=port):
        assert client.get(uri("000")) == CONTENTS["000"]
