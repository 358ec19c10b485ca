"""OssReader: io.BytesIO over an object, however it is read, with little fetched and nothing kept."""

import array
import gc
import io
import mmap
import os
import pickle
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from osstorchconnector import (
    OssError,
    OssIntegrityError,
    OssNotFoundError,
    OssReader,
)
from osstorchconnector.testing import Emulator
from tests.native.readers import CONTENTS, KIB, MIB, WINDOWS, content_of, fetched, open_with

#: Around what is fetched at least, at both ends, and at the edges of ranges of the smallest window.
EDGES = [0, 1, 16 * KIB, 64 * KIB, 128 * KIB, 256 * KIB]
SIZES = st.one_of(
    st.integers(min_value=0, max_value=300),
    st.sampled_from(EDGES).flatmap(lambda edge: st.integers(min_value=max(0, edge - 2), max_value=edge + 2)),
    st.integers(min_value=0, max_value=600 * KIB),
)
STEPS = st.one_of(
    st.tuples(st.sampled_from(["read", "read1", "readinto", "readinto1"]), SIZES),
    st.tuples(st.sampled_from(["read", "read1", "readline"]), st.sampled_from([-1, None, 0])),
    st.tuples(st.just("readline"), st.integers(min_value=1, max_value=100_000)),
    st.tuples(st.just("seek"), SIZES),
    st.tuples(st.just("seek from here"), SIZES.map(lambda size: size - 200 * KIB)),
    st.tuples(st.just("seek from the end"), SIZES.map(lambda size: 1000 - size)),
    st.tuples(st.just("next"), st.none()),
)


def do(stream: Any, step: str, argument: Any) -> object:
    if step.startswith("readinto"):
        buffer = bytearray(argument)
        count = getattr(stream, step)(buffer)
        return count, bytes(buffer[:count])
    if step == "seek from here":
        return stream.seek(argument, io.SEEK_CUR)
    if step == "seek from the end":
        return stream.seek(argument, io.SEEK_END)
    if step == "next":
        return next(stream, None)
    return getattr(stream, step)(argument)


@pytest.mark.slow(240)
# What is skipped is longer than a request.
@example(
    size=100_000, window=64 * KIB, part=100 * KIB, threads=1, steps=[("readline", 1), ("seek", 32_769), ("read", -1)]
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    size=st.sampled_from(sorted(CONTENTS)),
    window=st.sampled_from(WINDOWS),
    part=st.sampled_from([100 * KIB, 8 * MIB]),
    threads=st.sampled_from([1, 3]),
    steps=st.lists(STEPS, max_size=25),
)
def test_it_reads_as_bytesio(
    server: Emulator, size: int, window: int, part: int, threads: int, steps: list[tuple[str, Any]]
) -> None:
    model = io.BytesIO(CONTENTS[size])
    with open_with(server, size, reader_window=window, part_size=part, io_threads=threads) as reader:
        for step, argument in steps:
            if step in {"read1", "readinto1"}:
                start = model.tell()
                found: Any = do(reader, step, argument)
                data = found if step == "read1" else found[1]
                expected = model.read(argument)
                assert expected.startswith(data)
                assert bool(data) == bool(expected)
                model.seek(start + len(data))
            else:
                assert do(reader, step, argument) == do(model, step, argument), (step, argument)
            assert reader.tell() == model.tell(), (step, argument)


def test_what_it_is(server: Emulator) -> None:
    reader = open_with(server, 1000)
    assert isinstance(cast("object", reader), io.BufferedIOBase)
    assert (reader.uri, reader.size, len(reader.etag)) == ("oss://objects/1000", 1000, 32)
    assert (reader.readable(), reader.writable(), reader.seekable(), reader.isatty()) == (True, False, True, False)
    assert repr(reader) == "OssReader(uri='oss://objects/1000', size=1000)"
    for refused in (
        reader.fileno,
        reader.detach,
        reader.truncate,
        lambda: reader.write(b"bytes"),
        lambda: reader.write("text"),
        lambda: reader.writelines([b"line"]),
    ):
        with pytest.raises(io.UnsupportedOperation):
            refused()
    with pytest.raises(TypeError, match=r"cannot pickle a reader.*open 'oss://objects/1000' again"):
        pickle.dumps(reader)


