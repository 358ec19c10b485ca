"""OssReader when requests fail: temporary faults are invisible, others raise, and two versions are never mixed."""

import io
from collections.abc import Callable
from typing import Any

import pytest
import torch

from osstorchconnector import (
    OssError,
    OssIntegrityError,
    OssNotFoundError,
    OssReader,
)
from osstorchconnector.testing import Emulator, FaultRule
from tests.native.readers import CONTENTS, KIB, MIB, content_of, open_with

RIGHT: list[FaultRule] = [
    {"reset": "before", "times": 2},
    {"reset": "middle", "times": 2},
    {"reset": 10, "times": 2},
    {"truncate": "before", "times": 2},
    {"truncate": "middle", "times": 2},
    {"stall": "middle", "times": 1},
    {"error": "InternalError", "times": 3},
    {"error": "ServiceUnavailable", "probability": 0.4, "seed": 3},
    {"throttle": 0.05, "times": 6},
    {"clock_skew": 3600},
    {"delay": 0.1, "times": 3},
    {"bandwidth": 3_000_000},
]


def read_through(reader: OssReader) -> bytes:
    return b"".join(iter(lambda: reader.read(70_001), b""))


def read_at_once(reader: OssReader) -> bytes:
    return reader.read()


def read_into(reader: OssReader) -> bytes:
    buffer = bytearray(reader.size)
    assert reader.readinto(buffer) == reader.size
    return bytes(buffer)


def read_backwards(reader: OssReader) -> bytes:
    pieces = []
    for start in reversed(range(0, reader.size, 300_007)):
        reader.seek(start)
        pieces.append(reader.read(300_007))
    return b"".join(reversed(pieces))


WAYS = [read_through, read_at_once, read_into, read_backwards]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("fault", RIGHT, ids=str)
def test_a_fault_that_passes_is_invisible(server: Emulator, way: Callable[[OssReader], bytes], fault: Any) -> None:
    content = CONTENTS[3 * MIB + 17]
    reader = open_with(server, len(content), read_timeout=1, max_attempts=8, part_size=512 * KIB)
    with server.fault(operation="GetObject", **fault) as acting:
        assert way(reader) == content
        assert acting.acted > 0


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "fault", [{"reset": "middle"}, {"truncate": 5}, {"error": "AccessDenied"}, {"throttle": 0.01}], ids=str
)
def test_a_fault_that_stays_is_reported(server: Emulator, way: Callable[[OssReader], bytes], fault: Any) -> None:
    reader = open_with(server, 3 * MIB + 17, max_attempts=2)
    with server.fault(operation="GetObject", **fault), pytest.raises(OssError) as caught:
        way(reader)
    assert (caught.value.bucket, caught.value.key) == ("objects", str(3 * MIB + 17))
    # It can be read once the fault is gone.
    reader.seek(0)
    assert reader.read() == CONTENTS[3 * MIB + 17]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("fault", [{"flip": "middle", "nth": 2}, {"flip": 7, "nth": 1}], ids=str)
def test_a_flipped_byte_is_noticed_in_whatever_order_it_is_read(
    server: Emulator, way: Callable[[OssReader], bytes], fault: Any
) -> None:
    reader = open_with(server, 3 * MIB + 17)
    with (
        server.fault(operation="GetObject", **fault),
        pytest.raises(OssIntegrityError, match="CRC-64") as caught,
    ):
        way(reader)
    assert caught.value.key == str(3 * MIB + 17)
    # It stays so: some of its bytes may have been handed out.
    with pytest.raises(OssIntegrityError):
        reader.read(1)
    reader.close()


def test_a_flipped_byte_fails_torch_load(server: Emulator) -> None:
    state = {f"layer.{index}": torch.randn(300_000) for index in range(10)}
    buffer = io.BytesIO()
    torch.save(state, buffer)
    server.client().put("oss://objects/flipped", buffer.getvalue())
    for nth in (3, 5):
        with (
            server.fault(operation="GetObject", flip="middle", nth=nth),
            pytest.raises(OssIntegrityError, match="CRC-64"),
        ):
            torch.load(open_with(server, "flipped"))


def test_the_error_that_completes_a_block_is_reported_once(server: Emulator) -> None:
    reader = open_with(server, 700_001)
    with (
        server.fault(operation="GetObject", flip="middle", nth=1),
        pytest.raises(OssIntegrityError) as caught,
        reader,
    ):
        reader.read()
    assert caught.value.__context__ is None
    assert reader.closed


@pytest.mark.parametrize("way", WAYS)
def test_a_replaced_object_is_never_mixed(server: Emulator, way: Callable[[OssReader], bytes]) -> None:
    client = server.client()
    client.put("oss://objects/replaced", content_of(2 * MIB))
    reader = open_with(server, "replaced")
    reader.read(10)
    client.put("oss://objects/replaced", content_of(2 * MIB, seed=2))
    with pytest.raises(OssIntegrityError, match="replaced"):
        way(reader)


def test_a_deleted_object_is_reported(server: Emulator) -> None:
    client = server.client()
    client.put("oss://objects/deleted", content_of(2 * MIB))
    reader = open_with(server, "deleted")
    reader.read(10)
    client.delete("oss://objects/deleted")
    reader.seek(MIB)
    with pytest.raises(OssNotFoundError):
        reader.read(10)
