"""A writer: any bytes in any pieces become one object, all at once or not at all."""

import array
import ctypes
import io
import os
import pickle
import random
import signal
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from osstorchconnector import OssClient, OssConfig, OssConfigError, OssPermissionError
from osstorchconnector._native import crc64
from osstorchconnector.testing import Emulator, KeyPair
from tests.faults.objects import Held, ObjectServer
from tests.faults.readers import connect

PART = 100 * 1024
#: Of two parts in flight: longer writes are sent from where they are, but for their last two parts.
COPIED = 2 * PART
CONTENT = random.Random(7).randbytes(12 * PART + 777)
LIMIT = 10_000 * 5 * 1024**3


@pytest.fixture(scope="module")
def parts_client(emulator: Emulator) -> OssClient:
    """A client whose uploads have many parts and several I/O threads."""
    config = OssConfig(part_size=PART, upload_concurrency=2, io_threads=3)
    return OssClient(**emulator.connection, config=config)


@pytest.fixture
def uri(bucket: str) -> str:
    return f"oss://{bucket}/dir/object"


@pytest.fixture
def own_emulator() -> Iterator[Emulator]:
    """A server whose requests and faults are the test's own."""
    with Emulator(buckets=["bucket"]) as server:
        yield server


def test_it_is_a_stream_to_write_to(client: OssClient, uri: str) -> None:
    with client.writer(uri) as writer:
        assert issubclass(type(writer), io.BufferedIOBase)
        assert (writer.readable(), writer.writable(), writer.seekable(), writer.isatty()) == (False, True, False, False)
        assert (writer.closed, writer.tell(), writer.etag, writer.crc64) == (False, 0, None, None)
        writer.writelines([b"one\n", bytearray(b"two\n")])
        writer.flush()
        assert writer.tell() == 8
        unsupported: list[tuple[str, tuple[Any, ...]]] = [
            ("fileno", ()),
            ("detach", ()),
            ("seek", (0,)),
            ("truncate", ()),
            ("read", ()),
            ("readinto", (bytearray(1),)),
        ]
        for name, arguments in unsupported:
            with pytest.raises(io.UnsupportedOperation, match=name):
                getattr(writer, name)(*arguments)
        with pytest.raises(TypeError, match="does not pickle"):
            pickle.dumps(writer)
    assert client.get(uri) == b"one\ntwo\n"
    assert (writer.etag, writer.crc64) == (client.head(uri).etag, crc64(b"one\ntwo\n"))


@pytest.mark.parametrize(
    "data",
    [
        b"0123456789abcdef",
        bytearray(b"0123456789abcdef"),
        memoryview(b"0123456789abcdef")[3:11],
        array.array("d", [1.0, 2.0]),
        np.arange(24, dtype=np.float32).reshape(4, 6),
        np.zeros((0, 3)),
        torch.arange(10, dtype=torch.int16).numpy(),
        b"",
    ],
)
def test_it_takes_any_contiguous_buffer(client: OssClient, uri: str, data: Any) -> None:
    with client.writer(uri) as writer:
        assert writer.write(data) == memoryview(data).nbytes
    assert client.get(uri) == bytes(data)


def test_what_is_not_bytes_is_refused(client: OssClient, uri: str) -> None:
    with client.writer(uri) as writer:
        with pytest.raises(TypeError, match=r"not str: encode the text, or write it to an io\.TextIOWrapper"):
            writer.write("text")  # type: ignore[arg-type]
        for wrong in (1, None, ["a"], torch.zeros(3)):
            with pytest.raises(TypeError):
                writer.write(wrong)  # type: ignore[arg-type]
        with pytest.raises(BufferError, match="not contiguous"):
            writer.write(memoryview(bytearray(16))[::2])
        # None of it counts, and none of it harms.
        writer.write(b"good")
    assert client.get(uri) == b"good"


def test_without_a_write_the_object_is_empty(client: OssClient, uri: str) -> None:
    client.put(uri, b"previous")
    with client.writer(uri):
        pass
    assert client.get(uri) == b""


def test_after_the_end_there_is_nothing_to_do(client: OssClient, uri: str) -> None:
    for leave in ("close", "abort"):
        writer = client.writer(uri)
        writer.write(b"content")
        getattr(writer, leave)()
        writer.close()
        writer.abort()
        assert writer.closed
        for use in (lambda writer=writer: writer.write(b"more"), writer.tell, writer.flush):
            with pytest.raises(ValueError, match="closed"):
                use()
    assert client.get(uri) == b"content"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(
        st.one_of(
            st.integers(0, 5),
            st.integers(PART - 2, PART + 2),
            st.integers(COPIED, COPIED + 3 * PART),
            st.integers(0, 8 * PART),
        ),
        max_size=8,
    ),
    hint=st.sampled_from([None, 0, PART, 10 * PART]),
)
def test_any_sequence_of_writes_is_what_a_file_would_hold(
    parts_client: OssClient, uri: str, sizes: list[int], hint: int | None
) -> None:
    expected = io.BytesIO()
    with parts_client.writer(uri, size_hint=hint) as writer:
        for number, size in enumerate(sizes):
            piece = memoryview(CONTENT)[number : number + size]
            assert writer.write(piece) == expected.write(piece)
            assert writer.tell() == expected.tell()
    assert parts_client.get(uri) == expected.getvalue()
    assert writer.crc64 == crc64(expected.getvalue())


