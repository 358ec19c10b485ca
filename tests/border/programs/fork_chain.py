"""One client is used by a process, by its child, by that one's child, and on the way back again."""

import os
import signal
import sys

from tests.border.programs import client_of, say, stream_of, uri

GENERATIONS = 3
#: A process that hangs is ended by this signal, and its parent sees it.
SECONDS = 15


def main() -> None:
    client = client_of(sys.argv[1])
    generation = 0
    parents_item = None
    while True:
        item = client.open(uri("large"))
        assert item.read(7) == bytes(range(7))
        if parents_item is not None:
            # A copy of the parent's bytes, without its client.
            assert parents_item.read() == b"content of small-00"
        parents_item = next(stream_of(client._native_client, "small-00"))
        if generation == GENERATIONS:
            break
        pid = os.fork()
        if pid:
            _, status = os.waitpid(pid, 0)
            assert status == 0, f"generation {generation + 1} ended with {status}"
            assert item.read(3) == bytes([7, 8, 9])
            assert client.get(uri("small-00")) == b"content of small-00"
            break
        signal.alarm(SECONDS)
        generation += 1
    if generation == 0:
        say("finished")


if __name__ == "__main__":
    main()
