"""Servers whose network stack keeps the rest of an answer back until the part before it is acknowledged.

Nagle's algorithm does so after a packet that was not full, and Linux acknowledges up to 40 ms late.
"""

import socket
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from osstorchconnector import OssClient, OssConfig

BODY = bytes(range(250)) * 160
HALF = len(BODY) // 2
HEADS = {
    "length": f"Content-Length: {len(BODY)}\r\n",
    "chunks": "Transfer-Encoding: chunked\r\n",
}
# The acknowledgement that is late comes after this time.
LATE_SECONDS = 0.040


def serve(connection: socket.socket, framing: str) -> None:
    head = (
        f'HTTP/1.1 200 OK\r\n{HEADS[framing]}ETag: "A"\r\nx-oss-request-id: 0123456789ABCDEF01234567\r\n\r\n'.encode()
    )
    pieces = [BODY[:HALF], BODY[HALF:]]
    if framing == "chunks":
        pieces = [f"{len(piece):x}\r\n".encode() + piece + b"\r\n" for piece in pieces] + [b"0\r\n\r\n"]
    with connection:
        while connection.recv(65536):
            # Each is a packet of its own, and none is full.
            connection.sendall(head + pieces[0])
            for piece in pieces[1:]:
                connection.sendall(piece)


@pytest.fixture
def client(framing: str) -> Iterator[OssClient]:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            # The client has one connection.
            serve(listener.accept()[0], framing)

        threading.Thread(target=accept, daemon=True).start()
        config = OssConfig(access_key_id="id", access_key_secret="secret")
        yield OssClient(f"http://127.0.0.1:{listener.getsockname()[1]}", region="cn-hangzhou", config=config)


@pytest.mark.skipif(sys.platform != "linux", reason="only there a program can ask for an acknowledgement")
@pytest.mark.parametrize("framing", HEADS)
def test_the_rest_of_an_answer_does_not_wait_for_a_late_acknowledgement(client: OssClient) -> None:
    seconds = []
    for _ in range(10):
        began = time.perf_counter()
        assert client.get("oss://bucket/key") == BODY
        seconds.append(time.perf_counter() - began)
    # On a new connection Linux acknowledges the first packets at once. A busy machine is late once, not each time.
    assert min(seconds[2:]) < LATE_SECONDS / 2
