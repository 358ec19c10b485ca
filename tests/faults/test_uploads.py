"""Uploads that fail: the error is raised, nothing is published, and the upload is aborted."""

import threading
from typing import Any

import pytest

from osstorchconnector import (
    OssClient,
    OssConfig,
    OssConnectionError,
    OssError,
    OssIntegrityError,
    OssPermissionError,
    OssThrottledError,
    OssTimeoutError,
)
from osstorchconnector.connection.unfinished_uploads import find_unfinished
from osstorchconnector.testing import Emulator
from tests.faults.damage import MARK, Damage
from tests.faults.objects import Held, ObjectServer, Refusal, error_answer, uri
from tests.faults.readers import connect
from tests.faults.server import Answer, Exchange, Request

PART = 100 * 1024
LARGE = bytes(range(256)) * 1700
SMALL = b"small"


def is_put(request: Request) -> bool:
    return request.method == "PUT"


def is_initiation(request: Request) -> bool:
    return request.method == "POST" and "uploads" in request.query


def is_completion(request: Request) -> bool:
    return request.method == "POST" and "uploadId" in request.query


def is_third_part(request: Request) -> bool:
    return request.query.get("partNumber") == "3"


THROTTLED = Refusal(503, "SlowDown")
DENIED = Refusal(403, "AccessDenied")


def hung_up(exchange: Exchange, _: Answer) -> None:
    exchange.hang_up()


def stalled(exchange: Exchange, _: Answer) -> None:
    exchange.stall()


def with_another_checksum(exchange: Exchange, answer: Answer) -> None:
    answer.headers["x-oss-hash-crc64ecma"] = "1"
    exchange.reply(answer)


def without_an_etag(exchange: Exchange, answer: Answer) -> None:
    answer.headers.pop("ETag", None)
    exchange.reply(answer)


def no_xml(exchange: Exchange, answer: Answer) -> None:
    answer.body = b"this is no XML"
    exchange.reply(answer)


FAULTS: list[tuple[Any, type[OssError]]] = [
    (THROTTLED, OssThrottledError),
    (DENIED, OssPermissionError),
    (hung_up, OssConnectionError),
    (stalled, OssTimeoutError),
]


def client_of(server: ObjectServer, **given: Any) -> OssClient:
    return OssClient(**connect(server, **{"part_size": PART, "upload_concurrency": 2, **given}))


def write(client: OssClient, content: bytes) -> None:
    with client.writer(uri("a")) as writer:
        for start in range(0, len(content), 50_000):
            writer.write(content[start : start + 50_000])


def put(client: OssClient, content: bytes) -> None:
    client.put(uri("a"), content)


@pytest.mark.parametrize("upload", [write, put])
@pytest.mark.parametrize("content", [SMALL, LARGE])
@pytest.mark.parametrize("fault", [THROTTLED, hung_up, with_another_checksum])
def test_an_upload_survives_a_temporary_failure(upload: Any, content: bytes, fault: Any) -> None:
    with ObjectServer({"a": b"previous"}, fault, where=is_put, times=1) as server:
        upload(client_of(server), content)
        assert server.contents["a"] == content
        assert server.uploads == {}


@pytest.mark.parametrize("upload", [write, put])
@pytest.mark.parametrize(("fault", "kind"), FAULTS)
def test_a_small_object_that_cannot_be_stored_is_reported(upload: Any, fault: Any, kind: type[OssError]) -> None:
    with ObjectServer({}, fault, where=lambda _: True) as server:
        with pytest.raises(kind) as caught:
            upload(client_of(server, read_timeout=0.5), SMALL)
        assert (caught.value.bucket, caught.value.key) == ("scripted-bucket", "a")
        assert caught.value.attempts == (1 if fault is DENIED else 2)
        unknown = any("whether the object was published is not known" in note for note in notes_of(caught.value))
        assert unknown == (fault is not DENIED)


def notes_of(error: BaseException) -> list[str]:
    return getattr(error, "__notes__", [])


@pytest.mark.parametrize("upload", [write, put])
@pytest.mark.parametrize("content", [SMALL, LARGE])
@pytest.mark.parametrize("fault", [hung_up, stalled, with_another_checksum, without_an_etag, no_xml])
def test_an_object_that_was_published_without_a_right_answer_is_found_out(
    upload: Any, content: bytes, fault: Any
) -> None:
    with ObjectServer({"a": b"previous"}, fault, where=publishes) as server:
        if content is SMALL and fault is no_xml:
            pytest.skip("the answer to this request has no body")
        upload(client_of(server, read_timeout=0.5), content)
        assert server.contents["a"] == content


