"""A server that discards uploads. The kernel drops their bodies, so the server costs less than any client.

    python benchmarks/suite/sink.py PORT ADDRESSES

It answers as if an object had been stored, in one part or in many, or copied. It computes no checksum and no ETag.
"""

import contextlib
import re
import socket
import sys
import threading
from urllib.parse import parse_qs, urlsplit

# MSG_TRUNC lets TCP drop what it has received without copying it; the buffer is never written to.
_DISCARD = bytearray(4 << 20)
_SOURCE = re.compile(rb"\r\nx-oss-copy-source: *([^\r]+)", re.IGNORECASE)
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_XML = '<?xml version="1.0" encoding="UTF-8"?>\n'
_ETAG = 'ETag: "0123456789ABCDEF0123456789ABCDEF"\r\n'

# Sizes of the stored objects, and of the parts of open uploads: clients ask for them before they rename.
_stored: dict[str, int] = {}
_parts: dict[str, int] = {}


def answer(method: str, target: str, length: int, source: str | None) -> tuple[str, str, str]:
    """Return status, further headers and body of the answer to a request whose body had `length` bytes."""
    url = urlsplit(target)
    query = parse_qs(url.query, keep_blank_values=True)
    match method:
        case "HEAD":
            size = _stored.get(url.path)
            found = ("200 OK", f"{_ETAG}Content-Length: {size}\r\n", "")
            return ("404 Not Found", "", "") if size is None else found
        case "DELETE":
            _stored.pop(url.path, None)
            return "204 No Content", "", ""
        case "PUT" if source is not None:
            _stored[url.path] = 0
            result = '<CopyObjectResult><ETag>"0123456789ABCDEF"</ETag></CopyObjectResult>'
            return "200 OK", _ETAG, f"{_XML}{result}"
        case "POST" if "uploads" in query:
            key = "<Bucket>bench</Bucket><Key>object</Key><UploadId>0123456789ABCDEF</UploadId>"
            return "200 OK", "", f"{_XML}<InitiateMultipartUploadResult>{key}</InitiateMultipartUploadResult>"
        case "POST" if "uploadId" in query:
            _stored[url.path] = _parts.pop(url.path, 0)
            key = '<Bucket>bench</Bucket><Key>object</Key><ETag>"0123456789ABCDEF-1"</ETag>'
            return "200 OK", "", f"{_XML}<CompleteMultipartUploadResult>{key}</CompleteMultipartUploadResult>"
        case _:
            sizes = _parts if "uploadId" in query else _stored
            sizes[url.path] = sizes.get(url.path, 0) + length if sizes is _parts else length
            return "200 OK", _ETAG, ""


def serve(connection: socket.socket) -> None:
    """Answer the requests of one connection."""
    received = b""
    with connection, contextlib.suppress(ConnectionError):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            while b"\r\n\r\n" not in received:
                more = connection.recv(65536)
                if not more:
                    return
                received += more
            head, _, rest = received.partition(b"\r\n\r\n")
            method, target, _ = head.partition(b"\r\n")[0].decode().split(" ")
            length = _LENGTH.search(head)
            size = left = int(length[1]) if length else 0
            if b"expect: 100-continue" in head.lower():
                connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            taken = min(left, len(rest))
            left, received = left - taken, rest[taken:]
            while left:
                count = connection.recv_into(_DISCARD, min(left, len(_DISCARD)), socket.MSG_TRUNC)
                if not count:
                    return
                left -= count
            source = _SOURCE.search(head)
            status, headers, body = answer(method, target, size, source and source[1].decode())
            headers += "x-oss-request-id: 0123456789ABCDEF01234567\r\n"
            if "Content-Length" not in headers:
                headers += f"Content-Length: {len(body)}\r\n"
            connection.sendall(f"HTTP/1.1 {status}\r\n{headers}\r\n{body}".encode())


def main() -> None:
    """Serve until the process is killed."""
    port = int(sys.argv[1])
    for host in sys.argv[2:]:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=512)
        threading.Thread(target=accept, args=(listener,), daemon=True).start()
    threading.Event().wait()


def accept(listener: socket.socket) -> None:
    """Serve each connection in a thread of its own."""
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    main()
