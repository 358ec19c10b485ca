"""Objects, readers and writers behave as io.BufferedIOBase says, for every method, open and closed."""

import importlib
import io
import pickle
import weakref
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest

from osstorchconnector import OssClient, SeekableWriter
from osstorchconnector._native import data_object_from_bytes

CONTENT = b"first line\nsecond line\n"

Kind = Callable[[OssClient, str], Any]


def object_in_memory(_client: OssClient, uri: str) -> Any:
    return data_object_from_bytes(uri, CONTENT)


def object_by_ranges(client: OssClient, uri: str) -> Any:
    return client.open(uri)


def reader(client: OssClient, uri: str) -> Any:
    return client.reader(uri)


def writer(client: OssClient, uri: str) -> Any:
    return client.writer(uri)


def seekable_writer(client: OssClient, uri: str) -> Any:
    return client.writer(uri, seekable=True)


READERS: list[Kind] = [object_in_memory, object_by_ranges, reader]
KINDS: list[Kind] = [*READERS, writer, seekable_writer]

#: Every method of io.BufferedIOBase, with arguments.
CALLS: dict[str, Callable[[Any], object]] = {
    "__enter__": lambda stream: stream.__enter__(),
    "__iter__": iter,
    "__next__": next,
    "detach": lambda stream: stream.detach(),
    "fileno": lambda stream: stream.fileno(),
    "flush": lambda stream: stream.flush(),
    "isatty": lambda stream: stream.isatty(),
    "read": lambda stream: stream.read(),
    "read1": lambda stream: stream.read1(),
    "readable": lambda stream: stream.readable(),
    "readinto": lambda stream: stream.readinto(bytearray(3)),
    "readinto1": lambda stream: stream.readinto1(bytearray(3)),
    "readline": lambda stream: stream.readline(),
    "readlines": lambda stream: stream.readlines(),
    "seek": lambda stream: stream.seek(0),
    "seekable": lambda stream: stream.seekable(),
    "tell": lambda stream: stream.tell(),
    "truncate": lambda stream: stream.truncate(),
    "writable": lambda stream: stream.writable(),
    "write": lambda stream: stream.write(b"bytes"),
    "writelines": lambda stream: stream.writelines([]),
}
ALWAYS_UNSUPPORTED = {"detach", "fileno"}
OF_READERS = {"__next__", "read", "read1", "readinto", "readinto1", "readline", "readlines", "seek"}
OF_WRITERS = {"truncate", "write", "writelines"}

UNSUPPORTED: dict[Kind, set[str]] = {
    object_in_memory: ALWAYS_UNSUPPORTED | OF_WRITERS,
    object_by_ranges: ALWAYS_UNSUPPORTED | OF_WRITERS,
    reader: ALWAYS_UNSUPPORTED | OF_WRITERS,
    writer: ALWAYS_UNSUPPORTED | OF_READERS | {"truncate"},
    seekable_writer: ALWAYS_UNSUPPORTED,
}


@pytest.fixture
def uri(client: OssClient, bucket: str) -> str:
    uri = f"oss://{bucket}/object"
    client.put(uri, CONTENT)
    return uri


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def kind(request: pytest.FixtureRequest) -> Any:
    return request.param


def end(stream: Any) -> None:
    if hasattr(stream, "abort"):
        stream.abort()


def test_every_method_is_called_here() -> None:
    # What a class of Python inherits from object, and what the table cannot call.
    other = {"close", "closed", "__exit__", "__del__"}
    public = {name for name in dir(io.BufferedIOBase) if not name.startswith("_")}
    own = {name for name in dir(io.BufferedIOBase) if name.startswith("__") and name not in dir(type("Empty", (), {}))}
    assert public | own - {"__abstractmethods__"} == set(CALLS) | other


