"""The end of the interpreter, and objects that are dropped before it: quick, quiet, and nothing is published."""

import gc
import time
import weakref
from typing import Any

import pytest

from tests.border.programs import LARGE, client_of, stream_of, uri
from tests.border.running import Program
from tests.faults.objects import Held, ObjectServer, Refusal
from tests.faults.server import Request

CONTENTS = {
    "large": LARGE,
    "written": b"previous",
    **{f"held-{number}": b"content" for number in range(3)},
}
#: From the last statement to the end of the process, on a busy machine.
SOON = 3.0


def is_held(request: Request) -> bool:
    return request.key.startswith("held-") or request.query.get("prefix") == "held-" or is_part(request)


def is_part(request: Request) -> bool:
    return "partNumber" in request.query


def is_abort(request: Request) -> bool:
    return request.method == "DELETE"


def publishes(request: Request) -> bool:
    return (request.method == "POST" and "uploadId" in request.query) or (
        request.method == "PUT" and not is_part(request)
    )


@pytest.mark.parametrize(
    ("how", "status", "told"),
    [
        ("return", 0, ""),
        ("sys.exit", 0, ""),
        ("slowly", 0, ""),
        ("exception", 1, "ZeroDivisionError"),
        ("signal", -2, "KeyboardInterrupt"),
        ("_exit", 0, ""),
        ("kill", -9, ""),
    ],
)
@pytest.mark.parametrize("what", ["open_objects", "unfinished_writer", "small_unfinished_writer"])
def test_open_objects_do_not_delay_the_end(what: str, how: str, status: int, told: str) -> None:
    with (
        ObjectServer(
            CONTENTS, held := Held(), where=lambda request: is_held(request) and not request.is_listing()
        ) as server,
        held,
        Program("exiting", server.endpoint, what, how) as program,
    ):
        if what == "open_objects":
            server.wait_for(3, lambda request: request.key.startswith("held-"))
        if what == "unfinished_writer":
            server.wait_for(2, is_part)
        program.tell("end")
        start = time.monotonic()
        ended, errors = program.end(10)
        assert time.monotonic() - start < SOON + (how == "slowly")
        assert ended == status
        assert errors.splitlines()[-1:] == ([told] if told else [])
        held.release()
        assert server.count(publishes) == 0
    assert server.contents == CONTENTS


@pytest.mark.parametrize("how", ["return", "sys.exit", "exception", "signal"])
def test_an_unfinished_upload_is_aborted_when_the_interpreter_ends(how: str) -> None:
    with (
        ObjectServer(CONTENTS, held := Held(), where=is_part) as server,
        held,
        Program("exiting", server.endpoint, "unfinished_writer", how) as program,
    ):
        server.wait_for(2, is_part)
        program.tell("end")
        program.end(10)
        held.release()
        # All requests of the program have arrived, because its connections are closed.
        server.drain()
        assert server.count(is_abort) == 1
    assert server.aborted == ["UPLOAD-1"]
    assert server.contents == CONTENTS


def test_the_end_waits_for_the_request_that_aborts_an_upload() -> None:
    with (
        # On a network, the answer takes longer than the end of the interpreter. Here a second request is necessary for
        # that.
        ObjectServer(CONTENTS, Refusal(503, "SlowDown"), where=is_abort, times=1) as server,
        Program("exiting", server.endpoint, "unfinished_writer", "return") as program,
    ):
        server.wait_for(2, is_part)
        program.tell("end")
        assert program.end(10) == (0, "")
        server.drain()
        assert server.count(is_abort) == 2
    assert server.aborted == ["UPLOAD-1"]


def test_an_open_writer_at_the_end_is_warned_about() -> None:
    with (
        ObjectServer(CONTENTS) as server,
        Program("exiting", server.endpoint, "small_unfinished_writer", "return", options=("-W", "default")) as program,
    ):
        program.tell("end")
        status, errors = program.end(10)
        assert status == 0
        assert "ResourceWarning: unclosed writer of oss://scripted-bucket/written; nothing is published" in errors