def test_closed_is_closed(server: Emulator) -> None:
    reader = open_with(server, 1000)
    with reader as entered:
        assert entered is reader
        assert not entered.closed
    assert reader.closed
    reader.close()
    uses: list[Callable[[], Any]] = [
        reader.read,
        reader.read1,
        reader.readline,
        reader.readlines,
        reader.tell,
        reader.flush,
        reader.readable,
        reader.__enter__,
        lambda: iter(reader),
        lambda: reader.seek(0),
        lambda: next(reader),
        lambda: reader.readinto(bytearray(1)),
    ]
    for use in uses:
        with pytest.raises(ValueError, match="closed"):
            use()


@pytest.mark.parametrize(("offset", "whence"), [(-1, io.SEEK_SET), (0, 7), (0, -1)])
def test_a_wrong_seek_is_refused_and_moves_nothing(server: Emulator, offset: int, whence: int) -> None:
    reader = open_with(server, 1000)
    reader.seek(3)
    with pytest.raises(ValueError, match=r"negative seek value|invalid whence"):
        reader.seek(offset, whence)
    assert reader.tell() == 3


def test_a_missing_object_is_reported_when_it_is_opened(server: Emulator) -> None:
    with pytest.raises(OssNotFoundError):
        open_with(server, "missing")


