"""A thread waits inside the native core while another one forks; the child uses the same objects."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

from osstorchconnector import DataObject, OssClient, OssError
from tests.border.programs import LARGE, client_of, heed, listing_of, say, stream_of, uri

#: A child that hangs is ended by this signal, and the parent sees it.
CHILD_SECONDS = 5
HELD = [b"content of held-0", b"content of held-1"]


class Waiting:
    """The thread's call, its result, and the calls of a child meanwhile."""

    def __init__(self, wait: Callable[[], Any], result: Any, uses: list[Callable[[], Any]]) -> None:
        self.wait = wait
        self.result = result
        self.uses = uses


def reader(client: OssClient) -> Waiting:
    return reading(client.open(uri("large")))


def described(client: OssClient) -> Waiting:
    return reading(next(client.list(uri("large"))))


def reading(item: DataObject) -> Waiting:
    uses = [lambda: item.read(1), lambda: item.seek(0), item.copy, item.tell, item.close, lambda: item.closed]
    return Waiting(item.read, LARGE, uses)


def listing(client: OssClient) -> Waiting:
    items = client.list(uri("small-"))
    names = [f"small-{number:02}" for number in range(40)]
    return Waiting(lambda: [item.name for item in items], names, [lambda: next(items)])


def stream(client: OssClient) -> Waiting:
    items = stream_of(client._native_client, "held-")
    return Waiting(lambda: [item.read() for item in items], HELD, [lambda: next(items), items.close])


def fetch(client: OssClient) -> Waiting:
    native = client._native_client
    table = listing_of(native, "held-")
    return Waiting(
        lambda: [item.read() for item in native.fetch(table, [0, 1])], HELD, [lambda: native.fetch(table, [0])]
    )


def writer(client: OssClient) -> Waiting:
    target = client.writer(uri("written"))

    def wait() -> None:
        target.write(LARGE)
        target.close()

    uses = [lambda: target.write(b"x"), target.close, target.abort, target.tell, lambda: target.closed]
    return Waiting(wait, None, uses)


def main() -> None:
    endpoint, kind = sys.argv[1:]
    waiting: Waiting = globals()[kind](client_of(endpoint, upload_concurrency=1, io_threads=1))
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(waiting.wait()), daemon=True)
    thread.start()
    heed("fork")
    for number, use in enumerate(waiting.uses):
        pid = os.fork()
        if pid == 0:
            signal.alarm(CHILD_SECONDS)
            # Calls that need no network may return.
            with contextlib.suppress(OssError):
                use()
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        assert status != signal.SIGALRM, f"use {number} of the {kind} hangs in the child"
        assert status == 0, f"use {number} of the {kind} ended the child with {status}"
    say("children ended")
    thread.join()
    assert results == [waiting.result]
    say("finished")


if __name__ == "__main__":
    main()
