"""Bodies that break off, stall, or are not the bytes of the object."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from osstorchconnector import (
    OssClient,
    OssConnectionError,
    OssError,
    OssIntegrityError,
    OssIterableDataset,
    OssMapDataset,
    OssTimeoutError,
)
from tests.faults.objects import ObjectServer, etag_of, uri
from tests.faults.readers import READERS, Reader, connect, get, open_and_read, with_each
from tests.faults.server import PATIENCE, Answer, Exchange, Request

# Longer than one receive, so that a resumed request keeps some bytes.
CONTENT = bytes(range(251)) * 2400
SMALL = b"the right content"
CONTENTS = {"a": SMALL, "b": CONTENT, "c": SMALL}
NAMES = sorted(CONTENTS)
#: The readers that fetch whole objects, and so can compare their checksum.
WHOLE = [reader for reader in READERS if reader is not open_and_read]


def is_get_of_b(request: Request) -> bool:
    return request.is_object_get() and request.key == "b"


def broken_off(exchange: Exchange, answer: Answer) -> None:
    exchange.reply(answer, upto=len(answer.body) - 1000)
    exchange.hang_up()


def broken_off_at_once(exchange: Exchange, answer: Answer) -> None:
    exchange.reply(answer, upto=10)
    exchange.hang_up()


def cut_before_the_head_ends(exchange: Exchange, _: Answer) -> None:
    exchange.send(b"HTTP/1.1 200 OK\r\nContent-Le")
    exchange.hang_up()


def stalled(exchange: Exchange, answer: Answer) -> None:
    exchange.reply(answer, upto=10)
    exchange.stall()


def corrupted(exchange: Exchange, answer: Answer) -> None:
    answer.body = answer.body[:5] + bytes([answer.body[5] ^ 1]) + answer.body[6:]
    exchange.reply(answer)


def with_another_checksum(exchange: Exchange, answer: Answer) -> None:
    answer.headers["x-oss-hash-crc64ecma"] = str(int(answer.headers["x-oss-hash-crc64ecma"]) ^ 1)
    exchange.reply(answer)


def shortened(exchange: Exchange, answer: Answer) -> None:
    answer.body = answer.body[:-1]
    exchange.reply(answer)


def lengthened(exchange: Exchange, answer: Answer) -> None:
    answer.body += b"!"
    exchange.reply(answer)


def followed_by_a_forged_answer(exchange: Exchange, answer: Answer) -> None:
    length = len(answer.body)
    answer.body += b'HTTP/1.1 200 OK\r\nContent-Length: 6\r\nETag: "1"\r\n\r\nforged'
    exchange.reply(answer, length=length)


@pytest.mark.parametrize("fault", [broken_off, broken_off_at_once, cut_before_the_head_ends])
@with_each(READERS)
def test_a_body_that_breaks_off_once_is_resumed(reader: Reader, fault: Any) -> None:
    with ObjectServer(CONTENTS, fault, where=is_get_of_b, times=1) as server:
        assert reader(connect(server), NAMES) == [CONTENTS[name] for name in NAMES]
        requests = [request for request in server.requests if is_get_of_b(request)]
        assert len(requests) == 2
        if fault is broken_off:
            assert requests[1].range is not None
            assert 0 < requests[1].range[0] <= len(CONTENT) - 1000
            assert requests[1].headers["if-match"] == etag_of(CONTENT)
            assert requests[0].headers["authorization"]


@pytest.mark.parametrize("fault", [broken_off_at_once, cut_before_the_head_ends])
@with_each(READERS)
def test_a_body_that_always_breaks_off_is_reported(reader: Reader, fault: Any) -> None:
    with ObjectServer(CONTENTS, fault) as server:
        with pytest.raises(OssConnectionError) as caught:
            reader(connect(server), ["b"])
        error = caught.value
        assert error.bucket == "scripted-bucket"
        assert error.key in NAMES
        assert error.attempts == 2
        assert "broke" in str(error) or "ended after" in str(error)


def test_a_large_body_that_keeps_moving_is_read_however_often_it_breaks() -> None:
    content = bytes(range(256)) * (6 << 12)

    def broken_off_after_progress(exchange: Exchange, answer: Answer) -> None:
        exchange.reply(answer, upto=(1 << 20) + 300_000)
        if len(answer.body) > (1 << 20) + 300_000:
            exchange.hang_up()

    with ObjectServer({"large": content}, broken_off_after_progress) as server:
        assert get(connect(server), ["large"]) == [content]
        # More breaks than attempts, but each break comes after progress.
        assert server.count() == 5


@with_each(READERS)
def test_a_stalled_body_is_resumed(reader: Reader) -> None:
    with ObjectServer(CONTENTS, stalled, where=is_get_of_b, times=1) as server:
        assert reader(connect(server, read_timeout=0.5), NAMES) == [CONTENTS[name] for name in NAMES]


@with_each(READERS)
def test_a_body_that_always_stalls_times_out(reader: Reader) -> None:
    with ObjectServer(CONTENTS, stalled) as server:
        start = time.monotonic()
        with pytest.raises(OssTimeoutError) as caught:
            reader(connect(server, read_timeout=0.3), ["b"])
        # Two attempts of 0.3 s and a pause of at most 0.4 s, on a machine that may be busy.
        assert 0.6 <= time.monotonic() - start < 5
        assert caught.value.bucket == "scripted-bucket"
        assert caught.value.key in NAMES
        assert "0.3 s" in str(caught.value)


def test_a_trickling_body_is_bounded_by_the_total_timeout() -> None:
    def trickle(exchange: Exchange, answer: Answer) -> None:
        exchange.reply(answer, upto=0)
        for byte in answer.body:
            exchange.send(bytes([byte]))
            if exchange.server.stopped.wait(0.05):
                return

    with ObjectServer({"a": bytes(10_000)}, trickle) as server:
        start = time.monotonic()
        with pytest.raises(OssTimeoutError, match=r"not complete when total_timeout \(1\.0 s\) was over"):
            get(connect(server, total_timeout=1, read_timeout=1), ["a"])
        assert time.monotonic() - start < 5


@pytest.mark.parametrize(
    ("total_timeout", "message"),
    [(0.5, r"had not answered when total_timeout \(0\.5 s\) was over"), (20, r"no answer from .* for 1\.0 s")],
)
def test_the_timeout_that_ended_a_request_is_named(total_timeout: float, message: str) -> None:
    with (
        ObjectServer({"a": SMALL}, lambda exchange, _: exchange.stall()) as server,
        pytest.raises(OssTimeoutError, match=message),
    ):
        get(connect(server, total_timeout=total_timeout, read_timeout=1, max_attempts=1), ["a"])


@pytest.mark.parametrize("fault", [corrupted, with_another_checksum, shortened, lengthened])
@with_each(WHOLE)
def test_bytes_with_a_wrong_checksum_are_fetched_again(reader: Reader, fault: Any) -> None:
    with ObjectServer(CONTENTS, fault, where=is_get_of_b, times=1) as server:
        assert reader(connect(server), NAMES) == [CONTENTS[name] for name in NAMES]
        assert server.count(is_get_of_b) == 2


@pytest.mark.parametrize("fault", [corrupted, with_another_checksum, shortened, lengthened])
@with_each(WHOLE)
def test_bytes_that_always_have_a_wrong_checksum_are_an_error(reader: Reader, fault: Any) -> None:
    with ObjectServer(CONTENTS, fault) as server:
        with pytest.raises(OssIntegrityError, match="CRC-64") as caught:
            reader(connect(server), ["b"])
        error = caught.value
        assert (error.bucket, error.attempts) == ("scripted-bucket", 2)
        assert error.key in NAMES


@pytest.mark.parametrize("fault", [shortened, lengthened])
def test_a_range_of_another_length_is_an_error(fault: Any) -> None:
    with ObjectServer(CONTENTS, fault) as server:
        with pytest.raises(OssError) as caught:
            open_and_read(connect(server), ["b"])
        assert (caught.value.bucket, caught.value.key) == ("scripted-bucket", "b")


@with_each(READERS)
def test_bytes_after_a_body_are_not_the_next_answer(reader: Reader) -> None:
    with ObjectServer(CONTENTS, followed_by_a_forged_answer) as server:
        assert reader(connect(server, io_threads=1, max_concurrency=1), NAMES) == [CONTENTS[name] for name in NAMES]


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda answer: answer.headers.pop("Content-Range"), id="no range"),
        pytest.param(lambda answer: answer.headers.update({"Content-Range": "bytes 0-5/6"}), id="another range"),
        pytest.param(lambda answer: answer.headers.update({"Content-Range": "nonsense"}), id="nonsense"),
        pytest.param(lambda answer: setattr(answer, "status", 200), id="status 200"),
    ],
)
def test_an_answer_to_another_range_is_an_error(spoil: Any) -> None:
    def another(exchange: Exchange, answer: Answer) -> None:
        spoil(answer)
        exchange.reply(answer)

    with ObjectServer(CONTENTS, another) as server:
        client = OssClient(**connect(server))
        with pytest.raises(OssError) as caught:
            client.get(uri("b"), 10, 20)
        assert (caught.value.bucket, caught.value.key) == ("scripted-bucket", "b")


UNREADABLE = {
    "a word": ["abc"],
    "nothing": [""],
    "a sign": ["+1"],
    "a minus": ["-1"],
    "hexadecimal": ["0x1F"],
    "too large": ["9" * 25],
    "a list": ["1, 1"],
    "no text": ["\xff"],
    "two": ["1", "2"],
}


@pytest.mark.parametrize("values", UNREADABLE.values(), ids=UNREADABLE)
@with_each(READERS)
def test_a_checksum_that_cannot_be_read_is_an_error(reader: Reader, values: list[str]) -> None:
    def unreadable(exchange: Exchange, answer: Answer) -> None:
        answer.headers["x-oss-hash-crc64ecma"] = "\r\nx-oss-hash-crc64ecma: ".join(values)
        exchange.reply(answer)

    with ObjectServer(CONTENTS, unreadable, where=lambda request: request.key == "b") as server:
        with pytest.raises(OssIntegrityError, match="x-oss-hash-crc64ecma is not one decimal number") as caught:
            reader(connect(server), ["b"])
        assert (caught.value.bucket, caught.value.key) == ("scripted-bucket", "b")


def write_in_parts(client: OssClient) -> None:
    with client.writer(uri("new")) as writer:
        writer.write(CONTENT)


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(lambda client: client.put(uri("new"), SMALL), id="put"),
        pytest.param(write_in_parts, id="writer"),
        pytest.param(lambda client: client.copy(uri("b"), uri("new"), size=1 << 30), id="copy"),
    ],
)
def test_a_checksum_of_a_write_that_cannot_be_read_is_an_error(write: Callable[[OssClient], object]) -> None:
    def unreadable(exchange: Exchange, answer: Answer) -> None:
        answer.headers["x-oss-hash-crc64ecma"] = "abc"
        exchange.reply(answer)

    with ObjectServer(CONTENTS, unreadable, where=lambda request: request.method != "GET") as server:
        client = OssClient(**connect(server, part_size=100 << 10))
        with pytest.raises(OssIntegrityError, match="is not one decimal number"):
            write(client)


@pytest.mark.parametrize("with_checksum", [False, True])
@pytest.mark.parametrize(("start", "end"), [(0, 10), (7, 17), (0, len(SMALL))])
@with_each(WHOLE)
def test_a_part_that_nobody_asked_for_is_an_error(reader: Reader, start: int, end: int, *, with_checksum: bool) -> None:
    def part(exchange: Exchange, answer: Answer) -> None:
        answer.status, answer.body = 206, answer.body[start:end]
        answer.headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(SMALL)}"
        if not with_checksum:
            del answer.headers["x-oss-hash-crc64ecma"]
        exchange.reply(answer)

    with ObjectServer(CONTENTS, part) as server:
        with pytest.raises(OssError, match="answered with a part") as caught:
            reader(connect(server), ["a"])
        assert (caught.value.bucket, caught.value.attempts) == ("scripted-bucket", 1)


@with_each(READERS)
def test_a_resumed_range_without_an_etag_is_an_error(reader: Reader) -> None:
    def broken_then_anonymous(exchange: Exchange, answer: Answer) -> None:
        if exchange.request.range is None:
            broken_off(exchange, answer)
        else:
            del answer.headers["ETag"]
            exchange.reply(answer)

    with ObjectServer(CONTENTS, broken_then_anonymous, where=is_get_of_b) as server:
        with pytest.raises(OssError, match="no readable ETag") as caught:
            reader(connect(server), ["b"])
        assert (caught.value.bucket, caught.value.key) == ("scripted-bucket", "b")


def is_about_an_object(request: Request) -> bool:
    return request.key != "" and not request.is_listing()


def without_length(exchange: Exchange, answer: Answer, headers: dict[str, str], body: bytes) -> None:
    lines = [f"HTTP/1.1 {answer.status} Scripted", *(f"{name}: {value}" for name, value in headers.items())]
    exchange.send("\r\n".join([*lines, "", ""]).encode() + (b"" if exchange.request.method == "HEAD" else body))


def chunked(exchange: Exchange, answer: Answer, *, end: bytes = b"0\r\n\r\n") -> None:
    pieces = [answer.body[at : at + 100_000] for at in range(0, len(answer.body), 100_000)]
    body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    without_length(exchange, answer, {**answer.headers, "Transfer-Encoding": "chunked"}, body + end)


def chunked_without_checksum(exchange: Exchange, answer: Answer) -> None:
    answer.headers.pop("x-oss-hash-crc64ecma", None)
    chunked(exchange, answer)


def ended_by_the_connection(exchange: Exchange, answer: Answer) -> None:
    without_length(exchange, answer, {**answer.headers, "Connection": "close"}, answer.body)
    exchange.hang_up()


@pytest.mark.parametrize("fault", [chunked, chunked_without_checksum, ended_by_the_connection])
@with_each(READERS)
def test_a_body_without_its_length_is_accepted(reader: Reader, fault: Any) -> None:
    contents = {**CONTENTS, "empty": b"", "exact": bytes(256 << 10)}
    with ObjectServer(contents, fault, where=is_about_an_object) as server:
        assert reader(connect(server), sorted(contents)) == [contents[name] for name in sorted(contents)]


def cut_chunks(exchange: Exchange, answer: Answer) -> None:
    chunked(exchange, answer, end=b"")
    exchange.hang_up()


def cut_by_the_connection(exchange: Exchange, answer: Answer) -> None:
    answer.body = answer.body[:-1000]
    ended_by_the_connection(exchange, answer)


def flipped_chunks(exchange: Exchange, answer: Answer) -> None:
    answer.body = answer.body[:5] + bytes([answer.body[5] ^ 1]) + answer.body[6:]
    chunked(exchange, answer)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (cut_chunks, OssConnectionError),
        (cut_by_the_connection, OssIntegrityError),
        (flipped_chunks, OssIntegrityError),
    ],
)
@with_each(WHOLE)
def test_a_body_without_its_length_is_verified(reader: Reader, fault: Any, kind: type[OssError]) -> None:
    with ObjectServer(CONTENTS, fault, where=is_get_of_b, times=1) as server:
        assert reader(connect(server), NAMES) == [CONTENTS[name] for name in NAMES]
    with ObjectServer(CONTENTS, fault, where=is_get_of_b) as server:
        with pytest.raises(kind) as caught:
            reader(connect(server), ["b"])
        assert (caught.value.key, caught.value.attempts) == ("b", 2)


def test_a_body_without_its_length_is_read_in_pieces_if_it_is_larger_than_the_budget() -> None:
    content = bytes(range(256)) * (48 << 10)
    with ObjectServer({"large": content}, chunked, where=is_about_an_object) as server:
        connection = connect(server, prefetch_bytes=4 << 20)
        for dataset in (
            OssIterableDataset.from_objects([uri("large")], **connection),
            OssMapDataset.from_objects([uri("large")], **connection),
        ):
            assert [item.read() for item in dataset] == [content]
        with pytest.raises(OssError, match="no Content-Length, and more than 4194304 bytes; open the object"):
            get(connection, ["large"])
        assert open_and_read(connection, ["large"]) == [content]


@pytest.mark.parametrize("missing", ["ETag", "Content-Length"])
@with_each(WHOLE)
def test_an_answer_without_a_required_header_is_an_error(reader: Reader, missing: str) -> None:
    def incomplete(exchange: Exchange, answer: Answer) -> None:
        headers = {"ETag": '"1"', "Content-Length": str(len(answer.body))}
        del headers[missing]
        lines = ["HTTP/1.1 200 OK", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        exchange.send("\r\n".join(lines).encode() + answer.body)
        exchange.hang_up()

    with ObjectServer(CONTENTS, incomplete) as server:
        with pytest.raises(OssError, match=f"no readable {missing}") as caught:
            reader(connect(server), ["a"])
        assert (caught.value.bucket, caught.value.attempts) == ("scripted-bucket", 1)


def test_an_object_replaced_while_it_is_read_is_never_mixed() -> None:
    old, new = b"o" * 3_000_000, b"n" * 3_000_000
    with ObjectServer({"a": old}) as server:
        item = OssClient(**connect(server)).open(uri("a"))
        assert item.read(10) == b"o" * 10
        server.contents["a"] = new
        with pytest.raises(OssIntegrityError, match="replaced") as caught:
            item.read()
        assert caught.value.key == "a"


@with_each(WHOLE)
def test_an_object_replaced_while_it_breaks_off_is_read_again(reader: Reader) -> None:
    def replaced(exchange: Exchange, answer: Answer) -> None:
        exchange.reply(answer, upto=len(answer.body) - 1000)
        server.contents["b"] = CONTENT[::-1]
        exchange.hang_up()

    with ObjectServer(CONTENTS, replaced, where=is_get_of_b, times=1) as server:
        assert reader(connect(server, max_attempts=4), ["b"]) == [CONTENT[::-1]]


def test_one_bad_object_does_not_stop_the_others() -> None:
    contents = {f"{number:03}": f"content {number}".encode() * 50 for number in range(200)}
    bad = {"003", "100", "199"}
    with ObjectServer(contents, broken_off_at_once, where=lambda request: request.key in bad) as server:
        connection = connect(server, max_attempts=1)
        for dataset in (
            OssIterableDataset.from_prefix(uri(""), **connection),
            OssMapDataset.from_objects([uri(name) for name in contents], **connection),
        ):
            iterator = iter(dataset)
            for name, content in contents.items():
                if name in bad:
                    with pytest.raises(OssConnectionError) as caught:
                        next(iterator)
                    assert caught.value.key == name
                else:
                    assert next(iterator).read() == content
            assert next(iterator, None) is None


@pytest.mark.parametrize("length", [1 << 50, (1 << 63) - 1, (1 << 63) + 5, (1 << 64) - 10])
@pytest.mark.parametrize("call", ["get(uri)", "get(uri, 0, None)", "open(uri).read()"])
def test_a_length_that_no_memory_holds_is_an_error(length: int, call: str) -> None:
    def enormous(exchange: Exchange, answer: Answer) -> None:
        exchange.reply(answer, length=length)
        exchange.stall()

    # In a process of its own, because a bug here ends the process.
    program = (
        "import sys\n"
        "from osstorchconnector import OssClient, OssConfig\n"
        "config = OssConfig(anonymous=True, read_timeout=2, total_timeout=5, max_attempts=1)\n"
        "client, uri = OssClient(sys.argv[1], config=config), 'oss://scripted-bucket/a'\n"
        "try:\n"
        f"    client.{call}\n"
        "except Exception as error:\n"
        "    sys.stdout.write(type(error).__name__)\n"
    )
    with ObjectServer({"a": SMALL}, enormous, where=lambda _: True) as server:
        ran = subprocess.run(
            [sys.executable, "-c", program, server.endpoint], capture_output=True, text=True, timeout=25, check=False
        )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout in {"OssError", "MemoryError", "OverflowError", "OssTimeoutError", "OssIntegrityError"}


def test_a_body_longer_than_its_range_is_not_drained_forever() -> None:
    def endless(exchange: Exchange, answer: Answer) -> None:
        exchange.reply(answer, length=1 << 50)
        while not exchange.server.stopped.is_set():
            exchange.send(bytes(1 << 20))

    with ObjectServer(CONTENTS, endless) as server:
        client = OssClient(**connect(server))
        start = time.monotonic()
        # The client may accept or refuse the bytes, but it must come to an end.
        try:
            assert client.get(uri("b"), 10, 20) == CONTENT[10:20]
        except OssError as error:
            assert error.key == "b"  # noqa: PT017 - it may also succeed
        assert time.monotonic() - start < 5


def test_a_mismatch_that_no_read_could_report_is_raised_by_close() -> None:
    # The first read fetches both ends. The middle is fetched in one request before the second read.
    edge, content = 128 << 10, bytes(range(256)) * 1824
    released, again = threading.Event(), threading.Event()
    carrier = 0

    def held_and_corrupted(exchange: Exchange, answer: Answer) -> None:
        nonlocal carrier
        request = exchange.request
        if request.is_object_get() and request.range == (edge, len(content) - edge):
            released.wait(PATIENCE)
            carrier = threading.get_ident()
            corrupted(exchange, answer)
            return
        if threading.get_ident() != carrier:
            # Only the connection of the middle may be used again.
            answer.headers["Connection"] = "close"
        else:
            again.set()
        exchange.reply(answer)

    with ObjectServer({"a": content}, held_and_corrupted, where=lambda _: True) as server:
        client = OssClient(**connect(server, io_threads=1))
        reader = client.reader(uri("a"))
        assert reader.read(edge - 1000) + reader.read(1000) == content[:edge]
        released.set()
        # A request over this connection comes after the middle, because the same I/O thread receives both.
        while not again.is_set():
            client.head(uri("a"))
        with pytest.raises(OssIntegrityError, match="CRC-64") as caught:
            reader.close()
        assert caught.value.key == "a"
        assert reader.closed
        reader.close()
