"""Ctrl-C ends every wait at once. Interrupted objects are not lost, and buffers are not written to later."""

import os
import signal
import time

import pytest

from tests.border.programs import LARGE
from tests.border.running import Program
from tests.faults.objects import Held, ObjectServer
from tests.faults.server import Answer, Exchange, Request

SMALL = {f"small-{number:02}": f"content of small-{number:02}".encode() for number in range(40)}
CONTENTS = {**SMALL, "large": LARGE}
#: Seconds from Ctrl-C to the exception. A wait looks for signals after a tenth of it.
AT_ONCE = 1.0


def is_get_of_large(request: Request) -> bool:
    return request.is_object_get() and request.key == "large"


def is_put(request: Request) -> bool:
    return request.method == "PUT"


def is_abort(request: Request) -> bool:
    return request.method == "DELETE"


def is_completion(request: Request) -> bool:
    return request.method == "POST" and "uploadId" in request.query


class HeldInTheMiddle(Held):
    """Holds back the second half of a body."""

    def __call__(self, exchange: Exchange, answer: Answer) -> None:
        half = len(answer.body) // 2
        exchange.reply(answer, upto=half)
        self.wait()
        exchange.send(answer.body[half:])


@pytest.mark.parametrize("held_type", [Held, HeldInTheMiddle])
def test_readinto_gives_the_buffer_back(held_type: type[Held]) -> None:
    with (
        # All answers to the first read are held back, however many requests it sends; the second read gets its bytes.
        ObjectServer(CONTENTS, held := held_type(), where=is_get_of_large) as server,
        held,
        Program("interrupted", server.endpoint, "readinto") as program,
    ):
        program.expect("ready")
        server.wait_for(1, is_get_of_large)
        sent = program.interrupt()
        assert program.expect("interrupted") - sent < AT_ONCE
        program.tell("go on")
        program.expect("reused")
        held.release()
        program.tell("the rest was sent")
        program.expect("finished")
        assert program.end() == (0, "")


WAITS = {
    "read": is_get_of_large,
    "read_ahead": is_get_of_large,
    "stream": Request.is_object_get,
    "get": is_get_of_large,
    "head": lambda request: request.method == "HEAD",
    "fetch": Request.is_object_get,
}


@pytest.mark.parametrize(
    ("kind", "held_type"),
    # The answer to a HEAD has no middle.
    [(kind, held_type) for kind in WAITS for held_type in (Held, HeldInTheMiddle)[: 1 if kind == "head" else 2]],
)
def test_a_wait_ends_at_once_and_can_be_begun_again(kind: str, held_type: type[Held]) -> None:
    with (
        ObjectServer(CONTENTS, held := held_type(), where=WAITS[kind]) as server,
        held,
        Program("interrupted", server.endpoint, kind) as program,
    ):
        program.expect("ready")
        server.wait_for(1, WAITS[kind])
        sent = program.interrupt()
        assert program.expect("interrupted") - sent < AT_ONCE
        held.release()
        program.tell("go on")
        program.expect("finished")
        assert program.end() == (0, "")


def test_an_interrupted_listing_does_not_end_as_if_it_were_complete() -> None:
    with (
        ObjectServer(CONTENTS, held := Held(), where=Request.is_listing) as server,
        held,
        Program("interrupted", server.endpoint, "listing") as program,
    ):
        program.expect("ready")
        server.wait_for(1, Request.is_listing)
        sent = program.interrupt()
        assert program.expect("interrupted") - sent < AT_ONCE
        held.release()
        program.tell("go on")
        program.expect("40 entries")
        program.expect("finished")
        assert program.end() == (0, "")


@pytest.mark.parametrize("kind", ["put", "write", "close"])
def test_an_interrupted_upload_publishes_nothing_and_is_aborted(kind: str) -> None:
    with (
        ObjectServer({"written": b"previous"}, held := Held(), where=is_put) as server,
        held,
        Program("interrupted", server.endpoint, kind) as program,
    ):
        program.expect("ready")
        # Two parts are in flight when `close` sends the third.
        server.wait_for(3 if kind == "close" else 1, is_put)
        sent = program.interrupt()
        assert program.expect("interrupted") - sent < AT_ONCE
        server.wait_for(1, is_abort)
        program.tell("go on")
        if kind != "put":
            # Closing does not publish the object.
            program.expect("interrupted")
        program.expect("finished")
        assert program.end() == (0, "")
        assert server.count(is_completion) == 0
    assert server.contents == {"written": b"previous"}


def test_an_upload_that_ctrl_c_ends_with_the_program_is_aborted() -> None:
    with (
        ObjectServer({"written": b"previous"}, held := Held(), where=is_put) as server,
        held,
        Program("interrupted", server.endpoint, "uncaught") as program,
    ):
        program.expect("ready")
        server.wait_for(1, is_put)
        program.interrupt()
        status, errors = program.end(5)
        assert status == -signal.SIGINT
        assert errors.endswith("KeyboardInterrupt\n")
        held.release()
        server.wait_for(1, is_abort)
        assert server.count(is_completion) == 0
    assert server.contents == {"written": b"previous"}


def test_signals_whose_handlers_return_disturb_nothing() -> None:
    def slow(exchange: Exchange, answer: Answer) -> None:
        # Long enough for a handler to run while the program waits for this answer.
        exchange.server.stopped.wait(0.02)
        exchange.reply(answer)

    with (
        ObjectServer(CONTENTS, slow, where=lambda _: True) as server,
        Program("signalled", server.endpoint) as program,
    ):
        program.expect("finished")
        assert program.end() == (0, "")
        assert server.contents["written"] == LARGE


def is_gone(group: int) -> bool:
    """Wait until no process of a group is left: helpers of multiprocessing end a moment after the program."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.01)
    return False


def seconds_of_ctrl_c(program: Program) -> float:
    """Send Ctrl-C as a terminal does, to a program and its workers; return how long the program took to end."""
    os.killpg(program.pid, signal.SIGINT)
    interrupted = time.monotonic()
    status, errors = program.end()
    seconds = time.monotonic() - interrupted
    assert status == -signal.SIGINT
    assert "KeyboardInterrupt" in errors
    assert errors.count("Traceback") == 1, errors
    assert is_gone(program.pid)
    return seconds


def seconds_of_ctrl_c_without_this_package(method: str) -> float:
    """Return how long torch alone takes now to end a loader and its workers."""
    with Program("interrupted_loader", method) as program:
        for line in ("ready", "asleep", "asleep"):
            program.expect(line)
        return seconds_of_ctrl_c(program)


@pytest.mark.slow(120)
@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_ctrl_c_ends_a_loader_and_its_workers(method: str) -> None:
    with (
        ObjectServer(CONTENTS, held := Held(), page=40) as server,
        held,
        Program("interrupted_loader", method, server.endpoint) as program,
    ):
        program.expect("ready")
        # Both workers wait for objects.
        server.wait_for(40, Request.is_object_get)
        seconds = seconds_of_ctrl_c(program)
    # The grace periods, of torch for its workers and of this package for uploads, are five seconds each. A busy machine
    # takes more than a second without any: then torch alone is as slow.
    assert seconds < AT_ONCE or seconds < 2 * seconds_of_ctrl_c_without_this_package(method)
