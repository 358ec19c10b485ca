"""`osst cp` of several files and patterns, its limits, and its behaviour on a bad network."""

import os
import resource
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from osstorchconnector import OssClient
from osstorchconnector.testing import Emulator

from .conftest import PROGRAM, Osst, Start

LARGE = os.urandom(9 << 20)
KEYS = ("a.pt", "b.pt", "c.txt", "d/e.pt", "d/f/g.pt")


@pytest.fixture
def filled(client: OssClient, bucket: str) -> str:
    for key in KEYS:
        client.put(f"oss://{bucket}/run/{key}", key.encode())
    return f"oss://{bucket}/run"


def held(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["{b}/*.pt", "{d}/"], ["a.pt", "b.pt"]),
        (["{b}/**.pt", "{d}/"], ["a.pt", "b.pt", "d/e.pt", "d/f/g.pt"]),
        (["{b}/d/**", "{d}/"], ["e.pt", "f/g.pt"]),
        (["-r", "{b}/d*", "{d}"], ["d/e.pt", "d/f/g.pt"]),
        (["-r", "{b}", "{d}", "--include", "*.pt", "--exclude", "d/f/*"], ["a.pt", "b.pt", "d/e.pt"]),
        (["-r", "{b}", "{d}", "--newer", "1h", "--exclude", "*.pt"], ["c.txt"]),
        (["{b}/a.pt", "{b}/c.txt", "{d}/"], ["a.pt", "c.txt"]),
        (["-r", "{b}/d", "{b}/a.pt", "{d}"], ["a.pt", "d/e.pt", "d/f/g.pt"]),
        (["{b}/a.pt", "{d}/", "--exclude", "*.pt"], []),
    ],
)
def test_several(osst: Osst, filled: str, tmp_path: Path, arguments: list[str], expected: list[str]) -> None:
    folder = tmp_path / "target"
    folder.mkdir()
    arguments = [argument.format(b=filled, d=folder) for argument in arguments]
    planned = osst("cp", "--dry-run", "--json", *arguments)
    assert planned.status == 0
    assert held(folder) == {}
    assert sorted(item["target"] for item in planned.documents) == [f"{folder}/{path}" for path in expected]
    ended = osst("cp", "--json", *arguments)
    assert (ended.status, ended.err) == (0, "")
    assert sorted(held(folder)) == expected
    assert sorted(item["target"] for item in ended.documents) == [f"{folder}/{path}" for path in expected]
    assert {(item["action"], item["status"]) for item in ended.documents} <= {("copy", "done")}


