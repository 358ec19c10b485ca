"""Malformed listings."""

from typing import Any

import pytest

from osstorchconnector import OssClient, OssError, OssMapDataset, OssTimeoutError
from osstorchconnector.connection.unfinished_uploads import find_unfinished
from tests.faults.objects import ObjectServer, as_it_should_be, uri, xml_answer
from tests.faults.readers import LISTERS, Connect, Reader, connect, with_each
from tests.faults.server import Answer, Exchange, Request, ScriptedServer

CONTENTS = {f"{number:02}": f"content {number}".encode() for number in range(10)}

NO_LISTINGS = {
    "nothing": b"",
    "text": b"this is no XML",
    "html": b"<html><body>Log in to the network first</body></html>",
    "json": b'{"ListBucketResult": []}',
    "another document": b"<Error><Code>NoSuchBucket</Code></Error>",
    "no utf-8": b"<ListBucketResult><Name>\xff\xfe</Name></ListBucketResult>",
    "half": b"<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>a</K",
    "crossed": b"<ListBucketResult><IsTruncated>false</Contents></ListBucketResult>",
    "no size": (
        b"<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>a</Key></Contents></ListBucketResult>"
    ),
    "negative size": (
        b"<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>a</Key><Size>-1</Size>"
        b"<LastModified>2025-01-01T00:00:00.000Z</LastModified></Contents></ListBucketResult>"
    ),
    "without an end": b"<ListBucketResult><Name>a</Name></ListBucketResult>",
    "no way on": b"<ListBucketResult><IsTruncated>true</IsTruncated><KeyCount>0</KeyCount></ListBucketResult>",
    "entities": (
        b'<!DOCTYPE a [<!ENTITY e "eeeeeeeeee"><!ENTITY f "&e;&e;&e;&e;">]>'
        b"<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>&f;&f;&f;</Key><Size>1</Size>"
        b"<LastModified>2025-01-01T00:00:00.000Z</LastModified></Contents></ListBucketResult>"
    ),
    "deep": b"<ListBucketResult>" + b"<a>" * 200_000,
}


def list_all(connection: Connect, _: list[str]) -> list[bytes]:
    return [item.read() for item in OssClient(**connection).list(uri(""))]


def length(connection: Connect, _: list[str]) -> list[bytes]:
    return [b""] * len(OssMapDataset.from_prefix(uri(""), **connection))


@pytest.mark.parametrize("body", NO_LISTINGS.values(), ids=NO_LISTINGS)
@with_each([*LISTERS, list_all, length])
def test_a_malformed_listing_is_an_error(reader: Reader, body: bytes) -> None:
    def wrong(exchange: Exchange, answer: Answer) -> None:
        answer.body = body
        exchange.reply(answer)

    with ObjectServer(CONTENTS, wrong, where=Request.is_listing) as server:
        with pytest.raises(OssError) as caught:
            reader(connect(server), ["00"])
        error = caught.value
        assert (error.bucket, error.attempts) == ("scripted-bucket", 1)
        assert len(str(error)) < 1000
        assert server.count() == 1


@with_each([*LISTERS, list_all, length])
def test_the_error_of_a_later_attempt_counts_those_before_it(reader: Reader) -> None:
    def wrong(exchange: Exchange, answer: Answer) -> None:
        if exchange.number == 1:
            exchange.hang_up()
        else:
            answer.body = b"this is no XML"
            exchange.reply(answer)

    with ObjectServer(CONTENTS, wrong, where=Request.is_listing) as server:
        with pytest.raises(OssError, match="XML") as caught:
            reader(connect(server), [])
        assert (caught.value.attempts, server.count()) == (2, 2)


