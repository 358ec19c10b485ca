"""Files that others made or damaged: they load, or are refused, exactly as by the safetensors library."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import safetensors
import safetensors.torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from osstorchconnector import (
    OssClient,
    OssFormatError,
    OssSafetensor,
)
from osstorchconnector.testing import Emulator
from tests.safetensor.test_safetensor import same

HEADER = b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'


def file_of(header: bytes, data: bytes = b"", length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def entry(**changes: Any) -> bytes:
    return json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}}).encode()


TWO = b'{"a":{"dtype":"U8","shape":[4],"data_offsets":[%d,%d]},"b":{"dtype":"U8","shape":[4],"data_offsets":[%d,%d]}}'
CORPUS = {
    "good": file_of(HEADER, bytes(8)),
    "spaces": file_of(HEADER + b"   ", bytes(8)),
    "unsorted": file_of(TWO % (4, 8, 0, 4), bytes(8)),
    "double key": file_of(HEADER[:-1] + b"," + HEADER[1:], bytes(8)),
    "metadata": file_of(b'{"__metadata__":{"a":"b"}}'),
    "metadata null": file_of(b'{"__metadata__":null}'),
    "metadata number": file_of(b'{"__metadata__":{"a":1}}'),
    "metadata list": file_of(b'{"__metadata__":[]}'),
    "no object": b"",
    "short length": b"\0\0\0",
    "no header": struct.pack("<Q", 0),
    "length beyond the end": file_of(HEADER, bytes(8), 1000),
    "length of 2**63": file_of(HEADER, bytes(8), 1 << 63),
    "length of 2**64-1": file_of(HEADER, bytes(8), (1 << 64) - 1),
    "length above the limit": file_of(HEADER, bytes(8), 100_000_001),
    "no JSON": file_of(b'{"a":'),
    "no UTF-8": file_of(b'{"\xff":{}}'),
    "space first": file_of(b" " + HEADER, bytes(8)),
    "list": file_of(b"[]"),
    "nested": file_of(b"[" * 100_000),
    "NaN": file_of(entry(shape=[float("nan")]), bytes(8)),
    "truncated": file_of(HEADER, bytes(7)),
    "too long": file_of(HEADER, bytes(9)),
    "overlap": file_of(TWO % (0, 4, 2, 6), bytes(6)),
    "same place": file_of(TWO % (0, 4, 0, 4), bytes(4)),
    "hole": file_of(TWO % (0, 4, 5, 9), bytes(9)),
    "hole first": file_of(entry(data_offsets=[4, 12]), bytes(12)),
    "backwards": file_of(entry(data_offsets=[8, 0]), bytes(8)),
    "negative": file_of(entry(data_offsets=[-8, 0]), bytes(8)),
    "huge": file_of(entry(data_offsets=[0, 1 << 63]), bytes(8)),
    "fraction": file_of(entry(data_offsets=[0.0, 8.0]), bytes(8)),
    "one offset": file_of(entry(data_offsets=[8]), bytes(8)),
    "three offsets": file_of(entry(data_offsets=[0, 8, 8]), bytes(8)),
    "shape too large": file_of(entry(shape=[3]), bytes(8)),
    "shape overflows": file_of(entry(shape=[1 << 62, 1 << 62]), bytes(8)),
    "shape overflows to 8": file_of(entry(shape=[1 << 32, 1 << 32, 2]), bytes(8)),
    "shape negative": file_of(entry(shape=[-2]), bytes(8)),
    "shape text": file_of(entry(shape="2"), bytes(8)),
    "shape of truth": file_of(entry(shape=[True]), bytes(8)),
    "type unknown": file_of(entry(dtype="F33"), bytes(8)),
    "type number": file_of(entry(dtype=1), bytes(8)),
    "no type": file_of(b'{"a":{"shape":[2],"data_offsets":[0,8]}}', bytes(8)),
    "more fields": file_of(entry(more=1), bytes(8)),
    "half a byte": file_of(entry(dtype="F4", shape=[1], data_offsets=[0, 1]), bytes(1)),
    "zip": b"PK\3\4" + bytes(100),
}


@pytest.mark.parametrize("name", CORPUS)
def test_the_verdict_on_a_file_is_the_librarys(
    manager: OssSafetensor, client: OssClient, bucket: str, tmp_path: Path, name: str
) -> None:
    path, uri = tmp_path / "hostile", f"oss://{bucket}/hostile"
    path.write_bytes(CORPUS[name])
    client.put(uri, CORPUS[name])
    refusal = ""
    try:
        theirs = safetensors.torch.load_file(path)
    except safetensors.SafetensorError as error:
        refusal = str(error)
    except OSError:
        refusal = "not a safetensors file"
    if refusal:
        with pytest.raises(OssFormatError, match=uri) as caught:
            manager.load_file(uri)
        # If two tensors are wrong, the library names one of them, not always the same.
        assert refusal.partition("`")[0] in str(caught.value)
    else:
        ours = manager.load_file(uri)
        assert ours.keys() == theirs.keys()
        assert all(same(ours[key], theirs[key]) for key in theirs)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 200), byte=st.integers(0, 255), cut=st.integers(0, 3))
def test_the_verdict_on_a_spoiled_file_is_the_librarys(
    manager: OssSafetensor, client: OssClient, bucket: str, tmp_path: Path, place: int, byte: int, cut: int
) -> None:
    spoiled = bytearray(file_of(TWO % (0, 4, 4, 8), bytes(8)))
    spoiled[place % len(spoiled)] = byte
    path, uri = tmp_path / "hostile", f"oss://{bucket}/hostile"
    path.write_bytes(spoiled[: len(spoiled) - cut])
    client.put(uri, path.read_bytes())
    try:
        theirs = safetensors.torch.load_file(path)
    except Exception:  # noqa: BLE001 - the library raises several
        with pytest.raises(OssFormatError):
            manager.load_file(uri)
    else:
        assert manager.load_file(uri).keys() == theirs.keys()


def test_a_header_that_claims_to_be_too_long_is_not_fetched(
    manager: OssSafetensor, client: OssClient, bucket: str, emulator: Emulator
) -> None:
    uri = f"oss://{bucket}/long"
    client.put(uri, struct.pack("<Q", 3 << 20) + bytes(2 << 20))
    emulator.clear_requests()
    with pytest.raises(OssFormatError, match="header"):
        manager.load_file(uri)
    assert sum(request.response_bytes for request in emulator.requests(operation="GetObject")) < 2 << 20