@pytest.mark.parametrize("upload", [write, put])
@pytest.mark.parametrize("content", [SMALL, LARGE])
def test_an_object_of_another_writer_is_not_taken_for_the_written_one(upload: Any, content: bytes) -> None:
    def replaced(exchange: Exchange, _: Answer) -> None:
        server.contents["a"] = b"another"
        exchange.hang_up()

    with ObjectServer({"a": b"previous"}, replaced, where=publishes) as server:
        with pytest.raises(OssError):
            upload(client_of(server), content)
        assert server.contents["a"] == b"another"


def publishes(request: Request) -> bool:
    return is_completion(request) or (is_put(request) and "uploadId" not in request.query)


@pytest.mark.parametrize("content", [MARK + SMALL, LARGE.replace(MARK, b"x") + MARK])
@pytest.mark.parametrize("times", [1, None])
def test_bytes_that_changed_on_their_way_are_not_published(
    emulator: Emulator, bucket: str, content: bytes, times: int | None
) -> None:
    where = f"oss://{bucket}/a"
    client = emulator.client()
    client.put(where, b"previous")
    with Damage(emulator.endpoint, times) as damage:
        config = OssConfig(part_size=PART, max_attempts=3)
        damaged = OssClient(**emulator.connection | {"endpoint": damage.endpoint}, config=config)
        if times is not None:
            damaged.put(where, content)
            assert client.get(where) == content
            return
        with pytest.raises(OssIntegrityError) as caught:
            damaged.put(where, content)
    assert caught.value.attempts == 3
    assert not any("may have been replaced" in note for note in notes_of(caught.value))
    assert client.get(where) == b"previous"
    assert list(find_unfinished(client, f"oss://{bucket}/")) == []


def test_all_parts_that_failed_are_reported() -> None:
    answered = threading.Semaphore(0)

    class HeldAndDenied(Held):
        def __call__(self, exchange: Exchange, _: Answer) -> None:
            self.wait()
            exchange.reply(error_answer(exchange.request, 403, "AccessDenied", "You have no right."))
            answered.release()

    with ObjectServer({"a": b"previous"}, held := HeldAndDenied(), where=is_put) as server, held:
        client = client_of(server, upload_concurrency=3)
        writer = client.writer(uri("a"))
        writer.write(LARGE[: 3 * PART])
        server.wait_for(3, is_put)
        held.release()
        assert all(answered.acquire(timeout=10) for _ in range(3))
        # This uses the same I/O thread, so the three answers have been read when it returns.
        client.head(uri("a"))
        with pytest.raises(OssPermissionError) as caught:
            writer.close()
        assert server.contents == {"a": b"previous"}
    assert len([note for note in notes_of(caught.value) if "failed too: AccessDenied" in note]) == 2


def test_the_next_write_reports_a_part_that_failed() -> None:
    with ObjectServer({"a": b"previous"}, DENIED, where=is_put) as server:
        writer = client_of(server).writer(uri("a"))
        writer.write(LARGE[:PART])
        server.wait_for(1, is_put)
        # A few bytes need no request; the failure is raised as soon as it is known.
        endless = iter(lambda: b"a few bytes", None)
        with pytest.raises(OssPermissionError):
            writer.writelines(endless)
        server.wait_for(1, lambda request: request.method == "DELETE")
        with pytest.raises(OssPermissionError):
            writer.close()
        assert server.contents == {"a": b"previous"}


@pytest.mark.parametrize("upload", [write, put])
@pytest.mark.parametrize(("fault", "kind"), [*FAULTS, (with_another_checksum, OssIntegrityError)])
@pytest.mark.parametrize("where", [is_put, is_third_part])
def test_a_part_that_cannot_be_stored_aborts_the_upload(
    upload: Any, fault: Any, kind: type[OssError], where: Any
) -> None:
    with ObjectServer({"a": b"previous"}, fault, where=where) as server:
        with pytest.raises(kind) as caught:
            upload(client_of(server, read_timeout=0.5), LARGE)
        assert (caught.value.bucket, caught.value.key) == ("scripted-bucket", "a")
        server.wait_for(1, lambda request: request.method == "DELETE")
        assert server.count(is_completion) == 0
    assert server.contents == {"a": b"previous"}
    assert server.aborted == ["UPLOAD-1"]