@with_each([*LISTERS, list_all])
def test_what_was_listed_before_a_bad_page_is_delivered(reader: Reader) -> None:
    def wrong_later(exchange: Exchange, answer: Answer) -> None:
        if "continuation-token" in exchange.request.query:
            answer.body = b"this is no XML"
        exchange.reply(answer)

    with ObjectServer(CONTENTS, wrong_later, where=Request.is_listing, page=4) as server:
        connection = connect(server)
        with pytest.raises(OssError, match="XML"):
            reader(connection, [])
        found = OssClient(**connection).list(uri(""))
        assert [next(found).name for _ in range(4)] == sorted(CONTENTS)[:4]
        with pytest.raises(OssError, match="XML"):
            next(found)
        # As promised, it ends after the error.
        assert list(found) == []


@with_each([*LISTERS, list_all])
def test_a_listing_that_goes_in_circles_is_an_error(reader: Reader) -> None:
    def again(exchange: Exchange, _: Answer) -> None:
        exchange.reply(
            xml_answer(
                "<ListBucketResult><IsTruncated>true</IsTruncated>"
                "<NextContinuationToken>0</NextContinuationToken><KeyCount>0</KeyCount></ListBucketResult>"
            )
        )

    with ObjectServer(CONTENTS, again, where=Request.is_listing) as server:
        with pytest.raises(OssError, match="truncated"):
            reader(connect(server), ["00"])
        assert server.count() == 2


def contents(name: str) -> str:
    return (
        f"<Contents><Key>{name}</Key><Size>1</Size><ETag>&quot;1&quot;</ETag>"
        "<LastModified>2025-01-01T00:00:00.000Z</LastModified></Contents>"
    )


def endless(exchange: Exchange, body: str, token: object) -> None:
    exchange.reply(
        xml_answer(
            "<ListBucketResult><IsTruncated>true</IsTruncated>"
            f"<NextContinuationToken>{token}</NextContinuationToken>{body}</ListBucketResult>"
        )
    )


def descending(exchange: Exchange) -> None:
    page = exchange.server.count(Request.is_listing)
    endless(exchange, contents(f"{max(9 - page, 0):02}"), exchange.number)


def alternating(exchange: Exchange) -> None:
    token = exchange.request.query.get("continuation-token", "2")
    endless(exchange, contents("01"), {"1": "2", "2": "1"}[token])


DISORDER = {
    "alternating tokens": alternating,
    "the same key": lambda exchange: endless(exchange, contents("01"), exchange.number),
    "descending keys": lambda exchange: endless(exchange, contents("02") + contents("01"), exchange.number),
    "a key twice": lambda exchange: endless(exchange, contents("01") + contents("01"), exchange.number),
    "descending pages": descending,
}


@pytest.mark.parametrize("fast_list", [False, True])
@pytest.mark.parametrize("answer", DISORDER.values(), ids=DISORDER)
@with_each([*LISTERS, list_all, length])
def test_a_listing_out_of_order_is_an_error(reader: Reader, answer: Any, *, fast_list: bool) -> None:
    with ObjectServer(CONTENTS, lambda exchange, _: answer(exchange), where=Request.is_listing) as server:
        with pytest.raises(OssError, match="not in order") as caught:
            reader(connect(server, fast_list=fast_list), [])
        assert caught.value.bucket == "scripted-bucket"
        assert server.count(Request.is_listing) <= 4


@pytest.mark.parametrize("fast_list", [False, True])
@with_each([*LISTERS, list_all, length])
def test_empty_pages_without_end_are_an_error(reader: Reader, *, fast_list: bool) -> None:
    def empty(exchange: Exchange) -> None:
        endless(exchange, "", exchange.number)

    with ScriptedServer(empty) as server:
        with pytest.raises(OssError, match="does not advance: 1000 pages without a key"):
            reader(connect(server, fast_list=fast_list), [])
        assert server.count() == 1000


@pytest.mark.parametrize("fast_list", [False, True])
@with_each([*LISTERS, list_all, length])
def test_slow_empty_pages_are_bounded_by_the_total_timeout(reader: Reader, *, fast_list: bool) -> None:
    def slow(exchange: Exchange) -> None:
        exchange.server.stopped.wait(0.3)
        endless(exchange, "", exchange.number)

    with ScriptedServer(slow) as server:
        with pytest.raises(OssTimeoutError, match=r"does not advance: .* in 1\.0 s; see total_timeout"):
            reader(connect(server, fast_list=fast_list, total_timeout=1), [])
        assert server.count() <= 5


