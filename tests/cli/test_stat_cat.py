import os
from typing import Any

import pytest

from osstorchconnector import OssClient, WriteOptions
from osstorchconnector.testing import Emulator

from .conftest import Osst, Start

LARGE = os.urandom((9 << 20) + 17)


def test_stat_shows_what_a_head_request_tells(osst: Osst, client: OssClient, bucket: str) -> None:
    uri = f"oss://{bucket}/a"
    client.put(uri, b"x" * 1536, options=WriteOptions(metadata={"run": "7"}, storage_class="IA"))
    ended = osst("stat", uri)
    assert (ended.status, ended.err) == (0, "")
    assert ended.lines[0] == uri
    assert "  size: 1536 (1.5 KiB)" in ended.lines
    assert "  storage class: IA" in ended.lines
    assert "  metadata run: 7" in ended.lines
    (document,) = osst("stat", "--json", uri).documents
    found = client.stat(uri)
    assert (document["uri"], document["crc64"], document["metadata"]) == (uri, found.crc64, {"run": "7"})
    assert document["last_modified"] == f"{found.last_modified:%Y-%m-%dT%H:%M:%SZ}"


def test_patterns_of_stat_and_cat(osst: Osst, start: Start, client: OssClient, bucket: str) -> None:
    for key in ("a1", "a2", "b", "a3/x"):
        client.put(f"oss://{bucket}/{key}", key.encode())
    assert [item["uri"] for item in osst("stat", "--json", f"oss://{bucket}/a*").documents] == [
        f"oss://{bucket}/a1",
        f"oss://{bucket}/a2",
    ]
    with start("cat", f"oss://{bucket}/a*", f"oss://{bucket}/b") as process:
        assert process.communicate() == (b"a1a2b", b"")
    for command in ("stat", "cat"):
        ended = osst(command, f"oss://{bucket}/a3*")
        assert ended.status == 1
        assert "directories only" in ended.err
        assert "does not exist" in osst(command, f"oss://{bucket}/absent").err


@pytest.mark.parametrize("content", [b"", b"0123456789", LARGE], ids=["empty", "small", "large"])
@pytest.mark.parametrize(
    ("text", "part"),
    [
        (None, slice(None)),
        ("0-", slice(None)),
        ("2-4", slice(2, 5)),
        ("0-0", slice(0, 1)),
        ("5-", slice(5, None)),
        ("-3", slice(-3, None)),
        ("-99999999", slice(None)),
        ("3-99999999", slice(3, None)),
        ("99999999-", slice(99999999, None)),
    ],
)
def test_ranges(start: Start, client: OssClient, bucket: str, content: bytes, text: str | None, part: slice) -> None:
    client.put(f"oss://{bucket}/a", content)
    with start("cat", f"oss://{bucket}/a", *([] if text is None else [f"--range={text}"])) as process:
        output, errors = process.communicate()
    assert (process.returncode, errors) == (0, b"")
    assert output == content[part]


@pytest.mark.parametrize("text", ["5-2", "a-b", "5", "-", "", "-0", "1-2-3", "1.5-2"])
def test_what_is_no_range(osst: Osst, text: str) -> None:
    ended = osst("cat", "oss://bucket/a", f"--range={text}")
    assert (ended.status, ended.out) == (2, "")
    assert f"{text!r} is not a range" in ended.err


@pytest.mark.parametrize(
    "fault", [{"reset": "middle", "nth": 1}, {"error": "InternalError", "nth": 1}, {"delay": 0.035}]
)
def test_a_fault_on_the_way_changes_nothing(
    start: Start, client: OssClient, bucket: str, emulator: Emulator, fault: dict[str, Any]
) -> None:
    client.put(f"oss://{bucket}/a", LARGE)
    with emulator.fault(operation="GetObject", bucket=bucket, **fault), start("cat", f"oss://{bucket}/a") as process:
        assert process.communicate() == (LARGE, b"")


def test_a_reader_that_went_away_ends_it_quietly(start: Start, client: OssClient, bucket: str) -> None:
    client.put(f"oss://{bucket}/a", LARGE)
    with start("cat", f"oss://{bucket}/a") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141
