"""A server whose answers a test scripts, to send what neither OSS nor the emulator sends."""

import contextlib
import http.client
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import parse_qsl, unquote

# Longer than the time limit of any test.
PATIENCE = 20.0


@dataclass(frozen=True)
class Request:
    """A request as it arrived, path style."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def bucket(self) -> str:
        return unquote(self.target.partition("?")[0]).split("/", 2)[1]

    @property
    def key(self) -> str:
        return (*unquote(self.target.partition("?")[0]).split("/", 2), "")[2]

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(self.target.partition("?")[2], keep_blank_values=True))

    @property
    def range(self) -> tuple[int, int] | None:
        """The requested range: its first byte, and the first byte after it."""
        if "range" not in self.headers:
            return None
        first, _, last = self.headers["range"].removeprefix("bytes=").partition("-")
        return int(first), int(last) + 1

    def is_object_get(self) -> bool:
        return self.method == "GET" and self.key != ""

    def is_listing(self) -> bool:
        return self.method == "GET" and "list-type" in self.query


@dataclass
class Answer:
    """An answer, which a test may spoil before it is sent."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


class Exchange:
    """One request, and the connection to answer it on."""

    def __init__(self, server: "ScriptedServer", connection: socket.socket, request: Request, number: int) -> None:
        self.server = server
        self.request = request
        #: The number of the request at this server, from 1.
        self.number = number
        self._connection = connection

    def send(self, data: bytes) -> None:
        self._connection.sendall(data)

    def reply(self, answer: Answer, *, length: int | None = None, upto: int | None = None) -> None:
        """Send an answer.

        Args:
            answer: The answer.
            length: The length to announce, if it is not that of the body.
            upto: How many bytes of the body to send, if not all of it.
        """
        headers = {
            "Server": "Scripted",
            "x-oss-request-id": f"REQUEST-{self.number}",
            "Content-Length": str(len(answer.body) if length is None else length),
            **answer.headers,
        }
        lines = [f"HTTP/1.1 {answer.status} Scripted", *(f"{name}: {value}" for name, value in headers.items())]
        head = "\r\n".join([*lines, "", ""]).encode()
        body = b"" if self.request.method == "HEAD" else answer.body[:upto]
        self.send(head + body)

    def hang_up(self) -> None:
        # Shut down, not closed: a forked child may hold a copy of the socket, which would keep the connection open.
        self._connection.shutdown(socket.SHUT_RDWR)

    def stall(self) -> None:
        """Send nothing more until the server stops."""
        self.server.stopped.wait(PATIENCE)


class ScriptedServer:
    """Reads requests on a free port of the loopback interface and gives each to a script; a context manager.

    Each connection has a thread of its own. A script that returns leaves its connection open for the next request.
    If a script raises, the end of the block raises the same error, unless the script only lost its connection.
    """

    def __init__(self, script: Callable[[Exchange], None], port: int = 0) -> None:
        self.stopped = threading.Event()
        self.requests: list[Request] = []
        self._arrived = threading.Condition()
        self._script = script
        self._failures: list[Exception] = []
        self._connections: dict[socket.socket, threading.Thread] = {}
        self._listener = socket.create_server(("127.0.0.1", port), backlog=512)
        self._acceptor = threading.Thread(target=self._accept, daemon=True)

    @property
    def endpoint(self) -> str:
        host, port = self._listener.getsockname()
        return f"http://{host}:{port}"

    def wait_for(self, count: int, wanted: Callable[[Request], bool] = lambda _: True) -> None:
        """Wait until this number of requests of a kind has arrived."""
        with self._arrived:
            arrived = self._arrived.wait_for(lambda: self.count(wanted) >= count, PATIENCE)
        assert arrived, f"{self.count(wanted)} of {count} requests arrived: {self.requests}"

    def drain(self) -> None:
        """Wait until the clients have closed all connections: then all their requests have been answered."""
        for thread in list(self._connections.values()):
            thread.join(PATIENCE)
            assert not thread.is_alive(), "a connection is open"

    def count(self, wanted: Callable[[Request], bool] = lambda _: True) -> int:
        return sum(map(wanted, self.requests))

    def stop(self) -> None:
        if self.stopped.is_set():
            return
        self.stopped.set()
        # Wakes the acceptor, which then sees that the server was stopped.
        socket.create_connection(self._listener.getsockname()).close()
        self._acceptor.join(PATIENCE)
        self._listener.close()
        for connection, thread in list(self._connections.items()):
            # The client may have closed it first.
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            thread.join(PATIENCE)
            assert not thread.is_alive(), "a script did not end"
            connection.close()

    def __enter__(self) -> Self:
        self._acceptor.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.stop()
        if kind is None and self._failures:
            raise self._failures[0]

    def _accept(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            if self.stopped.is_set():
                connection.close()
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._connections[connection] = thread
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection.makefile("rb") as stream:
                while (request := _read_request(stream)) is not None:
                    with self._arrived:
                        self.requests.append(request)
                        number = len(self.requests)
                        self._arrived.notify_all()
                    self._script(Exchange(self, connection, request, number))
        except (OSError, http.client.HTTPException):
            # The client may close its connection at any time.
            pass
        except Exception as error:  # noqa: BLE001 - raised again by the thread that runs the test
            self._failures.append(error)
            connection.shutdown(socket.SHUT_RDWR)


def _read_request(stream: Any) -> Request | None:
    line = stream.readline()
    if not line.endswith(b"\r\n"):
        return None
    method, target, _ = line.decode("latin-1").split()
    headers = {name.lower(): value for name, value in http.client.parse_headers(stream).items()}
    length = int(headers.get("content-length", "0"))
    body = stream.read(length)
    return Request(method, target, headers, body) if len(body) == length else None
