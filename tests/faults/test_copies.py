"""Copies in parts that fail: the error is raised, nothing is published, and the upload is aborted."""

from typing import Any

import pytest

from osstorchconnector import (
    OssClient,
    OssConnectionError,
    OssError,
    OssIntegrityError,
    OssNotFoundError,
    OssPermissionError,
    OssThrottledError,
    OssTimeoutError,
    WriteOptions,
)
from osstorchconnector.connection import client as client_module
from tests.border.running import Program
from tests.faults.objects import Held, ObjectServer, Refusal, uri
from tests.faults.readers import connect
from tests.faults.server import Answer, Exchange, Request

CONTENT = bytes(range(256)) * 1700
BEFORE = {"source": CONTENT, "copy": b"previous"}
DENIED = Refusal(403, "AccessDenied")


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "_LARGEST_COPY", 100 * 1024)


def is_part(request: Request) -> bool:
    return "partNumber" in request.query


def is_third_part(request: Request) -> bool:
    return request.query.get("partNumber") == "3"


def is_completion(request: Request) -> bool:
    return request.method == "POST" and "uploadId" in request.query


def is_initiation(request: Request) -> bool:
    return request.method == "POST" and "uploads" in request.query


def is_abort(request: Request) -> bool:
    return request.method == "DELETE"


def hung_up(exchange: Exchange, _: Answer) -> None:
    exchange.hang_up()


def stalled(exchange: Exchange, _: Answer) -> None:
    exchange.stall()


def with_another_checksum(exchange: Exchange, answer: Answer) -> None:
    answer.headers["x-oss-hash-crc64ecma"] = "1"
    exchange.reply(answer)


def without_checksum(exchange: Exchange, answer: Answer) -> None:
    answer.headers.pop("x-oss-hash-crc64ecma", None)
    exchange.reply(answer)


def copy(server: ObjectServer, **given: Any) -> None:
    client = OssClient(**connect(server, **{"upload_concurrency": 2, "read_timeout": 0.5, **given}))
    client.copy(uri("source"), uri("copy"))


@pytest.mark.parametrize("fault", [Refusal(503, "SlowDown"), Refusal(200, "InternalError"), hung_up])
@pytest.mark.parametrize("where", [is_part, is_completion, is_initiation])
def test_a_copy_survives_a_temporary_failure(fault: Any, where: Any) -> None:
    with ObjectServer(BEFORE, fault, where=where, times=1) as server:
        copy(server)
        assert server.contents == {"source": CONTENT, "copy": CONTENT}
        assert server.count(is_part) >= 5


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (DENIED, OssPermissionError),
        (Refusal(503, "SlowDown"), OssThrottledError),
        (hung_up, OssConnectionError),
        (stalled, OssTimeoutError),
        (with_another_checksum, OssIntegrityError),
        (Refusal(200, "InternalError"), OssError),
    ],
)
@pytest.mark.parametrize("where", [is_part, is_third_part])
def test_a_part_that_cannot_be_copied_aborts_the_upload(fault: Any, kind: type[OssError], where: Any) -> None:
    with ObjectServer(BEFORE, fault, where=where) as server:
        with pytest.raises(kind) as caught:
            copy(server)
        assert caught.value.bucket == "scripted-bucket"
        assert server.count(is_completion) == 0
        assert server.aborted == ["UPLOAD-1"]
    assert server.contents == BEFORE


def is_copy(request: Request) -> bool:
    return request.method == "PUT" and "partNumber" not in request.query


