"""Ends while native objects are open, in use, or being waited for."""

import atexit
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from osstorchconnector import OssClient
from tests.border.programs import LARGE, client_of, heed, listen_to_ctrl_c, say, stream_of, uri

kept: list[Any] = []


class Slow:
    """Takes long when the interpreter clears modules, like libraries for graphics cards."""

    def __init__(self) -> None:
        # At that time the interpreter has cleared the globals, so nothing is looked up here.
        self._sleep = time.sleep

    def __del__(self) -> None:
        # Other threads run now, while the interpreter shuts down.
        self._sleep(1)


def main() -> None:
    endpoint, what, how = sys.argv[1:]
    listen_to_ctrl_c()
    globals()[what](endpoint)
    heed("end")
    if how == "slowly":
        kept.append(Slow())
    end(how)


def end(how: str) -> None:
    match how:
        case "sys.exit":
            sys.exit(0)
        case "exception":
            raise ZeroDivisionError
        case "signal":
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(10)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "_exit":
            os._exit(0)


def open_objects(endpoint: str) -> None:
    client = client_of(endpoint, upload_concurrency=4, read_timeout=600)
    stream = stream_of(client._native_client, "held-")
    listing = client.list(uri(""))
    reader = client.open(uri("large"))
    assert reader.read(5) == LARGE[:5]
    kept.extend([client, stream, listing, next(listing), reader])


def unfinished_writer(endpoint: str) -> None:
    # Two attempts: one test refuses the first request that aborts the upload.
    writer = client_of(endpoint, upload_concurrency=4, max_attempts=2).writer(uri("written"))
    writer.write(LARGE[:250_000])
    kept.append(writer)


def small_unfinished_writer(endpoint: str) -> None:
    writer = client_of(endpoint).writer(uri("written"))
    writer.write(b"small")
    kept.append(writer)


def waiting_threads(endpoint: str) -> None:
    client = client_of(endpoint, read_timeout=600)
    stream = stream_of(client._native_client, "held-")
    reader = client.open(uri("large"))
    targets: list[Callable[[], object]] = [
        lambda: next(stream),
        reader.read,
        lambda: client.get(uri("held-0")),
        lambda: client.put(uri("held-put"), b"content"),
        lambda: list(client.list(uri("held-"))),
    ]
    for target in targets:
        threading.Thread(target=target, daemon=True).start()


def waiting_provider(endpoint: str) -> None:
    asked = threading.Event()

    class Provider:
        access_key_id = "id"
        access_key_secret = "secret"

        def get_credentials(self) -> "Provider":
            asked.set()
            # It needs the interpreter again and again, also while the interpreter ends.
            until = time.monotonic() + 0.5
            while time.monotonic() < until:
                time.sleep(0.001)
            return self

    client = OssClient(endpoint, cred_provider=Provider(), region="cn-hangzhou")
    kept.append(stream_of(client._native_client, ""))
    asked.wait()


def logging_core(endpoint: str) -> None:
    logging.getLogger("osstorchconnector").setLevel(logging.DEBUG)
    logging.getLogger().addHandler(logging.StreamHandler(open(os.devnull, "w")))  # noqa: PTH123, SIM115
    # The native thread logs each attempt, and each one is refused.
    client = client_of(endpoint, max_attempts=60_000, prefetch_concurrency=256, max_concurrency=256)
    kept.append(stream_of(client._native_client, ""))


def atexit_use(endpoint: str) -> None:
    client = client_of(endpoint)
    kept.append(client)

    @atexit.register
    def _() -> None:
        assert client.get(uri("large")) == LARGE
        with client.writer(uri("written")) as writer:
            writer.write(LARGE)
        say("written at exit")


if __name__ == "__main__":
    main()
