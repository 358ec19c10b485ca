import errno
import os
import resource
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from osstorchconnector import OssClient
from osstorchconnector.cli.__main__ import main
from osstorchconnector.testing import Emulator

OSST = [sys.executable, "-m", "osstorchconnector.cli", "cp"]
SMALL = b"small content"
LARGE = os.urandom(9 << 20)

Run = Callable[..., int]


@pytest.fixture
def connection_options(emulator: Emulator) -> list[str]:
    return ["--endpoint", emulator.endpoint, "--cred-path", emulator.cred_path, "--region", emulator.region]


@pytest.fixture
def cp(connection_options: list[str]) -> Run:
    handler = signal.getsignal(signal.SIGTERM)

    def cp(*arguments: object) -> int:
        try:
            return main(["cp", *map(str, arguments), *connection_options])
        finally:
            signal.signal(signal.SIGTERM, handler)

    return cp


def start(connection_options: list[str], *arguments: object, **options: Any) -> "subprocess.Popen[bytes]":
    command = [*OSST, *map(str, arguments), *connection_options]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


@pytest.mark.parametrize("content", [b"", SMALL, LARGE], ids=["empty", "small", "large"])
def test_there_and_back_again(cp: Run, client: OssClient, bucket: str, tmp_path: Path, content: bytes) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(content)
    target.write_bytes(b"previous")
    assert cp(source, f"oss://{bucket}/a") == 0
    assert client.get(f"oss://{bucket}/a") == content
    assert cp(f"oss://{bucket}/a", f"oss://{bucket}/b") == 0
    assert cp(f"oss://{bucket}/b", target) == 0
    assert target.read_bytes() == content
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source", "target"]


def test_a_new_file_has_the_usual_permissions(cp: Run, client: OssClient, bucket: str, tmp_path: Path) -> None:
    client.put(f"oss://{bucket}/a", SMALL)
    umask = os.umask(0o027)
    try:
        assert cp(f"oss://{bucket}/a", tmp_path / "a") == 0
    finally:
        os.umask(umask)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("content", [b"", SMALL, LARGE], ids=["empty", "small", "large"])
def test_a_pipe_or_device_is_written_to_and_stays_one(
    cp: Run, client: OssClient, bucket: str, tmp_path: Path, content: bytes
) -> None:
    client.put(f"oss://{bucket}/a", content)
    pipe, received = tmp_path / "pipe", bytearray()
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: received.extend(pipe.read_bytes()), daemon=True)
    reader.start()
    assert cp(f"oss://{bucket}/a", pipe) == 0
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    reader.join()
    assert received == content


def test_a_link_to_a_file_stays_one(cp: Run, client: OssClient, bucket: str, tmp_path: Path) -> None:
    client.put(f"oss://{bucket}/a", SMALL)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").write_bytes(b"previous")
    for name in ("file", "new"):
        link = tmp_path / name
        link.symlink_to(tmp_path / "elsewhere" / name)
        assert cp(f"oss://{bucket}/a", link) == 0
        assert link.is_symlink()
        assert (tmp_path / "elsewhere" / name).read_bytes() == SMALL


