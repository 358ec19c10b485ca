"""Children are forked while the native core is busy; each reads with the parent's client and with its own."""

import os
import signal
import sys

from tests.border.programs import client_of, say, stream_of, uri

#: A child that hangs is ended by this signal, and the parent sees it.
CHILD_SECONDS = 10


def main() -> None:
    endpoint = sys.argv[1]
    client = client_of(endpoint, max_concurrency=4, prefetch_concurrency=4)
    children = []
    for number, item in enumerate(stream_of(client._native_client, "small-")):
        expected = f"content of small-{number:03}".encode()
        assert item.read() == expected
        if number % 10:
            continue
        pid = os.fork()
        if pid == 0:
            signal.alarm(CHILD_SECONDS)
            name = f"small-{number:03}"
            assert client.get(uri(name)) == client_of(endpoint).get(uri(name)) == expected
            if number % 20:
                os._exit(0)
            sys.exit(0)
        children.append(pid)
    for pid in children:
        _, status = os.waitpid(pid, 0)
        assert status == 0, f"a child ended with {status}"
    say("finished")


if __name__ == "__main__":
    main()