@pytest.mark.parametrize("name", CALLS)
def test_an_open_stream_does_it_or_names_what_is_unsupported(
    client: OssClient, uri: str, kind: Kind, name: str
) -> None:
    stream = kind(client, uri)
    if name not in UNSUPPORTED[kind]:
        try:
            CALLS[name](stream)
        except StopIteration:
            assert (kind, name) == (seekable_writer, "__next__")
    else:
        expected = "readline" if name == "__next__" else name
        with pytest.raises(io.UnsupportedOperation, match=f"^{expected}: "):
            CALLS[name](stream)
        assert not stream.closed
    end(stream)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize(
    ("kind", "ending"),
    [*product(KINDS, ["close", "block"]), (writer, "abort"), (seekable_writer, "abort")],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_a_closed_stream_raises_value_error(client: OssClient, uri: str, kind: Kind, name: str, ending: str) -> None:
    stream = kind(client, uri)
    if ending == "block":
        with stream:
            pass
    else:
        getattr(stream, ending)()
    with pytest.raises(ValueError, match="I/O operation on closed") as caught:
        CALLS[name](stream)
    assert type(caught.value) is ValueError
    assert stream.closed
    stream.close()


@pytest.mark.parametrize("data", ["text", 1, None])
def test_a_closed_writer_says_that_first(client: OssClient, uri: str, data: Any) -> None:
    for kind in (writer, seekable_writer):
        stream = kind(client, uri)
        with pytest.raises(TypeError):
            stream.write(data)
        stream.abort()
        with pytest.raises(ValueError, match="closed"):
            stream.write(data)


def test_what_a_stream_can_do(client: OssClient, uri: str, kind: Kind) -> None:
    stream = kind(client, uri)
    reads, writes = kind is not writer, kind in {writer, seekable_writer}
    assert (stream.readable(), stream.writable(), stream.seekable()) == (reads, writes, reads)
    assert stream.isatty() is False
    assert stream.mode == ("wb" if kind is writer else "rb+" if kind is seekable_writer else "rb")
    assert stream.name == ("object" if kind in {object_in_memory, object_by_ranges} else uri)
    assert isinstance(stream, io.BufferedIOBase)
    assert weakref.ref(stream)() is stream
    assert iter(stream) is stream
    end(stream)


def test_the_names_and_modes_stay_after_close(client: OssClient, uri: str, kind: Kind) -> None:
    stream = kind(client, uri)
    before = (stream.name, stream.mode, stream.uri)
    end(stream)
    stream.close()
    assert (stream.name, stream.mode, stream.uri) == before


@pytest.mark.parametrize("name", ["seek", "truncate", "read", "readline"])
def test_a_writer_that_cannot_seek_names_the_one_that_can(client: OssClient, uri: str, name: str) -> None:
    stream = client.writer(uri)
    with pytest.raises(io.UnsupportedOperation, match=r"open it with writer\(uri, seekable=True\)"):
        CALLS[name](stream)
    stream.abort()


READ_CHECKS = [
    "testInit",
    "testRead",
    "testReadNoArgs",
    "testSeek",
    "testTell",
    "test_detach",
    "test_flush",
    "test_iterator",
    "test_read",
    "test_read1",
    "test_readinto",
    "test_readline",
    "test_readlines",
    "test_relative_seek",
    "test_seek",
    "test_tell",
]
WRITE_CHECKS = [
    "test_bytes_array",
    "test_flags",
    "test_getvalue",
    "test_overseek",
    "test_truncate",
    "test_unicode",
    "test_write",
    "test_writelines",
    "test_writelines_error",
]


def run_check(name: str, make: Callable[..., Any]) -> None:
    """Run a test of CPython's test_memoryio, which calls `make` with the content for io.BytesIO."""
    try:
        memoryio: Any = importlib.import_module("test.test_memoryio")
    except ModuleNotFoundError:
        pytest.skip("this Python is installed without its own tests")

    class Check(memoryio.PyBytesIOTest):  # type: ignore[misc]
        UnsupportedOperation = io.UnsupportedOperation
        ioclass = staticmethod(make)

    Check(name).debug()


@pytest.mark.parametrize("name", READ_CHECKS)
@pytest.mark.parametrize("kind", READERS, ids=lambda kind: kind.__name__)
def test_checks_of_cpython_for_reading(client: OssClient, uri: str, kind: Kind, name: str) -> None:
    def make(content: bytes = b"") -> Any:
        if kind is object_in_memory:
            return data_object_from_bytes(uri, content)
        client.put(uri, content)
        return kind(client, uri)

    run_check(name, make)


@pytest.mark.parametrize("name", [*READ_CHECKS, *WRITE_CHECKS])
def test_checks_of_cpython_for_writing_and_seeking(client: OssClient, uri: str, name: str) -> None:
    made: list[Any] = []

    def make(content: Any = b"") -> Any:
        class Valued(SeekableWriter):
            def getvalue(self) -> bytes:
                position = self.tell()
                self.seek(0)
                try:
                    return self.read()
                finally:
                    self.seek(position)

        stream = Valued(client.writer(uri))
        made.append(stream)
        stream.write(content)
        stream.seek(0)
        return stream

    try:
        run_check(name, make)
    finally:
        for stream in made:
            stream.abort()


def test_none_of_them_but_an_object_pickles(client: OssClient, uri: str, kind: Kind) -> None:
    stream = kind(client, uri)
    if kind in {object_in_memory, object_by_ranges}:
        assert pickle.loads(pickle.dumps(stream)).read() == CONTENT
    else:
        with pytest.raises(TypeError, match="pickle"):
            pickle.dumps(stream)
    end(stream)