def test_a_target_with_a_slash_is_a_directory_for_the_file(
    cp: Run, client: OssClient, bucket: str, tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_bytes(SMALL)
    for target, key in ((f"oss://{bucket}/below/", "below/a.txt"), (f"oss://{bucket}", "a.txt")):
        assert cp(tmp_path / "a.txt", target) == 0
        assert client.get(f"oss://{bucket}/{key}") == SMALL
    (tmp_path / "directory").mkdir()
    assert cp(f"oss://{bucket}/below/a.txt", f"{tmp_path}/directory/") == 0
    assert (tmp_path / "directory" / "a.txt").read_bytes() == SMALL


def test_standard_input_and_output(connection_options: list[str], bucket: str) -> None:
    with start(connection_options, "-", f"oss://{bucket}/a") as process:
        assert process.communicate(LARGE) == (b"", b"")
    assert process.returncode == 0
    with start(connection_options, f"oss://{bucket}/a", "-") as process:
        assert process.communicate() == (LARGE, b"")
    assert process.returncode == 0
    with start(connection_options, f"oss://{bucket}/a", "-") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_directories(cp: Run, client: OssClient, bucket: str, tmp_path: Path) -> None:
    contents = {"a": SMALL, "b/c": b"", "b/d/é e": LARGE, **{f"many/{n}": b"%d" % n for n in range(100)}}
    for path, content in contents.items():
        (tmp_path / "source" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "source" / path).write_bytes(content)
    assert cp("-r", tmp_path / "source", f"oss://{bucket}/one") == 0
    assert {item.name: item.size for item in client.list(f"oss://{bucket}/")} == {
        f"one/{path}": len(content) for path, content in contents.items()
    }
    client.put(f"oss://{bucket}/one/marker/", b"")
    client.put(f"oss://{bucket}/one-more", b"")
    assert cp("--recursive", f"oss://{bucket}/one/", f"oss://{bucket}/two/") == 0
    assert cp("-r", f"oss://{bucket}/two", tmp_path / "target") == 0
    found = {
        path.relative_to(tmp_path / "target").as_posix(): path.read_bytes()
        for path in (tmp_path / "target").rglob("*")
        if path.is_file()
    }
    assert found == contents
    assert (tmp_path / "target" / "marker").is_dir()


def test_keys_without_a_local_path_are_reported_and_the_rest_is_copied(
    cp: Run, client: OssClient, bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for key in ("a/../../escaped", "a//b", "./c", "good", "file", "file/below"):
        client.put(f"oss://{bucket}/p/{key}", SMALL)
    assert cp("-r", f"oss://{bucket}/p/", tmp_path / "in" / "target") == 1
    errors = capsys.readouterr().err
    for key in ("a/../../escaped", "a//b", "./c"):
        assert f"the key '{key}' cannot become a path below {tmp_path}/in/target" in errors
    assert "osst cp: 4 could not be copied" in errors
    assert (tmp_path / "in" / "target" / "good").read_bytes() == SMALL
    assert [path.name for path in tmp_path.rglob("escaped")] == []


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["a", "b"], "neither SRC nor DST is an oss:// URI"),
        (["-", "-"], "neither SRC nor DST is an oss:// URI"),
        (["-r", "oss://bucket/a", "-"], "--recursive needs directories"),
        (["oss://bucket/a"], "required: DST"),
    ],
)
def test_wrong_arguments_are_reported(
    cp: Run, capsys: pytest.CaptureFixture[str], arguments: list[str], complaint: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        cp(*arguments)
    assert caught.value.code == 2
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["{b}/absent", "{d}/a"], "does not exist"),
        (["{b}/a", "{d}"], "is a directory: give {d}/ to put the file in it"),
        (["{b}/a", "{d}/absent/a"], "absent/a cannot be written: No such file or directory"),
        (["{d}/absent", "{b}/a"], "absent cannot be read: No such file or directory"),
        (["{d}", "{b}/a"], "is a directory: give --recursive"),
        (["{b}/p/", "{d}/a"], "is a directory: give --recursive"),
        (["-", "{b}/p/"], "has no name: give the name of the target"),
        (["-r", "{d}/file", "{b}/p/"], "is not a directory: leave out --recursive"),
        (["-r", "{b}/nothing", "{d}/a"], "there is nothing at"),
        (["{b}/a", "oss://no-such-bucket-here/a"], "no-such-bucket-here"),
    ],
)
def test_a_failure_is_one_line(
    cp: Run,
    client: OssClient,
    bucket: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    complaint: str,
) -> None:
    (tmp_path / "file").touch()
    client.put(f"oss://{bucket}/a", SMALL)
    paths = {"b": f"oss://{bucket}", "d": tmp_path}
    assert cp(*(argument.format(**paths) for argument in arguments)) == 1
    errors = capsys.readouterr().err
    assert errors.startswith("osst cp: ")
    assert complaint.format(**paths) in errors
    assert len(errors.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_link_to_a_directory_is_reported(
    cp: Run, bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "loop").symlink_to(tmp_path)
    assert cp("-r", tmp_path / "source", f"oss://{bucket}/") == 1
    assert "links are not followed" in capsys.readouterr().err


def test_a_full_disk_leaves_nothing(
    connection_options: list[str], client: OssClient, bucket: str, tmp_path: Path
) -> None:
    client.put(f"oss://{bucket}/a", LARGE)
    (tmp_path / "a").write_bytes(b"previous")

    def no_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4 << 20, 4 << 20))

    with start(connection_options, f"oss://{bucket}/a", tmp_path / "a", preexec_fn=no_room) as process:
        output, errors = process.communicate()
    assert (process.returncode, output) == (1, b"")
    assert f"{tmp_path}/a cannot be written: {os.strerror(errno.EFBIG)}; no partial file is left" in errors.decode()
    assert (tmp_path / "a").read_bytes() == b"previous"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_download_leaves_nothing(
    connection_options: list[str],
    client: OssClient,
    bucket: str,
    tmp_path: Path,
    emulator: Emulator,
    number: signal.Signals,
) -> None:
    client.put(f"oss://{bucket}/a", LARGE)
    emulator.clear_requests()
    with (
        emulator.fault(operation="GetObject", key="a", bandwidth=1 << 20),
        start(connection_options, f"oss://{bucket}/a", tmp_path / "a") as process,
    ):
        while not emulator.requests(operation="GetObject"):
            assert process.poll() is None
        process.send_signal(number)
        _, errors = process.communicate()
    assert (process.returncode, errors) == (130, b"")
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_upload_publishes_nothing(connection_options: list[str], client: OssClient, bucket: str) -> None:
    client.put(f"oss://{bucket}/a", b"previous")
    with start(connection_options, "-", f"oss://{bucket}/a") as process:
        assert process.stdin is not None
        process.stdin.write(LARGE)
        process.stdin.flush()
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130
    assert client.get(f"oss://{bucket}/a") == b"previous"


