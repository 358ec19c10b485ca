"""Signals arrive all the time, their handlers return, and nothing is lost."""

import signal
import sys

from tests.border.programs import LARGE, client_of, say, stream_of, uri

#: Handler calls per second are ten times as many as looks for signals.
INTERVAL = 0.01


def main() -> None:
    handled = 0

    def count(_signal: int, _frame: object) -> None:
        nonlocal handled
        handled += 1

    client = client_of(sys.argv[1])
    signal.signal(signal.SIGALRM, count)
    signal.setitimer(signal.ITIMER_REAL, INTERVAL, INTERVAL)
    for _ in range(3):
        items = stream_of(client._native_client, "small-")
        assert [item.read() for item in items] == [f"content of small-{number:02}".encode() for number in range(40)]
        assert client.get(uri("large")) == client.open(uri("large")).read() == LARGE
        with client.writer(uri("written")) as writer:
            writer.write(LARGE)
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert handled > 10, handled
    say("finished")


if __name__ == "__main__":
    main()