@pytest.mark.parametrize(
    "memory",
    [
        bytearray,
        lambda size: memoryview(bytearray(size + 10))[5:-5],
        lambda size: np.empty(size, np.uint8),
        lambda size: array.array("B", bytes(size)),
        lambda size: torch.empty(size, dtype=torch.uint8).numpy(),
        lambda size: np.empty((size // 17, 17), np.uint8),
        lambda size: np.empty(size // 4, np.float32),
    ],
)
@pytest.mark.parametrize("threads", [1, 2])
def test_readinto_fills_any_writable_memory(server: Emulator, memory: Any, threads: int) -> None:
    content = CONTENTS[3 * MIB + 17]
    buffer = memory(3 * MIB)
    reader = open_with(server, len(content), io_threads=threads)
    reader.seek(17)
    count = reader.readinto(buffer)
    assert count == memoryview(buffer).nbytes
    assert np.asarray(buffer).tobytes() == content[17 : 17 + count]


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE


@pytest.mark.skipif(
    sys.platform != "linux" or [int(part) for part in os.uname().release.split(".")[:2]] < [5, 14],
    reason="only Linux 5.14 and later can be asked for pages",
)
@pytest.mark.parametrize("many", [False, True])
def test_fresh_memory_is_present_before_its_bytes_arrive(server: Emulator, *, many: bool) -> None:
    content = content_of(16 * MIB)
    server.client().put("oss://objects/fresh", content)
    # A busy machine may need longer than the first answers take.
    present = any(present_before(server, content, delay, many=many) for delay in (1, 4, 10))
    assert present


def present_before(server: Emulator, content: bytes, delay: float, *, many: bool) -> bool:
    """Read into fresh memory; tell whether it was there, and still empty, before the answer came."""
    reader = open_with(server, "fresh")
    with (
        mmap.mmap(-1, len(content)) as memory,
        server.fault(operation="GetObject", delay=delay),
        ThreadPoolExecutor() as pool,
    ):
        before, end = resident(), time.monotonic() + 0.9 * delay
        reading = pool.submit(lambda: reader.readinto_many([(0, memory)]) if many else reader.readinto(memory))
        while resident() - before < 15 * MIB and time.monotonic() < end:
            time.sleep(0.01)
        present = time.monotonic() < end and memory[:] == bytes(len(content))
        reading.result()
        assert memory[:] == content
    return present


def test_readinto_refuses_what_it_cannot_fill(server: Emulator) -> None:
    reader = open_with(server, 1000)
    with pytest.raises((TypeError, BufferError)):
        reader.readinto(b"read-only")  # type: ignore[arg-type, unused-ignore]
    with pytest.raises((TypeError, BufferError)):
        reader.readinto(memoryview(bytearray(10))[::2])
    assert reader.tell() == 0


def test_nothing_is_fetched_before_the_first_read_and_then_both_ends(server: Emulator) -> None:
    server.clear_requests()
    reader = open_with(server, 3 * MIB + 17)
    reader.seek(0, io.SEEK_END)
    reader.seek(0)
    assert server.requests(operation="GetObject") == []
    reader.read(4)
    reader.seek(-22, io.SEEK_END)
    reader.read()
    ranges = sorted(request.range or "" for request in server.requests(operation="GetObject"))
    assert ranges == [f"bytes=0-{128 * KIB - 1}", f"bytes={3 * MIB + 17 - 128 * KIB}-{3 * MIB + 16}"]


def test_a_small_object_is_one_request(server: Emulator) -> None:
    server.clear_requests()
    reader = open_with(server, 256 * KIB)
    assert reader.read(10) == CONTENTS[256 * KIB][:10]
    reader.seek(-10, io.SEEK_END)
    assert reader.read() == CONTENTS[256 * KIB][-10:]
    assert len(server.requests()) == 2


def test_random_access_fetches_little_more_than_asked(server: Emulator) -> None:
    content = CONTENTS[3 * MIB + 17]
    reader = open_with(server, len(content))
    reader.seek(MIB)
    server.clear_requests()
    for position in (2 * MIB, MIB, 2 * MIB + 300 * KIB, MIB + 500 * KIB):
        reader.seek(position)
        assert reader.read(100) == content[position : position + 100]
    assert fetched(server) == 4 * 64 * KIB


def test_seeks_inside_the_window_cost_nothing(server: Emulator) -> None:
    content = CONTENTS[3 * MIB + 17]
    reader = open_with(server, len(content))
    while reader.tell() < 2 * MIB:
        reader.read(100_000)
    for position in (MIB, 0, 1_500_000, 2 * MIB, 300 * KIB, 2 * MIB + 10):
        reader.seek(position)
        assert reader.read(1000) == content[position : position + 1000]
    reader.read()
    # It was fetched once.
    server_bytes = fetched_of(server, reader)
    assert server_bytes == len(content)


def fetched_of(server: Emulator, reader: OssReader) -> int:
    """Return the bytes fetched since this reader was opened."""
    requests = server.requests()
    opened = max(index for index, request in enumerate(requests) if request.operation == "HeadObject")
    assert f"oss://objects/{requests[opened].key}" == reader.uri
    return sum(request.response_bytes for request in requests[opened:] if request.operation == "GetObject")


def test_a_reader_that_goes_on_far_away_does_not_wait_for_what_was_ahead(server: Emulator) -> None:
    content = content_of(24 * MIB)
    server.client().put("oss://objects/far", content)
    reader = open_with(server, "far")
    for _ in range(100):
        reader.read(50 * KIB)
    reader.seek(20 * MIB)
    assert reader.read(100) == content[20 * MIB : 20 * MIB + 100]
    reader.seek(5 * MIB)
    assert reader.read() == content[5 * MIB :]


@pytest.mark.parametrize("shape", [[10], [300_000], [2_000_000, 10, 500_000, 3], [100] * 2000, [40_000] * 100])
def test_torch_load_fetches_each_byte_once(server: Emulator, shape: list[int]) -> None:
    state = {f"layer.{index}": torch.randn(size) for index, size in enumerate(shape)}
    buffer = io.BytesIO()
    torch.save(state, buffer)
    server.client().put("oss://objects/state", buffer.getvalue())
    reader = open_with(server, "state")
    loaded = torch.load(reader)
    assert list(loaded) == list(state)
    assert all(torch.equal(loaded[name], state[name]) for name in state)
    assert fetched_of(server, reader) <= len(buffer.getvalue()) * 1.05


@pytest.mark.parametrize("threads", [1, 2])
def test_requests_run_in_parallel(server: Emulator, threads: int) -> None:
    content = content_of(20 * MIB)
    server.client().put("oss://objects/parallel", content)
    reader = open_with(server, "parallel", io_threads=threads)
    with server.fault(operation="GetObject", delay=0.2):
        server.clear_requests()
        buffer = bytearray(len(content))
        assert reader.readinto(buffer) == len(content)
        assert buffer == content
        assert 8 <= server.peak_concurrency() <= 24


def test_what_is_ahead_of_the_reader_stays_within_the_window() -> None:
    window, size = 4 * MIB, 64 * MIB
    with Emulator(buckets=["objects"], etag="fast") as server:
        server.client().put("oss://objects/large", bytes(size))
        server.clear_requests()
        reader = open_with(server, "large", reader_window=window)
        while reader.tell() < size // 2:
            reader.read(64 * KIB)
            ahead = fetched(server) - reader.tell() if reader.tell() % (8 * MIB) == 0 else 0
            assert ahead <= window


@pytest.mark.slow(60)
def test_a_long_read_keeps_no_more_than_its_window() -> None:
    program = """
import sys
from pathlib import Path
from osstorchconnector import OssClient, OssConfig

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

client = OssClient(sys.argv[1], config=OssConfig(anonymous=True, reader_window=16 << 20, io_threads=1))
reader = client.reader("oss://objects/large")
reader.read(1)
before = peak()
while reader.read(100_000):
    pass
print(peak() - before)
"""
    with Emulator(buckets=["objects"], etag="fast", verify_signatures=False) as server:
        server.client().put("oss://objects/large", bytes(256 * MIB))
        output = subprocess.run(
            [sys.executable, "-c", program, server.endpoint], capture_output=True, text=True, check=True
        ).stdout
    # Buffers that are free belong to the pool, and malloc rounds up.
    assert int(output) * KIB <= 28 * MIB


def test_threads_may_share_it(server: Emulator) -> None:
    content = CONTENTS[3 * MIB + 17]
    reader = open_with(server, len(content), io_threads=2)
    found: list[bytes] = []

    def read() -> None:
        while piece := reader.read(10_007):
            found.append(piece)

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert reader.tell() == len(content)
    # Each call is whole: the pieces are those of one reader, in some order.
    expected = [content[start : start + 10_007] for start in range(0, len(content), 10_007)]
    assert sorted(found) == sorted(expected)


def test_it_keeps_its_client_alive(server: Emulator) -> None:
    client = server.client()
    reader = client.reader("oss://objects/1000")
    del client
    gc.collect()
    assert reader.read() == CONTENTS[1000]


def test_other_readers_of_files_read_it(server: Emulator) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in (("one", b"1" * 200_000), ("two", content_of(500_000))):
            archive.writestr(name, content)
    server.client().put("oss://objects/zip", buffer.getvalue())
    with zipfile.ZipFile(open_with(server, "zip")) as archive:
        assert archive.testzip() is None
        assert archive.read("one") == b"1" * 200_000
    server.client().put("oss://objects/text", "zwölf\nBoxkämpfer\n".encode() * 20_000)
    with io.TextIOWrapper(open_with(server, "text"), encoding="utf-8") as text:
        assert text.readlines() == ["zwölf\n", "Boxkämpfer\n"] * 20_000


def test_another_process_cannot_use_it(server: Emulator) -> None:
    reader = open_with(server, 1000)
    reader.read(1)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            reader.read(1)
        except OssError as error:
            status = 0 if "belongs to process" in str(error) else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert reader.read() == CONTENTS[1000][1:]


@pytest.mark.parametrize("threads", [1, 2])
def test_many_ranges_are_read_by_threads_at_the_same_time(server: Emulator, threads: int) -> None:
    content = content_of(8 * MIB)
    server.client().put("oss://objects/shared", content)
    reader = open_with(server, "shared", io_threads=threads)
    buffers = [bytearray(MIB) for _ in range(8)]

    def read(number: int) -> None:
        reader.readinto_many([(number * MIB, buffers[number])], concurrent=True)

    with server.fault(operation="GetObject", delay=0.3):
        server.clear_requests()
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(read, range(8)))
        # One request each, and all of them together.
        assert len(server.requests(operation="GetObject")) == 8
        assert server.peak_concurrency() == 8
    assert b"".join(buffers) == content
    reader.close()


def test_many_ranges_are_compared_once_all_is_read_and_not_before(server: Emulator) -> None:
    content = CONTENTS[3 * MIB + 17]
    halves = [(0, bytearray(2 * MIB)), (2 * MIB, bytearray(MIB + 17))]
    for verify in (True, False):
        reader = open_with(server, len(content))
        with server.fault(operation="GetObject", flip="middle", nth=1):
            reader.readinto_many(halves[:1], concurrent=True, verify=verify)
        if verify:
            with pytest.raises(OssIntegrityError, match="CRC-64"):
                reader.readinto_many(halves[1:], concurrent=True)
            continue
        # Read again, they are right, and what was flipped is not held against the reader.
        assert halves[0][1] != content[: 2 * MIB]
        reader.readinto_many(halves, concurrent=True, verify=False)
        assert b"".join(half for _, half in halves) == content
        reader.close()


# What a read does about each fault.