@pytest.mark.parametrize("how", ["return", "slowly", "exception"])
def test_threads_that_wait_do_not_disturb_the_end(how: str) -> None:
    with (
        ObjectServer(
            CONTENTS, held := Held(), where=lambda request: is_held(request) or request.range is not None
        ) as server,
        held,
        Program("exiting", server.endpoint, "waiting_threads", how) as program,
    ):
        # Two lists, one of them for the stream, and a range, an object and an upload.
        server.wait_for(5, lambda request: is_held(request) or request.range is not None)
        program.tell("end")
        start = time.monotonic()
        status, errors = program.end(10)
        assert time.monotonic() - start < SOON + (how == "slowly")
        assert status == (1 if how == "exception" else 0), errors
        assert errors.splitlines()[-1:] == (["ZeroDivisionError"] if how == "exception" else [])


@pytest.mark.parametrize("how", ["return", "slowly"])
def test_a_call_of_a_provider_does_not_disturb_the_end(how: str) -> None:
    with ObjectServer(CONTENTS) as server, Program("exiting", server.endpoint, "waiting_provider", how) as program:
        program.tell("end")
        assert program.end(10) == (0, "")


@pytest.mark.parametrize("how", ["return", "slowly"])
def test_a_core_that_logs_does_not_disturb_the_end(how: str) -> None:
    contents = {f"{number:03}": b"content" for number in range(256)}
    for _ in range(5 if how == "return" else 1):
        with (
            ObjectServer(contents, Refusal(503, "SlowDown")) as server,
            Program("exiting", server.endpoint, "logging_core", how) as program,
        ):
            server.wait_for(300)
            program.tell("end")
            assert program.end(10) == (0, "")


def test_the_core_works_in_exit_handlers() -> None:
    with ObjectServer(CONTENTS) as server, Program("exiting", server.endpoint, "atexit_use", "return") as program:
        program.tell("end")
        program.expect("written at exit")
        assert program.end(10) == (0, "")
        assert server.contents["written"] == LARGE


@pytest.mark.parametrize("size", [5, 250_000])
def test_a_lost_writer_warns_publishes_nothing_and_is_aborted(size: int) -> None:
    with ObjectServer(CONTENTS, held := Held(), where=is_part) as server, held:
        writer: Any = client_of(server.endpoint, upload_concurrency=4).writer(uri("written"))
        writer.write(LARGE[:size])
        parts = size // (100 * 1024)
        server.wait_for(parts, is_part)
        lost = [writer]
        del writer
        with pytest.warns(ResourceWarning, match="unclosed writer of oss://scripted-bucket/written"):
            lost.clear()
        if parts:
            server.wait_for(1, is_abort)
            assert server.aborted == ["UPLOAD-1"]
        assert server.count(publishes) == 0
    assert server.contents == CONTENTS


def test_a_closed_writer_warns_about_nothing() -> None:
    with ObjectServer(CONTENTS) as server:
        for leave in ("close", "abort"):
            writer: Any = client_of(server.endpoint).writer(uri("other"))
            writer.write(b"content")
            getattr(writer, leave)()
            # Warnings are errors in the tests.
            del writer
            gc.collect()


def test_a_lost_stream_stops_fetching() -> None:
    contents = {f"{number:04}": b"content" for number in range(2000)}
    with ObjectServer(contents, held := Held()) as server, held:
        client = client_of(server.endpoint, prefetch_concurrency=4, max_concurrency=4)
        stream: Any = stream_of(client._native_client, "")
        server.wait_for(4, Request.is_object_get)
        del stream
        gc.collect()
        held.release()
        # This request uses the same I/O thread, so the stream has ended before it.
        assert client.get(uri("0000")) == b"content"
        assert server.count(Request.is_object_get) == 5


def test_a_lost_client_closes_its_connections() -> None:
    with ObjectServer(CONTENTS) as server:
        client: Any = client_of(server.endpoint)
        assert client.get(uri("large")) == LARGE
        lost = weakref.ref(client)
        del client
        gc.collect()
        assert lost() is None
        server.drain()