def test_the_bar_counts_bytes(
    cp: Run, client: OssClient, bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    client.put(f"oss://{bucket}/a", LARGE)
    assert cp("--progress", f"oss://{bucket}/a", tmp_path / "a") == 0
    bar = capsys.readouterr().err
    assert f"oss://{bucket}/a: 100%" in bar
    assert "9.00M/9.00M" in bar
    assert cp("--no-progress", f"oss://{bucket}/a", tmp_path / "a") == 0
    assert cp(f"oss://{bucket}/a", tmp_path / "a") == 0
    assert capsys.readouterr().err == ""


def test_without_tqdm_progress_is_a_line(
    cp: Run, bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    (tmp_path / "a").write_bytes(LARGE)
    assert cp("--progress", tmp_path / "a", f"oss://{bucket}/a") == 0
    lines = capsys.readouterr().err.split("\r")
    assert lines[-1].startswith(f"{tmp_path}/a: 1 object, 9.0 MiB of 9.0 MiB, ")
    assert lines[-1].rstrip(" \n").endswith("/s")
    assert cp("--no-progress", tmp_path / "a", f"oss://{bucket}/a") == 0
    assert cp(tmp_path / "a", f"oss://{bucket}/a") == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("inside", [False, True])
def test_a_link_leads_to_no_place_outside_of_the_target(
    cp: Run, client: OssClient, bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], *, inside: bool
) -> None:
    target, outside = tmp_path / "target", tmp_path / "target" / "real" if inside else tmp_path / "outside"
    target.mkdir()
    outside.mkdir()
    (outside / "file").write_bytes(b"previous")
    (target / "link").symlink_to(outside)
    (target / "file").symlink_to(outside / "file")
    (target / "new").symlink_to(outside / "new")
    for name in ("a", "file", "new", "link/a", "link/below/a", "link/marker/"):
        client.put(f"oss://{bucket}/run/{name}", b"" if name.endswith("/") else SMALL)
    assert cp("-r", f"oss://{bucket}/run/", target) == (0 if inside else 1)
    assert (target / "a").read_bytes() == SMALL
    if inside:
        assert (outside / "below" / "a").read_bytes() == SMALL
        assert (outside / "marker").is_dir()
        return
    assert [path.name for path in outside.iterdir()] == ["file"]
    assert (outside / "file").read_bytes() == b"previous"
    assert capsys.readouterr().err.count("by a link in it") == 5
