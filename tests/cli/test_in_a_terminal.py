"""Commands in a real terminal: questions, colour, progress, Ctrl-C."""

import os
import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pexpect
import pytest

from osstorchconnector import OssClient
from osstorchconnector.testing import Emulator

from .conftest import PROGRAM

LARGE = os.urandom(9 << 20)

Terminal = Callable[..., Any]


@pytest.fixture
def terminal(connection: list[str], tmp_path: Path) -> Terminal:
    def spawn(*arguments: object, options: list[str] = connection, **environment: str) -> Any:
        command, *before = PROGRAM
        return pexpect.spawn(
            command,
            [*before, *map(str, arguments), *options],
            env={**os.environ, "TERM": "xterm", "XDG_CONFIG_HOME": str(tmp_path / "config"), **environment},
            encoding="utf-8",
            timeout=25,
            dimensions=(24, 200),
        )

    return spawn


def ended(process: Any) -> tuple[int | None, str]:
    shown = process.read()
    process.close()
    return process.exitstatus, shown


@pytest.fixture
def filled(client: OssClient, bucket: str) -> str:
    for key in ("a", "b/1", "b/2"):
        client.put(f"oss://{bucket}/{key}", b"x" * 700)
    return f"oss://{bucket}"


@pytest.mark.parametrize(("answer", "status"), [("y", 0), ("YES", 0), ("n", 1), ("", 1)])
def test_rm_asks_with_what_it_would_delete(
    terminal: Terminal, client: OssClient, filled: str, answer: str, status: int
) -> None:
    process = terminal("rm", "-r", f"{filled}/b")
    process.expect_exact(f"delete 2 objects of 1.4 KiB from {filled}/b? [y/N] ")
    process.sendline(answer)
    assert ended(process)[0] == status
    assert [item.name for item in client.list(filled)] == (["a"] if status == 0 else ["a", "b/1", "b/2"])


def test_ctrl_c_at_the_question_deletes_nothing(terminal: Terminal, client: OssClient, filled: str) -> None:
    process = terminal("rm", "-r", filled)
    process.expect_exact("[y/N] ")
    process.sendintr()
    status, shown = ended(process)
    assert status == 130
    assert "Traceback" not in shown
    assert len(list(client.list(filled))) == 3


def test_rb_and_sync_ask_too(terminal: Terminal, client: OssClient, filled: str, tmp_path: Path) -> None:
    process = terminal("rb", "-r", filled)
    process.expect_exact(f"remove {filled} with 3 objects of 2.1 KiB? [y/N] ")
    process.sendline("n")
    assert ended(process)[0] == 1
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "new").write_bytes(b"n")
    process = terminal("sync", "--delete", tmp_path / "source", f"{filled}/b")
    process.expect_exact(f"delete 2 of 1.4 KiB from {filled}/b, which {tmp_path}/source does not have? [y/N] ")
    process.sendline("n")
    assert ended(process)[0] == 1
    assert [item.name for item in client.list(filled)] == ["a", "b/1", "b/2"]
    process = terminal("sync", "--delete", tmp_path / "source", f"{filled}/b")
    process.expect_exact("[y/N] ")
    process.sendline("y")
    assert ended(process)[0] == 0
    assert [item.name for item in client.list(filled)] == ["a", "b/new"]


