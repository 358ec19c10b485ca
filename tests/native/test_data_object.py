"""A DataObject reads like io.BytesIO over the same bytes, whether the bytes are here or still in OSS."""

import io
import pickle
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from osstorchconnector import DataObject, OssClient, OssConfigError, new_data_object
from osstorchconnector._native import data_object_from_bytes

URI = "oss://bucket/dir/key"
SIZES = st.integers(min_value=-2, max_value=3000) | st.none()
STEPS = st.one_of(
    st.tuples(st.sampled_from(["read", "read1"]), SIZES),
    st.tuples(st.sampled_from(["readline"]), st.integers(min_value=-1, max_value=100) | st.none()),
    st.tuples(st.just("readlines"), st.integers(min_value=-1, max_value=200) | st.none()),
    st.tuples(st.sampled_from(["readinto", "readinto1"]), st.integers(min_value=0, max_value=3000)),
    st.tuples(st.just("seek"), st.integers(min_value=0, max_value=4000)),
    st.tuples(st.just("seek from here"), st.integers(min_value=-3000, max_value=3000)),
    st.tuples(st.just("seek from the end"), st.integers(min_value=-3000, max_value=100)),
    st.tuples(st.just("next"), st.none()),
    st.tuples(st.just("tell"), st.none()),
)
CONTENTS = st.binary(max_size=200) | st.lists(st.sampled_from([b"\n", b"line\n", b"x" * 90]), max_size=40).map(b"".join)


def here(content: bytes) -> DataObject:
    return data_object_from_bytes(URI, content, "ETAG", "label")


def do(stream: Any, step: str, argument: int | None) -> object:
    if step.startswith("readinto"):
        buffer = bytearray(argument or 0)
        count = getattr(stream, step)(buffer)
        return count, bytes(buffer[:count])
    if step == "seek from here":
        return stream.seek(argument, io.SEEK_CUR)
    if step == "seek from the end":
        return stream.seek(argument, io.SEEK_END)
    if step == "next":
        return next(stream, None)
    return stream.tell() if step == "tell" else getattr(stream, step)(argument)


class Pair:
    """Does each step with both and compares what they return and where they stand."""

    def __init__(self, item: DataObject, content: bytes) -> None:
        self.item = item
        self.model = io.BytesIO(content)

    def check(self, steps: list[tuple[str, int | None]]) -> None:
        for step, argument in steps:
            if step in {"read1", "readinto1"}:
                self._check_one_request(step, argument)
            else:
                assert do(self.item, step, argument) == do(self.model, step, argument), (step, argument)
            assert self.item.tell() == self.model.tell(), (step, argument)

    def _check_one_request(self, step: str, argument: int | None) -> None:
        # It may return less than asked, but something unless nothing is left or asked for.
        start = self.model.tell()
        found: Any = do(self.item, step, argument)
        data = found if step == "read1" else found[1]
        expected = self.model.read(argument if step == "read1" else (argument or 0))
        assert expected.startswith(data)
        assert bool(data) == bool(expected)
        self.model.seek(start + len(data))


@given(content=CONTENTS, steps=st.lists(STEPS, max_size=20))
def test_bytes_that_are_here(content: bytes, steps: list[tuple[str, int | None]]) -> None:
    Pair(here(content), content).check(steps)


@pytest.mark.slow(120)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=CONTENTS, steps=st.lists(STEPS, max_size=12))
def test_bytes_that_are_in_oss(
    client: OssClient, bucket: str, content: bytes, steps: list[tuple[str, int | None]]
) -> None:
    uri = f"oss://{bucket}/object"
    client.put(uri, content)
    Pair(client.open(uri), content).check(steps)
    Pair(client.head(uri), content).check(steps)
    Pair(next(client.list(uri)), content).check(steps)


def test_what_it_is() -> None:
    item = here(b"content")
    assert isinstance(cast("object", item), io.BufferedIOBase)
    assert (item.key, item.bucket, item.name, item.uri) == ("/bucket/dir/key", "bucket", "dir/key", URI)
    assert (item.size, item.label, item.etag) == (7, "label", "ETAG")
    assert (item.readable(), item.writable(), item.seekable(), item.isatty()) == (True, False, True, False)
    item.flush()
    with pytest.raises(AttributeError):
        item.size = 3  # type: ignore[misc]


def test_it_pickles_with_its_bytes_from_the_start() -> None:
    item = here(b"content")
    item.read(3)
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        restored = pickle.loads(pickle.dumps(item, protocol))
        assert (restored.uri, restored.size, restored.label, restored.etag) == (URI, 7, "label", "ETAG")
        assert restored.read() == b"content"


def test_an_object_in_oss_pickles_with_its_bytes(client: OssClient, bucket: str) -> None:
    uri = f"oss://{bucket}/a"
    client.put(uri, b"content")
    pickled = pickle.dumps(client.head(uri))
    client.delete(uri)
    assert pickle.loads(pickled).read() == b"content"


def test_a_copy_is_independent() -> None:
    item = here(b"content")
    item.read(3)
    copy = item.copy()
    assert copy.read() == b"content"
    assert item.read() == b"tent"
    item.close()
    copy.seek(0)
    assert copy.read() == b"content"


def test_closed_is_closed() -> None:
    item = here(b"content")
    with item as entered:
        assert entered is item
    assert item.closed
    item.close()
    for use in (item.read, item.readline, item.readlines, item.tell, lambda: item.seek(0), lambda: next(item)):
        with pytest.raises(ValueError, match="closed"):
            use()
    with pytest.raises(ValueError, match="closed"):
        item.readinto(bytearray(1))


@pytest.mark.parametrize(("offset", "whence"), [(-1, io.SEEK_SET), (0, 7), (0, -1)])
def test_a_wrong_seek_is_refused_and_moves_nothing(offset: int, whence: int) -> None:
    item = here(b"content")
    item.seek(3)
    with pytest.raises(ValueError, match=r"negative seek value|invalid whence"):
        item.seek(offset, whence)
    assert item.tell() == 3


def test_readinto_takes_any_writable_buffer() -> None:
    import array  # noqa: PLC0415

    numbers = array.array("I", [0, 0])
    assert here(b"\x01\x00\x00\x00\x02\x00\x00\x00rest").readinto(memoryview(numbers)) == 8
    assert list(numbers) == [1, 2]
    with pytest.raises((TypeError, BufferError)):
        here(b"content").readinto(b"read-only")  # type: ignore[arg-type, unused-ignore]
    with pytest.raises((TypeError, BufferError)):
        here(b"content").readinto(memoryview(bytearray(10))[::2])


def test_a_text_wrapper_reads_it() -> None:
    with io.TextIOWrapper(here("zwölf\nBoxkämpfer\n".encode()), encoding="utf-8") as text:
        assert text.readlines() == ["zwölf\n", "Boxkämpfer\n"]


def test_a_description_names_an_object() -> None:
    for key in ("oss://bucket/key", "/bucket/key"):
        item = new_data_object(key, 5, "label")
        assert (item.key, item.size, item.label, item.etag) == ("/bucket/key", 5, "label", None)
    for key in ("", "bucket/key", "oss://bucket", "http://bucket/key"):
        with pytest.raises(OssConfigError):
            new_data_object(key, 0)