@pytest.mark.parametrize("upload", [write, put])
@pytest.mark.parametrize(("fault", "kind"), [*FAULTS, (no_xml, OssError)])
def test_an_upload_that_cannot_begin_is_reported(upload: Any, fault: Any, kind: type[OssError]) -> None:
    with ObjectServer({"a": b"previous"}, fault, where=is_initiation) as server:
        with pytest.raises(kind) as caught:
            upload(client_of(server, read_timeout=0.5), LARGE)
        assert (caught.value.bucket, caught.value.key) == ("scripted-bucket", "a")
        assert server.count(is_put) == 0
        assert server.contents == {"a": b"previous"}


@pytest.mark.parametrize("upload", [write, put])
def test_a_completion_that_is_denied_aborts_the_upload(upload: Any) -> None:
    with ObjectServer({"a": b"previous"}, DENIED, where=is_completion) as server:
        with pytest.raises(OssPermissionError) as caught:
            upload(client_of(server), LARGE)
        assert (caught.value.code, caught.value.key) == ("AccessDenied", "a")
        server.wait_for(1, lambda request: request.method == "DELETE")
    assert server.contents == {"a": b"previous"}
    assert server.aborted == ["UPLOAD-1"]


@pytest.mark.parametrize("upload", [write, put])
def test_a_completion_whose_answer_is_lost_is_found_out(upload: Any) -> None:
    with ObjectServer({"a": b"previous"}, hung_up, where=is_completion, times=1) as server:
        upload(client_of(server), LARGE)
        assert server.contents["a"] == LARGE


def test_an_error_in_a_completion_that_began_with_200_is_an_error() -> None:
    # OSS may send the head before it knows that it cannot complete the upload.
    fails_late = Refusal(200, "InternalError")
    with ObjectServer({"a": b"previous"}, fails_late, where=is_completion) as server:
        with pytest.raises(OssError) as caught:
            write(client_of(server), LARGE)
        assert server.contents == {"a": b"previous"}
    assert (caught.value.code, caught.value.bucket, caught.value.key) == ("InternalError", "scripted-bucket", "a")


@pytest.mark.parametrize("upload", [write, put])
@pytest.mark.parametrize("where", [is_initiation, is_completion])
def test_an_error_in_an_answer_that_began_with_200_is_retried_as_its_code_is(upload: Any, where: Any) -> None:
    with ObjectServer({"a": b"previous"}, Refusal(200, "InternalError"), where=where, times=1) as server:
        upload(client_of(server), LARGE)
        assert server.contents == {"a": LARGE}
        assert server.count(where) == 2
    with ObjectServer({"a": b"previous"}, Refusal(200, "AccessDenied"), where=where) as server:
        with pytest.raises(OssPermissionError) as caught:
            upload(client_of(server), LARGE)
        assert server.contents == {"a": b"previous"}
        assert server.count(where) == 1
    assert (caught.value.code, caught.value.status, caught.value.key) == ("AccessDenied", 403, "a")


@pytest.mark.parametrize("fault", [Refusal(200, "InternalError"), Refusal(500, "InternalError"), stalled])
def test_the_same_object_from_before_leaves_no_upload_behind(fault: Any) -> None:
    with ObjectServer({"a": LARGE}, fault, where=is_completion) as server:
        # The service does not say whose object it is.
        write(client_of(server), LARGE)
        assert server.contents == {"a": LARGE}
        assert server.uploads == {}


def test_a_part_whose_answer_has_no_etag_is_an_error() -> None:
    with (
        ObjectServer({"a": b"previous"}, without_an_etag, where=is_put) as server,
        pytest.raises(OssError, match="no readable ETag"),
    ):
        write(client_of(server), LARGE)


def test_a_writer_that_failed_raises_the_same_again_and_publishes_nothing() -> None:
    with ObjectServer({"a": b"previous"}, DENIED, where=is_put) as server:
        writer = client_of(server).writer(uri("a"))
        writer.write(SMALL)
        for use in (writer.close, writer.close, writer.tell, lambda: writer.write(b"more")):
            with pytest.raises(OssPermissionError) as caught:
                use()
            assert caught.value.code == "AccessDenied"
        writer.abort()
        assert writer.closed
        assert server.contents == {"a": b"previous"}


def test_an_upload_that_cannot_be_aborted_raises_its_first_error() -> None:
    def neither(exchange: Exchange, _: Answer) -> None:
        code = "AccessDenied" if is_put(exchange.request) else "UserDisable"
        exchange.reply(error_answer(exchange.request, 403, code, "You have no right."))

    with ObjectServer({}, neither, where=lambda request: request.method in {"PUT", "DELETE"}) as server:
        with pytest.raises(OssPermissionError) as caught:
            write(client_of(server), LARGE)
        assert caught.value.code == "AccessDenied"