@pytest.mark.parametrize(("environment", "colour"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
def test_directories_are_coloured(
    terminal: Terminal,
    filled: str,
    environment: dict[str, str],
    colour: bool,  # noqa: FBT001 - a table
) -> None:
    status, shown = ended(terminal("ls", filled, **environment))
    assert status == 0
    assert (f"\x1b[1;34m{filled}/b/\x1b[0m" in shown) is colour
    assert f"{filled}/a\r\n" in shown


@pytest.mark.parametrize("bar", [True, False])
def test_progress_shows_bytes_objects_and_the_rate(
    terminal: Terminal,
    client: OssClient,
    bucket: str,
    emulator: Emulator,
    tmp_path: Path,
    bar: bool,  # noqa: FBT001 - a table
) -> None:
    for key in ("1", "2", "3"):
        client.put(f"oss://{bucket}/p/{key}", LARGE)
    # A directory with a module that fails stands before the real tqdm.
    (tmp_path / "without").mkdir()
    (tmp_path / "without" / "tqdm.py").write_text("raise ImportError")
    path = os.pathsep.join([*([] if bar else [str(tmp_path / "without")]), *sys.path])
    with emulator.fault(operation="GetObject", bucket=bucket, bandwidth=5 << 20):
        status, shown = ended(terminal("cp", "-r", f"oss://{bucket}/p", tmp_path / "target", PYTHONPATH=path))
    assert status == 0
    last = shown.rstrip().split("\r")[-1]
    if bar:
        assert re.search(r"27\.0MB? ?\[.*B/s, objects: 3\]", last), last
    else:
        assert re.search(r"/p: 3 objects, 27\.0 MiB, [0-9.]+ MiB/s$", last), last
        assert len(shown.split("\r")) > 3
    status, shown = ended(terminal("cp", "--no-progress", "-r", f"oss://{bucket}/p", tmp_path / "target"))
    assert (status, shown) == (0, "")


# What is in flight when Ctrl-C comes, and the command.
STAGES = [
    ("ListObjectsV2", ["cp", "-r", "{b}/p", "{d}"]),
    ("GetObject", ["cp", "-r", "{b}/p", "{d}"]),
    ("GetObject", ["sync", "{b}/p", "{d}"]),
    ("GetObject", ["cat", "{b}/p/1"]),
    ("HeadObject", ["cp", "{b}/p/1", "{d}/1"]),
    ("PutObject", ["cp", "{s}", "{b}/new/1"]),
    ("InitiateMultipartUpload", ["cp", "{l}", "{b}/new/1"]),
    ("UploadPart", ["cp", "{l}", "{b}/new/1"]),
    ("UploadPart", ["mv", "{l}", "{b}/new/1"]),
    ("CopyObject", ["mv", "-r", "{b}/p", "{b}/new"]),
    ("DeleteMultipleObjects", ["rm", "-r", "-y", "{b}/absent*", "{b}/p"]),
]


@pytest.mark.slow(90)
@pytest.mark.parametrize(("operation", "arguments"), STAGES, ids=[f"{item[1][0]}-{item[0]}" for item in STAGES])
def test_ctrl_c_at_each_stage_leaves_nothing_half_written(
    terminal: Terminal,
    client: OssClient,
    bucket: str,
    emulator: Emulator,
    tmp_path: Path,
    operation: str,
    arguments: list[str],
) -> None:
    target, small, large = tmp_path / "target", tmp_path / "small", tmp_path / "large"
    small.write_bytes(b"x")
    large.write_bytes(LARGE * 2)
    for key in ("p/1", "p/2", "absent-is-not"):
        client.put(f"oss://{bucket}/{key}", LARGE)
    emulator.clear_requests()
    places = {"b": f"oss://{bucket}", "d": target, "s": small, "l": large}
    with emulator.fault(operation=operation, bucket=bucket, delay=60) as fault:
        process = terminal(*[argument.format(**places) for argument in arguments])
        while not fault.met:
            assert process.isalive(), process.read()
            time.sleep(0.02)
        began = time.monotonic()
        process.sendintr()
        status, shown = ended(process)
    assert status == 130, shown
    # The request itself would have taken a minute.
    assert time.monotonic() - began < 20
    assert "Traceback" not in shown
    assert "Exception ignored" not in shown
    assert [path for path in target.rglob("*") if path.is_file()] == []
    assert large.exists()
    assert small.exists()
    # OSS may have carried out a request whose answer was on its way: what it made is whole, and nothing is lost.
    for item in client.list(f"oss://{bucket}/new"):
        assert operation in {"PutObject", "CopyObject"}
        assert item.read() == (b"x" if operation == "PutObject" else LARGE)
    if arguments[0] != "rm":
        assert client.get(f"oss://{bucket}/p/1") == LARGE


def test_a_signal_to_terminate_ends_as_ctrl_c(
    terminal: Terminal, client: OssClient, bucket: str, emulator: Emulator, tmp_path: Path
) -> None:
    client.put(f"oss://{bucket}/p/1", LARGE)
    with emulator.fault(operation="GetObject", bucket=bucket, delay=60) as fault:
        process = terminal("sync", f"oss://{bucket}/p", tmp_path / "target")
        while not fault.met:
            assert process.isalive()
            time.sleep(0.02)
        process.kill(signal.SIGTERM)
        status, shown = ended(process)
    assert (status, [path for path in (tmp_path / "target").rglob("*") if path.is_file()]) == (130, [])
    assert "Traceback" not in shown


def test_configure_asks_for_each_value_and_again_after_a_mistake(terminal: Terminal) -> None:
    process = terminal("configure", "training", options=[])
    process.expect_exact("Endpoint, such as oss-cn-hangzhou-internal.aliyuncs.com []: ")
    process.sendline("http://user:made-up@host")
    process.expect_exact("osst configure: endpoint must not contain a user name or password")
    process.expect_exact("[]: ")
    process.sendline("oss-cn-beijing.aliyuncs.com")
    process.expect_exact("Region ID; empty if the endpoint names it []: ")
    process.sendline("")
    process.expect_exact("[chain]: ")
    process.sendline("aliyun:training")
    process.expect_exact("osst configure: profile 'training' is in ")
    assert ended(process)[0] == 0
    process = terminal("configure", "--show", "training", options=[])
    expected = "training: endpoint oss-cn-beijing.aliyuncs.com, region -, aliyun:training\r\n"
    assert ended(process) == (0, expected)
    process = terminal("configure", "training", options=[])
    process.expect_exact("[oss-cn-beijing.aliyuncs.com]: ")
    process.sendeof()
    process.expect_exact("osst configure: the input ended; nothing was changed")
    assert ended(process)[0] == 1