def test_several_local_files(osst: Osst, client: OssClient, bucket: str, tmp_path: Path) -> None:
    for path in ("x/1", "x/y/2", "3"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(path)
    ended = osst("cp", "-v", "-r", tmp_path / "x", tmp_path / "3", f"oss://{bucket}/to")
    assert ended.status == 0
    assert {item.name for item in client.list(f"oss://{bucket}")} == {"to/x/1", "to/x/y/2", "to/3"}
    assert f"copy {tmp_path}/3 to oss://{bucket}/to/3" in ended.lines


@pytest.mark.parametrize(
    ("arguments", "status", "complaint"),
    [
        (["{b}/a.pt", "{b}/b.pt", "{d}/absent"], 1, "must be a directory for several files: give {d}/absent/"),
        (["{b}/zzz*", "{d}/"], 1, "there is nothing that matches {b}/zzz*"),
        (["-r", "{b}", "{b}/d"], 1, "{b}/d is below {b}: the copies would be copied again"),
        (["{b}/**", "{b}/d/"], 1, "the copies would be copied again"),
        (["{b}/a.pt", "{b}/a.pt"], 1, "is the source itself"),
        (["{b}/*/", "{d}/"], 1, "is a directory, and was left out"),
        (["--bandwidth", "fast", "{b}/a.pt", "{d}/"], 2, "'fast' is not a size"),
        (["--newer", "soon", "{b}/a.pt", "{d}/"], 2, "'soon' is neither an age"),
        (["--include", "[z-a]", "{b}/a.pt", "{d}/"], 2, "'[z-a]' is no pattern"),
        (["-", "{b}/a.pt", "{b}/x/"], 2, "several SRC need a directory"),
        (["--json", "{b}/a.pt", "-"], 2, "are not for standard input or output"),
    ],
)
def test_what_is_refused(
    osst: Osst, client: OssClient, filled: str, tmp_path: Path, arguments: list[str], status: int, complaint: str
) -> None:
    ended = osst("cp", *[argument.format(b=filled, d=tmp_path) for argument in arguments])
    assert ended.status == status
    assert complaint.format(b=filled, d=tmp_path) in ended.err
    assert [item.name for item in client.list(filled)] == [f"run/{key}" for key in KEYS]


def test_a_failure_is_a_line_of_json_too(osst: Osst, filled: str, tmp_path: Path, emulator: Emulator) -> None:
    bucket = filled.split("/")[2]
    with emulator.fault(bucket=bucket, operation="GetObject", key="run/a.pt", error="AccessDenied"):
        ended = osst("cp", "-r", "--json", filled, tmp_path / "target")
    assert ended.status == 1
    (failed,) = [item for item in ended.documents if item["status"] == "failed"]
    assert failed["source"] == f"{filled}/a.pt"
    assert "AccessDenied" in failed["error"]
    assert "1 could not be copied" in ended.err


@pytest.mark.slow(60)
@pytest.mark.parametrize("way", ["up", "down", "small"])
def test_bandwidth(osst: Osst, client: OssClient, bucket: str, tmp_path: Path, way: str) -> None:
    (tmp_path / "large").write_bytes(LARGE)
    if way == "small":
        for number in range(18):
            client.put(f"oss://{bucket}/p/{number}", LARGE[: 1 << 19])
    else:
        client.put(f"oss://{bucket}/a", LARGE)
    arguments = {
        "up": [tmp_path / "large", f"oss://{bucket}/b"],
        "down": [f"oss://{bucket}/a", tmp_path / "a"],
        "small": ["-r", f"oss://{bucket}/p", tmp_path / "p"],
    }[way]
    began = time.monotonic()
    assert osst("cp", "--bandwidth", "3M", *arguments).status == 0
    # The first step is free, and the rate is never exceeded for long.
    assert time.monotonic() - began > 2.5
    if way == "up":
        assert client.get(f"oss://{bucket}/b") == LARGE
    if way == "down":
        assert (tmp_path / "a").read_bytes() == LARGE


# A request has six attempts, so that one in ten may fail.
BAD_NETWORKS: dict[str, dict[str, Any]] = {
    "35ms": {"delay": 0.035},
    "throttled": {"every": 10, "throttle": 0.05},
    "refused": {"every": 10, "error": "InternalError"},
    "broken": {"operation": "GetObject", "every": 10, "reset": "middle"},
    "lost": {"every": 20, "lose_reply": True},
    "damaged": {"operation": "GetObject", "key": "*/large", "nth": 1, "flip": "middle"},
}


@pytest.mark.slow(120)
@pytest.mark.parametrize("network", BAD_NETWORKS)
def test_a_bad_network_changes_nothing(
    osst: Osst, client: OssClient, bucket: str, emulator: Emulator, tmp_path: Path, network: str
) -> None:
    source, uri = tmp_path / "source", f"oss://{bucket}"
    contents = {**{f"small/{number}": os.urandom(3000) for number in range(40)}, "large": LARGE, "empty": b""}
    for path, content in contents.items():
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_bytes(content)
    with emulator.fault(bucket=bucket, **BAD_NETWORKS[network]) as rule:
        assert osst("cp", "-r", source, f"{uri}/one").status == 0
        assert osst("sync", source, f"{uri}/one").err == f"osst sync: 0 copied, {len(contents)} up to date\n"
        assert osst("mv", "-r", f"{uri}/one", f"{uri}/two").status == 0
        assert osst("sync", f"{uri}/two", tmp_path / "back").status == 0
        assert osst("du", "--json", f"{uri}/two").documents[0]["objects"] == len(contents)
        assert len(osst("ls", "-r", f"{uri}/two").lines) == len(contents)
        assert osst("rm", "-r", "-y", f"{uri}/two").status == 0
        assert rule.acted > 0
    back = tmp_path / "back"
    found = {path.relative_to(back).as_posix(): path.read_bytes() for path in back.rglob("*") if path.is_file()}
    assert found == contents
    assert list(client.list(uri)) == []


@pytest.mark.parametrize("command", ["cp", "sync"])
def test_a_full_disk_leaves_what_was_there(
    connection: list[str], client: OssClient, bucket: str, tmp_path: Path, command: str
) -> None:
    client.put(f"oss://{bucket}/p/large", LARGE)
    client.put(f"oss://{bucket}/p/small", b"x")
    target = tmp_path / "target"
    target.mkdir()
    (target / "large").write_bytes(b"previous")
    options = ["-r"] if command == "cp" else []
    ended = subprocess.run(
        [*PROGRAM, command, *options, f"oss://{bucket}/p", str(target), *connection],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4 << 20, 4 << 20)),
    )
    assert ended.returncode == 1
    assert "large cannot be written: File too large; no partial file is left" in ended.stderr
    assert sorted(path.name for path in target.iterdir()) == ["large", "small"]
    assert (target / "large").read_bytes() == b"previous"


def test_a_loop_of_links_is_a_sentence(osst: Osst, bucket: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "loop").symlink_to("loop")
    (source / "dangling").symlink_to("absent")
    (source / "file").write_text("x")
    for command in (["cp", "-r"], ["sync"]):
        ended = osst(*command, source, f"oss://{bucket}/{command[0]}")
        assert ended.status == 1
        assert "loop cannot be read: Too many levels of symbolic links" in ended.err
        assert "dangling cannot be read: No such file or directory" in ended.err
        assert "2 could not be copied" in ended.err
        assert osst("ls", "-1", f"oss://{bucket}/{command[0]}").lines == [f"oss://{bucket}/{command[0]}/file"]
    (source / "around").symlink_to(source)
    for command in (["cp", "-r"], ["sync"]):
        assert "around is a link to a directory" in osst(*command, source, f"oss://{bucket}/x").err


def test_the_reader_of_json_goes_away(start: Start, filled: str, tmp_path: Path, client: OssClient) -> None:
    for number in range(600):
        client.put(f"{filled}/{'x' * 200}/{number}", b"")
    with start("cp", "-r", "--json", filled, tmp_path / "target") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141
    assert not [path for path in (tmp_path / "target").rglob(".*") if path.is_file()]


def test_a_download_that_was_damaged_on_the_way_is_repeated(
    osst: Osst, client: OssClient, bucket: str, emulator: Emulator, tmp_path: Path
) -> None:
    client.put(f"oss://{bucket}/a", LARGE)
    with emulator.fault(bucket=bucket, operation="GetObject", nth=1, flip="middle") as rule:
        assert osst("cp", "--progress", f"oss://{bucket}/a", tmp_path / "a").status == 0
        assert rule.acted == 1
    assert (tmp_path / "a").read_bytes() == LARGE
    # What cannot be taken back is an error, and so is damage that stays.
    with emulator.fault(bucket=bucket, operation="GetObject", flip="middle"):
        ended = osst("cp", f"oss://{bucket}/a", tmp_path / "b")
    assert ended.status == 1
    assert "CRC-64" in ended.err
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
