import os
import pty
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from osstorchconnector import OssClient
from osstorchconnector.testing import Emulator

from .conftest import Osst, Start

KEYS = ("a.txt", "b/1.txt", "b/2.pt", "b/c/3.txt", "b-side", "d", "d/4")


@pytest.fixture
def filled(client: OssClient, bucket: str) -> str:
    for key in KEYS:
        client.put(f"oss://{bucket}/{key}", b"x" * 2000)
    return f"oss://{bucket}"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["{b}"], ["b/", "d/", "a.txt", "b-side", "d"]),
        (["{b}/"], ["b/", "d/", "a.txt", "b-side", "d"]),
        (["{b}/b"], ["b/c/", "b/1.txt", "b/2.pt"]),
        (["{b}/d"], ["d", "d/4"]),
        (["{b}/d/"], ["d/4"]),
        (["-r", "{b}"], sorted(KEYS)),
        (["-r", "{b}/b"], ["b/1.txt", "b/2.pt", "b/c/3.txt"]),
        (["{b}/b*"], ["b/c/", "b/1.txt", "b/2.pt", "b-side"]),
        (["{b}/*/*.txt"], ["b/1.txt"]),
        (["{b}/**/*.txt"], ["a.txt", "b/1.txt", "b/c/3.txt"]),
        (["{b}/**.pt", "{b}/a.txt"], ["b/2.pt", "a.txt"]),
        (["-r", "{b}", "--include", "*.txt", "--exclude", "b/c/**"], ["a.txt", "b/1.txt"]),
        (["-r", "{b}", "--newer", "1h", "--exclude", "?*.*"], ["b-side", "d", "d/4"]),
        (["-r", "{b}", "--newer", "2999-01-01"], []),
    ],
)
def test_what_is_listed(osst: Osst, filled: str, arguments: list[str], expected: list[str]) -> None:
    arguments = [argument.format(b=filled) for argument in arguments]
    ended = osst("ls", "--names", *arguments)
    assert (ended.status, ended.err) == (0, "")
    assert ended.lines == [f"{filled}/{key}" for key in expected]
    documents = osst("ls", "--json", *arguments).documents
    assert [document["uri"] for document in documents] == ended.lines
    assert all((document["type"] == "directory") == document["uri"].endswith("/") for document in documents)


def test_buckets_are_listed(osst: Osst, filled: str) -> None:
    assert f"{filled}/" in osst("ls").lines
    assert {"type": "bucket", "uri": f"{filled}/"} in osst("ls", "--json").documents


def test_a_line_has_time_size_and_uri(osst: Osst, filled: str, client: OssClient) -> None:
    time = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
    (line,) = osst("ls", f"{filled}/a.txt").lines
    assert re.fullmatch(rf"{time}     2\.0 KiB  {filled}/a\.txt", line)
    (line,) = osst("ls", "--bytes", f"{filled}/a.txt").lines
    assert re.fullmatch(rf"{time} +2000  {filled}/a\.txt", line)
    (document,) = osst("ls", "--json", f"{filled}/a.txt").documents
    found = client.stat(f"{filled}/a.txt")
    assert (document["size"], document["etag"], document["storage_class"]) == (2000, found.etag, "Standard")


def test_a_key_that_looks_like_a_pattern_is_named_without_globs(osst: Osst, client: OssClient, bucket: str) -> None:
    for key in ("a*", "ab"):
        client.put(f"oss://{bucket}/{key}", b"")
    assert len(osst("ls", f"oss://{bucket}/a*").lines) == 2
    assert osst("ls", "--names", "--no-glob", f"oss://{bucket}/a*").lines == [f"oss://{bucket}/a*"]


@pytest.mark.parametrize(
    ("uri", "complaint"),
    [
        ("{b}/absent", "there is nothing at {b}/absent: no object matches the prefix {b}/absent: the nearest"),
        ("{b}/z*", "there is nothing that matches {b}/z*"),
        ("/tmp", "'/tmp' is no oss:// URI"),
        ("oss://no-such-bucket-here", "no-such-bucket-here"),
        ("oss://UPPER/a", "oss://UPPER/a"),
    ],
)
def test_nothing_is_one_sentence(osst: Osst, filled: str, uri: str, complaint: str) -> None:
    ended = osst("ls", uri.format(b=filled))
    assert (ended.status, ended.out) == (1, "")
    assert ended.err.startswith("osst ls: ")
    assert complaint.format(b=filled) in ended.err
    assert len(ended.err.splitlines()) == 1


@pytest.mark.parametrize(("environment", "colour"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
def test_colour_is_for_terminals_that_want_it(
    start: Start,
    filled: str,
    environment: dict[str, str],
    colour: bool,  # noqa: FBT001 - a table
) -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0) as screen:
        with start("ls", filled, stdout=theirs, env={**os.environ, "TERM": "xterm", **environment}) as process:
            os.close(theirs)
            assert process.wait() == 0
        shown = screen.read(10_000)
    assert (b"\x1b[1;34m" in shown) is colour
    with start("ls", filled) as process:
        assert b"\x1b" not in process.communicate()[0]


def test_a_reader_that_went_away_ends_it_quietly(start: Start, client: OssClient, bucket: str) -> None:
    for number in range(3000):
        client.put(f"oss://{bucket}/{number:0200}", b"")
    with start("ls", "-r", f"oss://{bucket}") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_a_full_disk_is_one_sentence(start: Start, filled: str) -> None:
    with Path("/dev/full").open("wb") as full, start("ls", filled, stdout=full) as process:
        _, errors = process.communicate()
    assert (process.returncode, errors) == (1, b"osst ls: standard output: No space left on device\n")


@pytest.mark.parametrize("fault", [{"error": "AccessDenied"}, {"error": "InternalError"}, {"reset": "before"}])
def test_a_refusal_is_one_sentence(osst: Osst, emulator: Emulator, filled: str, fault: dict[str, Any]) -> None:
    with emulator.fault(bucket=filled.removeprefix("oss://"), **fault):
        ended = osst("ls", filled)
    assert (ended.status, ended.out) == (1, "")
    assert len(ended.err.splitlines()) == 1


def test_an_unreachable_host_is_one_sentence() -> None:
    from .conftest import PROGRAM  # noqa: PLC0415 - the only test that gives no connection

    command = [*PROGRAM, "ls", "oss://bucket", "--endpoint", "http://127.0.0.1:9", "--region", "r"]
    key = {"OSS_ACCESS_KEY_ID": "id", "OSS_ACCESS_KEY_SECRET": "made-up"}
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **key})
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("osst ls: ")
    assert len(ended.stderr.splitlines()) == 1
