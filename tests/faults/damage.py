"""A network that changes bytes on their way to the server."""

import itertools
import socket
import threading
from contextlib import suppress
from typing import Self

#: The bytes that are changed; no head of a request contains them.
MARK = b"\0"


class Damage:
    """Passes connections on to a server, and changes ``MARK`` bytes in the requests."""

    def __init__(self, endpoint: str, times: int | None = None) -> None:
        """Listen.

        Args:
            endpoint: The server, ``http://host:port``.
            times: How many bytes to change. Default: all ``MARK`` bytes.
        """
        host, _, port = endpoint.removeprefix("http://").rpartition(":")
        self._server = (host, int(port))
        self._left = iter(range(times)) if times is not None else itertools.repeat(0)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads = [threading.Thread(target=self._accept)]
        self._sockets: list[socket.socket] = [self._listener]

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        for end in self._sockets:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for end in self._sockets:
            end.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(self._server)
            self._sockets += [near, far]
            for source, target, change in ((near, far, True), (far, near, False)):
                thread = threading.Thread(target=self._pass, args=(source, target, change))
                self._threads.append(thread)
                thread.start()

    def _pass(self, source: socket.socket, target: socket.socket, change: bool) -> None:  # noqa: FBT001 - a thread passes it by position
        with suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(self._changed(data) if change else data)
            target.shutdown(socket.SHUT_WR)

    def _changed(self, data: bytes) -> bytes:
        changed = bytearray(data)
        at = data.find(MARK)
        while at >= 0 and next(self._left, None) is not None:
            changed[at] ^= 1
            at = data.find(MARK, at + 1)
        return bytes(changed)
