"""A small HTTP proxy: it forwards requests and makes tunnels, both to one server, whatever host they name."""

import base64
import functools
import re
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Self
from urllib.parse import urlsplit


class HttpProxy:
    """Records the first line of each request.

    Attributes:
        lines: The request lines, without query.
        endpoint_port: The port of the server behind it.
    """

    def __init__(self, server: str, *, password: str = "", answer: bytes = b"", silent: bool = False) -> None:
        """Listen.

        Args:
            server: URL of the server behind it.
            password: ``user:password`` that it wants.
            answer: What it sends instead of doing its work.
            silent: It never answers.
        """
        self.lines: list[str] = []
        self.endpoint_port = urlsplit(server).port
        self._wanted = b"proxy-authorization: basic " + base64.b64encode(password.encode()).lower() if password else b""
        self._answer = answer
        self._silent = silent
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._connections: list[socket.socket] = []
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for one in [self._listener, *self._connections]:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self._thread.join()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._connections.append(client)
            _start(functools.partial(self._serve, client))

    def _serve(self, client: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            received = client.recv(65536)
            if not received:
                return
            head += received
        if self._silent:
            return
        line = head.partition(b"\r\n")[0].decode()
        self.lines.append(line.partition("?")[0])
        if self._answer:
            client.sendall(self._answer)
        elif self._wanted and self._wanted not in head.lower():
            client.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
        else:
            server = socket.create_connection(("127.0.0.1", self.endpoint_port))
            self._connections.append(server)
            if line.startswith("CONNECT "):
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                # One request for each connection, as many proxies do.
                own = head.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)
                server.sendall(re.sub(rb"^(\w+) http://[^/]*", rb"\1 ", own))
            _start(lambda: _pump(server, client))
            _pump(client, server)
            return
        client.close()


def _start(target: Callable[[], None]) -> None:
    def run() -> None:
        # The other side, or the end of the test, may close a connection at any time.
        with suppress(OSError):
            target()

    threading.Thread(target=run, daemon=True).start()


def _pump(source: socket.socket, target: socket.socket) -> None:
    while data := source.recv(65536):
        target.sendall(data)
    target.shutdown(socket.SHUT_WR)
