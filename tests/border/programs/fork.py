"""Two native objects of each kind are open across a fork, die in the child, and are finished in the parent."""

import gc
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from osstorchconnector import OssError
from osstorchconnector._native import Client, Order, RangeFetcher
from tests.border.programs import BUCKET, LARGE, client_of, heed, listing_of, say, stream_of, uri

#: A child that hangs is ended by this signal, and the parent sees it.
CHILD_SECONDS = 15


def range_fetcher(native: Client) -> RangeFetcher:
    """Return a fetcher of four ranges, one after the other."""
    ranges = ([(number, BUCKET, "large", None, number * 1000, 1000, None, None)] for number in range(4))
    return native.range_fetcher(ranges, allocate=bytearray, gap=0, run_limit=1000, concurrency=1, budget=1000)


class Open:
    """Two of each kind, in use."""

    def __init__(self, endpoint: str) -> None:
        self.clients = [client_of(endpoint, upload_concurrency=4, io_threads=1) for _ in range(2)]
        self.natives = [client._native_client for client in self.clients]
        self.streams = [stream_of(native, "small-") for native in self.natives]
        self.listings = [client.list(uri("small-")) for client in self.clients]
        self.readers = [client.open(uri("large")) for client in self.clients]
        self.writers = [client.writer(uri(f"written-{index}")) for index, client in enumerate(self.clients)]
        self.listings_in_full = [listing_of(native, "") for native in self.natives]
        self.fetchers = [range_fetcher(native) for native in self.natives]
        self.ranges = [next(fetcher).tag for fetcher in self.fetchers]
        self.fetched = [next(stream) for stream in self.streams]
        self.listed = [next(listing) for listing in self.listings]
        for reader in self.readers:
            assert reader.read(10) == LARGE[:10]
        for writer in self.writers:
            writer.write(LARGE[:250_000])


def child_uses(open_objects: Open) -> list[str]:
    """Return the calls that did not raise."""
    wrong = []
    uses: dict[str, Callable[[int], Any]] = {
        "native get": lambda i: open_objects.natives[i].get(BUCKET, "large"),
        "native head": lambda i: open_objects.natives[i].head(BUCKET, "large"),
        "native put": lambda i: open_objects.natives[i].put(BUCKET, "x", b""),
        "native list": lambda i: open_objects.natives[i].list(BUCKET, ""),
        "native listing": lambda i: listing_of(open_objects.natives[i], ""),
        "native writer": lambda i: open_objects.natives[i].writer(BUCKET, "x"),
        "native stream": lambda i: stream_of(open_objects.natives[i], ""),
        "native stream of listing": lambda i: open_objects.natives[i].stream(open_objects.listings_in_full[i], Order()),
        "native fetch": lambda i: open_objects.natives[i].fetch(open_objects.listings_in_full[i], [0]),
        "stream next": lambda i: next(open_objects.streams[i]),
        "stream close": lambda i: open_objects.streams[i].close(),
        "listing next": lambda i: [next(open_objects.listings[i]) for _ in range(1000)],
        "listed read": lambda i: open_objects.listed[i].read(),
        "reader read": lambda i: open_objects.readers[i].read(10),
        "reader readinto": lambda i: open_objects.readers[i].readinto(bytearray(10)),
        "reader readline": lambda i: open_objects.readers[i].readline(),
        "reader seek": lambda i: open_objects.readers[i].seek(0),
        "reader copy": lambda i: open_objects.readers[i].copy(),
        "range fetcher next": lambda i: next(open_objects.fetchers[i]),
        "writer write": lambda i: open_objects.writers[i].write(b"x"),
        "writer close": lambda i: open_objects.writers[i].close(),
        "writer abort": lambda i: open_objects.writers[i].abort(),
    }
    for name, use in uses.items():
        for index in range(2):
            try:
                use(index)
            except OssError as error:
                if f"belongs to process {os.getppid()}" not in str(error):
                    wrong.append(f"{name}: {error}")
            else:
                wrong.append(f"{name} did not raise")
    return wrong


def child(open_objects: Open, endpoint: str, end: str) -> None:
    signal.alarm(CHILD_SECONDS)
    assert child_uses(open_objects) == []
    # Plain memory is copied whole by a fork.
    assert [item.read() for item in open_objects.fetched] == [b"content of small-00"] * 2
    assert [len(table) for table in open_objects.listings_in_full] == [41, 41]
    # The package's client makes a native client for this process, and a new client works too.
    for client in (*open_objects.clients, client_of(endpoint)):
        assert client.get(uri("small-07")) == b"content of small-07"
    vars(open_objects).clear()
    gc.collect()
    say("child done")
    match end:
        case "_exit":
            os._exit(0)
        case "sys.exit":
            sys.exit(0)
        case "kept":
            # The end of the interpreter drops all objects instead.
            sys.exit(0)


def main() -> None:
    endpoint, end = sys.argv[1:]
    open_objects = Open(endpoint)
    say("open")
    heed("fork")
    kept = Open.__new__(Open)
    if end == "kept":
        vars(kept).update(vars(open_objects))
    pid = os.fork()
    if pid == 0:
        child(open_objects, endpoint, end)
    _, status = os.waitpid(pid, 0)
    assert status == 0, f"the child ended with {status}"
    say("child ended")
    heed("finish")
    for index in range(2):
        rest = [item.read() for item in open_objects.streams[index]]
        assert rest == [f"content of small-{number:02}".encode() for number in range(1, 40)]
        assert len(list(open_objects.listings[index])) == 39
        assert open_objects.listed[index].read() == b"content of small-00"
        assert open_objects.readers[index].read() == LARGE[10:]
        assert [*open_objects.ranges[index : index + 1], *(one.tag for one in open_objects.fetchers[index])] == [
            0,
            1,
            2,
            3,
        ]
        open_objects.writers[index].write(LARGE[250_000:])
        open_objects.writers[index].close()
        assert open_objects.clients[index].get(uri("small-01")) == b"content of small-01"
    say("finished")


if __name__ == "__main__":
    main()
