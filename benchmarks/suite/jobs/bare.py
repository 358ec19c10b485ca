"""The least that a client has to do to receive or to send: sockets, and nothing of OSS."""

import socket
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

from benchmarks.suite.jobs import Task


def opened(task: Task) -> socket.socket:
    """Open a connection to the server of a task."""
    address = urlsplit(task["endpoint"])
    server = socket.create_connection(((address.hostname or ""), address.port or 80))
    if address.scheme == "http":
        return server
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(server)


def shared_out(task: Task, view: memoryview, job: Callable[[Task, memoryview, int], None]) -> float:
    """Do a job for equal shares of memory, each over a connection and in a thread of its own."""
    count = task.get("connections", 1)
    share = -(-len(view) // count)
    with ThreadPoolExecutor(count) as pool:
        begins = range(0, len(view), share)
        for done in [pool.submit(job, task, view[begin : begin + share], begin) for begin in begins]:
            done.result()
    return len(view)


def receive(task: Task, view: memoryview) -> float:
    """Receive one object with one request, or several, into memory whose pages are present: the least of any client."""
    return shared_out(task, view, receive_range)


def receive_range(task: Task, view: memoryview, begin: int) -> None:
    """Receive one range of an object."""
    with opened(task) as server:
        exchange(server, task, task["name"], view, f"Range: bytes={begin}-{begin + len(view) - 1}\r\n")


def exchange(server: socket.socket, task: Task, name: str, view: memoryview, fields: str = "") -> int:
    """Ask for an object, and receive its body at the beginning of `view`; return its length.

    Raises:
        SystemExit: The server refuses it, sends more than `view` holds, or fewer bytes than it states.
    """
    host = urlsplit(task["endpoint"]).netloc
    server.sendall(f"GET /{name} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n".encode())
    received = b""
    while b"\r\n\r\n" not in received and (more := server.recv(4096)):
        received += more
    head, _, body = received.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 20"):
        raise SystemExit(head.decode(errors="replace"))
    length = next(int(line.split(b":")[1]) for line in head.lower().splitlines() if line.startswith(b"content-length:"))
    if length > len(view):
        raise SystemExit(f"{name} has {length} bytes, and {len(view)} were asked for")
    view[: len(body)] = body
    count = len(body)
    while count < length and (arrived := server.recv_into(view[count:length])):
        count += arrived
    if count < length:
        raise SystemExit(f"{count} of {length} bytes of {name} were received")
    return length


def send(task: Task, view: memoryview) -> float:
    """Send as many bytes with one request, or several: the least that any client has to do."""
    return shared_out(task, view, send_part)


def send_part(task: Task, view: memoryview, begin: int) -> None:
    """Send bytes as an object."""
    with opened(task) as server:
        head = f"Host: {urlsplit(task['endpoint']).netloc}\r\nContent-Length: {len(view)}"
        server.sendall(f"PUT /{task['name']}.{begin} HTTP/1.1\r\n{head}\r\n\r\n".encode())
        server.sendall(view)
        if not server.recv(4096).startswith(b"HTTP/1.1 200"):
            raise SystemExit("the server refused it")