@with_each([*LISTERS, list_all])
def test_some_empty_pages_do_not_matter(reader: Reader) -> None:
    # Each of these tokens stands for the first key.
    tokens = {"": "00", "00": "000", "000": "0"}

    def empty_first(exchange: Exchange, answer: Answer) -> None:
        token = exchange.request.query.get("continuation-token", "")
        if token in tokens:
            endless(exchange, "", tokens[token])
        else:
            exchange.reply(answer)

    names = sorted(CONTENTS)
    with ObjectServer(CONTENTS, empty_first, where=Request.is_listing) as server:
        assert reader(connect(server), names) == [CONTENTS[name] for name in names]


def test_listings_of_buckets_and_uploads_advance() -> None:
    def buckets(exchange: Exchange) -> None:
        exchange.reply(
            xml_answer(
                "<ListAllMyBucketsResult><IsTruncated>true</IsTruncated><NextMarker>b</NextMarker><Buckets>"
                "</Buckets></ListAllMyBucketsResult>"
            )
        )

    def uploads(exchange: Exchange) -> None:
        upload_id = "BA"[exchange.number % 2]
        exchange.reply(
            xml_answer(
                "<ListMultipartUploadsResult><IsTruncated>true</IsTruncated><NextKeyMarker>a</NextKeyMarker>"
                f"<NextUploadIdMarker>{upload_id}</NextUploadIdMarker></ListMultipartUploadsResult>"
            )
        )

    with ScriptedServer(buckets) as server, pytest.raises(OssError, match="no readable NextMarker"):
        OssClient(**connect(server)).list_buckets()
    with ScriptedServer(uploads) as server, pytest.raises(OssError, match="no readable NextKeyMarker"):
        list(find_unfinished(OssClient(**connect(server)), uri("")))


@with_each([*LISTERS, list_all, length])
def test_a_page_that_never_ends_is_an_error(reader: Reader) -> None:
    def endless(exchange: Exchange, answer: Answer) -> None:
        exchange.reply(answer, length=1 << 40)
        while not exchange.server.stopped.is_set():
            exchange.send(b"<!-- nothing, again and again -->" * 1000)

    with (
        ObjectServer(CONTENTS, endless, where=Request.is_listing) as server,
        pytest.raises(OssError, match="longer than"),
    ):
        reader(connect(server), ["00"])


@pytest.mark.parametrize("cut", [0, 1, 100])
@with_each(LISTERS)
def test_a_page_that_breaks_off_is_requested_again(reader: Reader, cut: int) -> None:
    def broken_off(exchange: Exchange, answer: Answer) -> None:
        exchange.reply(answer, upto=cut)
        exchange.hang_up()

    for fault, page in ((broken_off, 3), (as_it_should_be, 10)):
        with ObjectServer(CONTENTS, fault, where=Request.is_listing, times=1, page=page) as server:
            names = sorted(CONTENTS)
            assert reader(connect(server), names) == [CONTENTS[name] for name in names]


@with_each([*LISTERS, list_all])
def test_wrong_sizes_in_a_listing_do_not_matter(reader: Reader) -> None:
    def wrong(exchange: Exchange, answer: Answer) -> None:
        sizes: Any = iter(["0", "1", "100000", str(1 << 40), str((1 << 64) - 1)] * 2)
        pieces = answer.body.split(b"<Size>")
        answer.body = pieces[0] + b"".join(
            b"<Size>" + next(sizes).encode() + piece[piece.index(b"<") :] for piece in pieces[1:]
        )
        exchange.reply(answer)

    names = sorted(CONTENTS)
    with ObjectServer(CONTENTS, wrong, where=Request.is_listing) as server:
        assert reader(connect(server), names) == [CONTENTS[name] for name in names]
