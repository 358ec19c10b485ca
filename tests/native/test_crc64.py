"""The checksum of parts, against what OSS says of the whole."""

import os

import pytest

from osstorchconnector._native import crc64, crc64_combine


def test_known_values() -> None:
    assert crc64(b"") == 0
    assert crc64(b"123456789") == 11051210869376104954
    assert crc64(memoryview(b"hello world")) == 5981764153023615706
    assert crc64(b"a" * 1_000_000) == 8794730974279819706


@pytest.mark.parametrize("length", [0, 1, 100, 100_000])
@pytest.mark.parametrize("cut", [0, 1, 77, 70_000])
def test_parts_make_the_whole(length: int, cut: int) -> None:
    data = os.urandom(length)
    first, second = data[:cut], data[cut:]
    assert crc64(second, crc64(first)) == crc64(data)
    assert crc64_combine(crc64(first), crc64(second), len(second)) == crc64(data)


def test_what_is_no_contiguous_buffer_is_refused() -> None:
    with pytest.raises(BufferError, match="not contiguous"):
        crc64(memoryview(bytes(10))[::2])
    with pytest.raises(TypeError):
        crc64("text")  # type: ignore[arg-type]