def test_memory_is_free_when_a_large_write_returns(parts_client: OssClient, uri: str) -> None:
    expected = CONTENT + CONTENT[::-1]
    buffer = bytearray(CONTENT)
    with parts_client.writer(uri) as writer:
        writer.write(buffer)
        buffer[:] = CONTENT[::-1]
        writer.write(buffer)
        buffer.clear()
    assert parts_client.get(uri) == expected


def test_an_object_below_one_part_is_one_request(own_emulator: Emulator) -> None:
    with own_emulator.client().writer("oss://bucket/a") as writer:
        writer.write(CONTENT)
    assert [request.operation for request in own_emulator.requests()] == ["PutObject"]


@pytest.mark.parametrize(("limits", "most"), [({"upload_bytes": 4 * PART}, 4), ({"upload_concurrency": 2}, 2)])
@pytest.mark.parametrize("piece", [1000, 5 * PART, len(CONTENT)])
def test_parts_in_flight_stay_within_the_budget(
    own_emulator: Emulator, limits: dict[str, int], most: int, piece: int
) -> None:
    config = OssConfig(part_size=PART, io_threads=2, **limits)  # type: ignore[arg-type]
    client = OssClient(**own_emulator.connection, config=config)
    own_emulator.fault(operation="UploadPart", delay=0.05)
    with client.writer("oss://bucket/a") as writer:
        for start in range(0, len(CONTENT), piece):
            writer.write(memoryview(CONTENT)[start : start + piece])
    assert 2 <= own_emulator.peak_concurrency() <= most
    assert client.get("oss://bucket/a") == CONTENT


def test_a_hint_makes_the_parts_larger(own_emulator: Emulator) -> None:
    client = OssClient(**own_emulator.connection, config=OssConfig(part_size=PART))
    for hint, parts in ((None, 13), (len(CONTENT), 13), (9_000 * 4 * PART, 3), (1 << 40, 0)):
        own_emulator.clear_requests()
        with client.writer("oss://bucket/a", size_hint=hint) as writer:
            writer.write(CONTENT)
        assert len(own_emulator.requests(operation="UploadPart")) == parts
        assert client.get("oss://bucket/a") == CONTENT


# The writer makes the memory of one part present, which is 5 GiB.
@pytest.mark.slow(120)
def test_more_than_an_object_may_have_is_reported_before_anything_is_sent(own_emulator: Emulator) -> None:
    client = own_emulator.client()
    client.put("oss://bucket/a", b"previous")
    own_emulator.clear_requests()
    with pytest.raises(OssConfigError, match=r"an object may have, which is \d+ \(48\.8 TiB\)"):
        client.writer("oss://bucket/a", size_hint=LIMIT + 1)
    for hint in (-1, 1 << 63, 1 << 70):
        with pytest.raises(OssConfigError, match=f"size_hint must be .* not {hint}"):
            client.writer("oss://bucket/a", size_hint=hint)
    with client.writer("oss://bucket/a", size_hint=LIMIT) as writer:
        # Nobody has so much memory: it is not looked at.
        endless = _unread_memory(LIMIT - 2)
        writer.write(b"abc")
        with pytest.raises(OssConfigError, match=r"48\.8 TiB"):
            writer.write(endless)
        with pytest.raises(OssConfigError, match=r"48\.8 TiB"):
            writer.write(b"more")
        writer.abort()
    assert own_emulator.requests() == []
    assert client.get("oss://bucket/a") == b"previous"


def _unread_memory(length: int) -> memoryview:
    start = ctypes.addressof(ctypes.create_string_buffer(1))
    return memoryview((ctypes.c_char * length).from_address(start)).cast("B")


@pytest.mark.parametrize("size", [10, len(CONTENT)])
def test_it_serves_what_writes_to_files(parts_client: OssClient, uri: str, size: int) -> None:
    content = CONTENT[:size]
    with parts_client.writer(uri) as writer, zipfile.ZipFile(writer, "w") as archive:
        archive.writestr("member", content)
    assert zipfile.ZipFile(io.BytesIO(parts_client.get(uri))).read("member") == content
    with parts_client.writer(uri) as writer, tarfile.open(fileobj=writer, mode="w|gz") as tar:
        member = tarfile.TarInfo("member")
        member.size = size
        tar.addfile(member, io.BytesIO(content))
    with tarfile.open(fileobj=io.BytesIO(parts_client.get(uri))) as tar:
        extracted = tar.extractfile("member")
        assert extracted is not None
        assert extracted.read() == content
    text_writer: Any = parts_client.writer(uri)
    with text_writer, io.TextIOWrapper(text_writer, encoding="utf-8") as text:
        text.write("größer")
    assert parts_client.get(uri).decode() == "größer"
    with parts_client.writer(uri) as writer:
        pickle.dump(content, writer)
    assert pickle.loads(parts_client.get(uri)) == content


