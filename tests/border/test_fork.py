"""A fork copies native objects: the copies raise and change nothing, and the originals continue to work."""

import pytest

from tests.border.programs import LARGE
from tests.border.running import Program
from tests.faults.objects import Held, ObjectServer
from tests.faults.server import Request

SMALL = {f"small-{number:02}": f"content of small-{number:02}".encode() for number in range(40)}
CONTENTS = {**SMALL, "large": LARGE}


def is_part(request: Request) -> bool:
    return request.method == "PUT" and "partNumber" in request.query


@pytest.mark.parametrize("end", ["_exit", "sys.exit", "kept"])
def test_open_objects_survive_a_fork(end: str) -> None:
    with (
        ObjectServer(CONTENTS, held := Held(), where=is_part, page=25) as server,
        held,
        Program("fork", server.endpoint, end, options=("-W", "error")) as program,
    ):
        program.expect("open")
        # Two parts of each upload are in flight.
        server.wait_for(4, is_part)
        program.tell("fork")
        program.expect("child done")
        program.expect("child ended")
        held.release()
        program.tell("finish")
        program.expect("finished")
        assert program.end() == (0, "")
    assert server.contents["written-0"] == server.contents["written-1"] == LARGE
    assert server.aborted == []
    assert server.uploads == {}


@pytest.mark.parametrize("kind", ["reader", "described", "listing", "stream", "fetch", "writer"])
def test_a_fork_while_a_thread_waits_leaves_no_lock_behind(kind: str) -> None:
    wanted = {
        "reader": lambda request: request.is_object_get(),
        "described": lambda request: request.is_object_get(),
        "listing": lambda request: "continuation-token" in request.query,
        "stream": lambda request: request.is_object_get(),
        "fetch": lambda request: request.is_object_get(),
        "writer": is_part,
    }[kind]
    contents = {**CONTENTS, "held-0": b"content of held-0", "held-1": b"content of held-1"}
    with (
        ObjectServer(contents, held := Held(), where=wanted, page=25) as server,
        held,
        Program("fork_while_waiting", server.endpoint, kind) as program,
    ):
        server.wait_for(1, wanted)
        program.tell("fork")
        program.expect("children ended")
        held.release()
        program.expect("finished")
        assert program.end() == (0, "")
    if kind == "writer":
        assert server.contents["written"] == LARGE


def test_children_of_a_busy_process_read() -> None:
    contents = {f"small-{number:03}": f"content of small-{number:03}".encode() for number in range(400)}
    with ObjectServer(contents) as server, Program("fork_often", server.endpoint) as program:
        program.expect("finished")
        assert program.end() == (0, "")


def test_a_client_is_used_along_a_chain_of_processes_and_back() -> None:
    with ObjectServer(CONTENTS) as server, Program("fork_chain", server.endpoint) as program:
        program.expect("finished")
        assert program.end() == (0, "")
