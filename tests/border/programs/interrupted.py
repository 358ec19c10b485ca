"""Waits inside the native core until Ctrl-C, and then continues with the same objects."""

import sys
from collections.abc import Callable
from typing import Any

from tests.border.programs import LARGE, client_of, heed, listen_to_ctrl_c, listing_of, say, stream_of, uri

PATTERN = b"mine"


def main() -> None:
    endpoint, kind = sys.argv[1:]
    listen_to_ctrl_c()
    globals()[kind](endpoint)
    say("finished")


def expect_interrupt(call: Callable[[], Any]) -> None:
    try:
        say("ready")
        call()
    except KeyboardInterrupt:
        say("interrupted")
    else:
        say("returned")
    heed("go on")


def readinto(endpoint: str) -> None:
    reader = client_of(endpoint).open(uri("large"))
    buffer = bytearray(len(LARGE))
    expect_interrupt(lambda: reader.readinto(buffer))
    # Nothing holds the buffer any more: it can be resized, filled and freed.
    buffer.append(0)
    expected = PATTERN * (len(buffer) // len(PATTERN)) + PATTERN[: len(buffer) % len(PATTERN)]
    buffer[:] = expected
    say("reused")
    heed("the rest was sent")
    assert buffer == expected
    # The position did not move.
    assert reader.readinto(buffer) == len(LARGE)
    assert buffer[: len(LARGE)] == LARGE


def read(endpoint: str) -> None:
    reader = client_of(endpoint).open(uri("large"))
    expect_interrupt(reader.read)
    assert reader.tell() == 0
    assert reader.read() == LARGE


def read_ahead(endpoint: str) -> None:
    reader = client_of(endpoint).open(uri("large"))
    expect_interrupt(lambda: reader.read(10))
    assert reader.read(10) == LARGE[:10]


def stream(endpoint: str) -> None:
    items = stream_of(client_of(endpoint, read_timeout=600)._native_client, "small-")
    expect_interrupt(lambda: next(items))
    assert [item.read() for item in items] == [f"content of small-{number:02}".encode() for number in range(40)]


def listing(endpoint: str) -> None:
    items = client_of(endpoint).list(uri("small-"))
    expect_interrupt(lambda: next(items))
    names = []
    try:
        names += [item.name for item in items]
    except Exception as error:  # noqa: BLE001 - it may raise, but not end like a complete listing
        say(type(error).__name__)
    else:
        say(f"{len(names)} entries")


def get(endpoint: str) -> None:
    client = client_of(endpoint)
    expect_interrupt(lambda: client.get(uri("large")))
    assert client.get(uri("large")) == LARGE


def head(endpoint: str) -> None:
    client = client_of(endpoint)
    expect_interrupt(lambda: client.head(uri("large")))
    assert client.head(uri("large")).size == len(LARGE)


def fetch(endpoint: str) -> None:
    native = client_of(endpoint)._native_client
    table = listing_of(native, "small-")
    expect_interrupt(lambda: native.fetch(table, range(40)))
    assert len(native.fetch(table, range(40))) == 40


def put(endpoint: str) -> None:
    client = client_of(endpoint)
    expect_interrupt(lambda: client.put(uri("written"), LARGE))


def write(endpoint: str) -> None:
    writer = client_of(endpoint, upload_concurrency=1).writer(uri("written"))
    expect_interrupt(lambda: writer.write(LARGE))
    end(writer)


def close(endpoint: str) -> None:
    writer = client_of(endpoint).writer(uri("written"))
    writer.write(LARGE[:250_000])
    expect_interrupt(writer.close)
    end(writer)


def end(writer: Any) -> None:
    try:
        writer.close()
    except KeyboardInterrupt:
        say("interrupted")
    else:
        say("closed")


def uncaught(endpoint: str) -> None:
    say("ready")
    with client_of(endpoint, upload_concurrency=1).writer(uri("written")) as writer:
        writer.write(LARGE)


if __name__ == "__main__":
    main()