def test_threads_that_close_together_publish_once(own_emulator: Emulator) -> None:
    client = OssClient(**own_emulator.connection, config=OssConfig(part_size=PART))
    writer = client.writer("oss://bucket/a")
    writer.write(CONTENT)
    barrier = threading.Barrier(6)
    failures: list[BaseException] = []

    def close() -> None:
        barrier.wait(10)
        try:
            writer.close()
        except BaseException as error:  # noqa: BLE001 - told below, in the thread of the test
            failures.append(error)

    threads = [threading.Thread(target=close) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert failures == []
    assert len(own_emulator.requests(operation="CompleteMultipartUpload")) == 1
    assert client.get("oss://bucket/a") == CONTENT


def test_threads_that_write_together_lose_nothing(parts_client: OssClient, uri: str) -> None:
    with parts_client.writer(uri) as writer:

        def write(letter: bytes) -> None:
            for _ in range(50):
                writer.write(letter * 7_777)

        threads = [threading.Thread(target=write, args=(bytes([letter]),)) for letter in b"abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    content = parts_client.get(uri)
    pieces = [content[start : start + 7_777] for start in range(0, len(content), 7_777)]
    assert sorted(pieces) == sorted(bytes([letter]) * 7_777 for letter in b"abcd" for _ in range(50))


def test_a_signal_handler_that_uses_the_writer_raises_instead_of_waiting_for_itself() -> None:
    with (
        ObjectServer({"a": b"previous"}, held := Held(), where=lambda request: request.method == "PUT") as server,
        held,
    ):
        client = OssClient(**connect(server, part_size=PART, upload_concurrency=1))
        writer = client.writer("oss://scripted-bucket/a")
        before = signal.signal(signal.SIGUSR1, lambda *_: writer.abort())

        def send() -> None:
            server.wait_for(1, lambda request: request.method == "PUT")
            os.kill(os.getpid(), signal.SIGUSR1)

        sender = threading.Thread(target=send)
        sender.start()
        try:
            with pytest.raises(RuntimeError, match="let the signal's handler raise instead"):
                writer.write(CONTENT)
        finally:
            sender.join(10)
            signal.signal(signal.SIGUSR1, before)
        with pytest.raises(RuntimeError):
            writer.close()
        writer.abort()
        server.wait_for(1, lambda request: request.method == "DELETE")
        assert server.contents == {"a": b"previous"}


def test_a_block_that_raises_raises_its_own_exception_though_the_upload_cannot_be_taken_back(
    own_emulator: Emulator,
) -> None:
    client = OssClient(**own_emulator.connection, config=OssConfig(part_size=PART))
    own_emulator.fault(operation="AbortMultipartUpload", error="AccessDenied")

    def fail_while_writing() -> None:
        with client.writer("oss://bucket/a") as writer:
            writer.write(CONTENT)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        fail_while_writing()
    (note,) = caught.value.__notes__
    assert "the unfinished upload could not be aborted, its parts remain" in note
    assert "AccessDenied" in note


def test_a_key_that_may_not_write_is_reported(own_emulator: Emulator) -> None:
    client = OssClient(**own_emulator.connection, config=OssConfig(part_size=PART))
    client.put("oss://bucket/a", b"previous")
    for operation in ("PutObject", "InitiateMultipartUpload"):
        own_emulator.fault(operation=operation, error="AccessDenied")
    for content in (b"small", CONTENT):
        with pytest.raises(OssPermissionError) as caught, client.writer("oss://bucket/a") as writer:
            writer.write(content)
        assert (caught.value.code, caught.value.key) == ("AccessDenied", "a")
    assert client.get("oss://bucket/a") == b"previous"


def test_keys_that_expire_in_the_middle_of_an_upload_are_renewed() -> None:
    keys = [KeyPair(f"id-{number}", f"secret-{number}", f"token-{number}") for number in range(2)]
    asked = iter([keys[0], *[keys[1]] * 9])

    class Provider:
        def get_credentials(self) -> KeyPair:
            return next(asked)

    with Emulator(buckets=["bucket"], key_pairs=keys) as emulator:
        config = OssConfig(part_size=PART, upload_concurrency=2)
        client = OssClient(emulator.endpoint, cred_provider=Provider(), region=emulator.region, config=config)
        fault = emulator.fault(operation="UploadPart", nth=5, expired_token=True)
        with client.writer("oss://bucket/a") as writer:
            writer.write(CONTENT)
        assert fault.acted == 1
        assert next(asked) is keys[1]
        assert emulator.client().get("oss://bucket/a") == CONTENT