def broken_off(exchange: Exchange, answer: Answer) -> None:
    exchange.reply(answer, upto=len(answer.body) // 2)
    exchange.hang_up()


def stalled_in_the_body(exchange: Exchange, answer: Answer) -> None:
    exchange.reply(answer, upto=len(answer.body) // 2)
    exchange.stall()


@pytest.mark.parametrize("fault", [broken_off, stalled_in_the_body])
@pytest.mark.parametrize(("content", "where"), [(b"small", is_copy), (CONTENT, is_part)])
def test_a_copy_whose_answer_breaks_off_is_repeated(fault: Any, content: bytes, where: Any) -> None:
    with ObjectServer({"source": content, "copy": b"previous"}, fault, where=where, times=1) as server:
        copy(server)
        assert server.contents["copy"] == content
        assert server.count(where) == (2 if where is is_copy else 6)


def test_a_copy_that_must_not_overwrite_is_not_repeated() -> None:
    # The second attempt would find the copy of the first one.
    with ObjectServer({"source": b"small"}, broken_off, where=is_copy, times=1) as server:
        with pytest.raises(OssConnectionError):
            copy(server, write_options=WriteOptions(forbid_overwrite=True))
        assert server.count(is_copy) == 1


def test_an_error_in_a_copys_answer_that_began_with_200_is_retried_as_its_code_is() -> None:
    before = {"source": b"small", "copy": b"previous"}
    with ObjectServer(before, Refusal(200, "InternalError"), where=is_copy, times=1) as server:
        copy(server)
        assert server.contents["copy"] == b"small"
        assert server.count(is_copy) == 2
    with ObjectServer(before, Refusal(200, "AccessDenied"), where=is_copy) as server:
        with pytest.raises(OssPermissionError):
            copy(server)
        assert server.count(is_copy) == 1


@pytest.mark.parametrize("gone", [False, True])
def test_a_source_that_is_replaced_in_the_middle_is_reported(*, gone: bool) -> None:
    def replaced(exchange: Exchange, answer: Answer) -> None:
        if gone:
            del server.contents["source"]
        else:
            server.contents["source"] = CONTENT[::-1]
        exchange.reply(answer)

    with ObjectServer(BEFORE, replaced, where=is_part, times=1) as server:
        with pytest.raises(OssNotFoundError if gone else OssIntegrityError) as caught:
            copy(server, upload_concurrency=1)
        assert caught.value.key == "source"
        assert gone or "replaced while it was being copied" in str(caught.value)
        assert server.count(is_completion) == 0
        assert server.aborted == ["UPLOAD-1"]
    assert server.contents["copy"] == b"previous"


@pytest.mark.parametrize("fault", [hung_up, stalled, with_another_checksum])
@pytest.mark.parametrize("times", [1, None])
def test_a_completion_whose_answer_is_lost_is_found_out(fault: Any, times: int | None) -> None:
    with ObjectServer(BEFORE, fault, where=is_completion, times=times) as server:
        copy(server)
        assert server.contents == {"source": CONTENT, "copy": CONTENT}


def test_a_completion_that_is_denied_aborts_the_upload() -> None:
    with ObjectServer(BEFORE, DENIED, where=is_completion) as server:
        with pytest.raises(OssPermissionError) as caught:
            copy(server)
        assert caught.value.key == "copy"
        assert server.aborted == ["UPLOAD-1"]
    assert server.contents == BEFORE


def test_a_copy_needs_no_checksums_of_the_service() -> None:
    with ObjectServer(BEFORE, without_checksum, where=lambda _: True) as server:
        copy(server)
        assert server.contents["copy"] == CONTENT


def test_progress_is_reported_and_its_exception_ends_the_copy() -> None:
    class StopError(Exception):
        pass

    counts: list[int] = []

    def progress(count: int) -> None:
        counts.append(count)
        if count:
            raise StopError

    with ObjectServer(BEFORE, held := Held(), where=is_third_part) as server, held:
        client = OssClient(**connect(server, upload_concurrency=1))
        with pytest.raises(StopError):
            client.copy(uri("source"), uri("copy"), progress=progress)
        assert 0 < sum(counts) < len(CONTENT)
        held.release()
        server.wait_for(1, is_abort)
        assert server.count(is_completion) == 0
    assert server.contents == BEFORE
    assert server.aborted == ["UPLOAD-1"]


def test_the_end_of_an_interrupted_program_aborts_the_copy() -> None:
    with ObjectServer(BEFORE, held := Held(), where=is_part) as server, held:
        with Program("copying", server.endpoint) as program:
            server.wait_for(2, is_part)
            program.interrupt()
            status, errors = program.end(10)
        assert (status, errors.splitlines()[-1:]) == (-2, ["KeyboardInterrupt"])
        held.release()
        server.drain()
        assert server.aborted == ["UPLOAD-1"]
    assert server.contents == BEFORE
