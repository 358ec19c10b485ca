"""DataObject and OssReader answer the same calls of a readable binary stream in the same way."""

import io
from collections.abc import Callable
from typing import Any

import pytest

from osstorchconnector import DataObject, OssClient, OssReader
from osstorchconnector._native import data_object_from_bytes

CONTENT = b"first line\n" + b"x" * 5000 + b"\nlast line without an end"


def in_memory(_client: OssClient, uri: str) -> DataObject:
    return data_object_from_bytes(uri, CONTENT)


def opened(client: OssClient, uri: str) -> DataObject:
    return client.open(uri)


def listed(client: OssClient, uri: str) -> DataObject:
    return next(client.list(uri))


def reader(client: OssClient, uri: str) -> OssReader:
    return client.reader(uri)


KINDS = [in_memory, opened, listed, reader]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def stream(request: pytest.FixtureRequest, client: OssClient, bucket: str) -> Any:
    uri = f"oss://{bucket}/object"
    client.put(uri, CONTENT)
    return request.param(client, uri)


def into(method: str, size: int) -> Callable[[Any], object]:
    def call(stream: Any) -> object:
        buffer = bytearray(size)
        count = getattr(stream, method)(buffer)
        return count, bytes(buffer[:count])

    return call


#: What each stream returns as io.BytesIO does, in this order.
CALLS: dict[str, Callable[[Any], object]] = {
    "flags": lambda stream: (stream.readable(), stream.seekable(), stream.isatty(), stream.closed),
    "tell at the start": lambda stream: stream.tell(),
    "read nothing": lambda stream: stream.read(0),
    "read some": lambda stream: stream.read(3),
    "read1 some": lambda stream: stream.read1(3),
    "readline": lambda stream: stream.readline(),
    "readline with a limit": lambda stream: stream.readline(7),
    "readinto": into("readinto", 10),
    "readinto1": into("readinto1", 10),
    "next": next,
    "tell": lambda stream: stream.tell(),
    "seek back": lambda stream: stream.seek(-4, io.SEEK_END),
    "read past the end": lambda stream: stream.read(100),
    "read at the end": lambda stream: stream.read(),
    "read1 at the end": lambda stream: stream.read1(),
    "readline at the end": lambda stream: stream.readline(),
    "readinto at the end": into("readinto", 10),
    "next at the end": lambda stream: next(stream, None),
    "seek beyond the end": lambda stream: stream.seek(100_000),
    "read beyond the end": lambda stream: stream.read(1),
    "read1 beyond the end": lambda stream: stream.read1(1),
    "seek far before the start": lambda stream: stream.seek(-200_000, io.SEEK_CUR),
    "readlines with a hint": lambda stream: stream.readlines(1),
    "readlines": lambda stream: stream.readlines(),
    "seek to the start": lambda stream: stream.seek(0),
    "lines": list,
    "back again": lambda stream: stream.seek(2, io.SEEK_SET),
    "read with None": lambda stream: stream.read(None),
    "flush": lambda stream: stream.flush(),
}


def test_calls_return_what_bytesio_returns(stream: Any) -> None:
    model = io.BytesIO(CONTENT)
    for name, call in CALLS.items():
        assert call(stream) == call(model), name
        assert stream.tell() == model.tell(), name


@pytest.mark.parametrize("method", ["read1", "readinto1"])
def test_one_request_returns_something_and_then_the_rest(stream: Any, method: str) -> None:
    found = bytearray()
    while piece := stream.read1() if method == "read1" else into("readinto1", 10_000)(stream)[1]:  # type: ignore[index]
        found += piece
    assert found == CONTENT


REFUSED: list[Callable[[Any], object]] = [
    lambda stream: stream.fileno(),
    lambda stream: stream.detach(),
    lambda stream: stream.truncate(),
    lambda stream: stream.truncate(3),
    lambda stream: stream.write(b"bytes"),
    lambda stream: stream.writelines([b"line"]),
]


@pytest.mark.parametrize("call", REFUSED)
def test_operations_of_a_writer_or_a_file_are_unsupported(stream: Any, call: Callable[[Any], object]) -> None:
    with pytest.raises(io.UnsupportedOperation):
        call(stream)
    assert stream.read() == CONTENT


def test_wrong_arguments_are_refused_and_move_nothing(stream: Any) -> None:
    stream.seek(3)
    for offset, whence in ((-1, io.SEEK_SET), (0, 7), (0, -1)):
        with pytest.raises(ValueError, match=r"negative seek value|invalid whence"):
            stream.seek(offset, whence)
    for method in ("readinto", "readinto1"):
        for buffer in (b"read-only", memoryview(bytearray(10))[::2]):
            with pytest.raises((TypeError, BufferError)):
                getattr(stream, method)(buffer)
    assert stream.tell() == 3


CLOSED: list[Callable[[Any], object]] = [
    lambda stream: stream.read(),
    lambda stream: stream.read1(),
    lambda stream: stream.readinto(bytearray(1)),
    lambda stream: stream.readinto1(bytearray(1)),
    lambda stream: stream.readline(),
    lambda stream: stream.readlines(),
    lambda stream: stream.seek(0),
    lambda stream: stream.tell(),
    lambda stream: stream.flush(),
    lambda stream: stream.readable(),
    lambda stream: stream.writable(),
    lambda stream: stream.seekable(),
    lambda stream: stream.isatty(),
    lambda stream: stream.__enter__(),
    iter,
    next,
]


@pytest.mark.parametrize("call", CLOSED)
def test_a_closed_stream_refuses_every_call(stream: Any, call: Callable[[Any], object]) -> None:
    with stream as entered:
        assert entered is stream
        assert not stream.closed
    assert stream.closed
    stream.close()
    with pytest.raises(ValueError, match="I/O operation on closed"):
        call(stream)
