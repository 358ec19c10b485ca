"""`osst run`: a command with the files of a model, which are removed in every ending."""

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from osstorchconnector import OssClient
from osstorchconnector.testing import Emulator
from tests.cli.conftest import PROGRAM

FILES = {
    "config.json": b"{}",
    "tokenizer/vocab.txt": b"a\nb\n",
    "model-00001-of-00002.safetensors": os.urandom(9 << 20),
    "model-00002-of-00002.safetensors": os.urandom(1 << 20),
}
# It says what it finds, and ends after a signal or a line.
COMMAND = """
import os, signal, sys
def ended(number, frame):
    print("signal", number, flush=True)
    sys.exit(40 + number)
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, ended)
print(sys.argv[1], flush=True)
print(sum(len(files) for _, _, files in os.walk(sys.argv[1])), flush=True)
input()
sys.exit(3)
"""

Run = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def model(client: OssClient, bucket: str) -> str:
    uri = f"oss://{bucket}/models/llama"
    for name, content in FILES.items():
        client.put(f"{uri}/{name}", content)
    return uri


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "place"


@pytest.fixture
def start(connection: list[str], model: str, place: Path) -> Iterator[Run]:
    """Start `osst run` with options and a command."""
    started: list[subprocess.Popen[str]] = []

    def start(*words: str, options: Any = ("--model", "MODEL", "--place", "PLACE"), **environment: str) -> Any:
        options = [{"MODEL": model, "PLACE": str(place)}.get(word, word) for word in options]
        process = subprocess.Popen(
            [*PROGRAM, "run", *options, *connection, *words],
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def line_of(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def left(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir() if path.name != "space")


def until(condition: Callable[[], bool]) -> None:
    limit = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.01)


LONG = ("--", sys.executable, "-c", COMMAND, "{dir}")


def test_the_command_finds_all_files_and_its_status_is_passed_on(start: Run, place: Path, model: str) -> None:
    program = (
        "import os, sys; print(sys.argv[1], os.environ['MODEL_DIR'], os.environ['OSS_PATH']);"
        "print(sorted((os.path.relpath(os.path.join(d, f), sys.argv[1]), os.path.getsize(os.path.join(d, f)))"
        " for d, _, fs in os.walk(sys.argv[1]) for f in fs)); sys.exit(7)"
    )
    process = start("--", sys.executable, "-c", program, "{dir}/")
    out, err = process.communicate(timeout=30)
    directory, variable, uri, found = out.replace("\n", " ").split(" ", 3)
    assert (process.returncode, err) == (7, "")
    assert directory == variable + "/"
    assert (Path(directory).name, Path(directory).parent.parent, uri) == ("llama", place, model)
    assert found.strip() == str(sorted((name, len(content)) for name, content in FILES.items()))
    assert left(place) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_reaches_the_command_and_the_files_are_removed(start: Run, place: Path, number: int) -> None:
    process = start(*LONG)
    directory = Path(line_of(process))
    assert line_of(process) == str(len(FILES))
    process.send_signal(number)
    assert line_of(process) == f"signal {number}"
    assert process.wait(20) == 40 + number
    assert not directory.exists()
    assert left(place) == []


def test_a_command_that_a_signal_ends(start: Run, place: Path) -> None:
    process = start("--", "sh", "-c", "test -d {dir} && kill -9 $$")
    assert process.wait(20) == 128 + 9
    assert left(place) == []


def test_the_command_keeps_the_files_if_osst_is_killed_and_the_next_run_removes_them(
    start: Run, place: Path, model: str, client: OssClient
) -> None:
    other = f"{model}-2"
    client.put(f"{other}/config.json", b"{}")
    options = ("--model", other, "--place", "PLACE")
    process = start(*LONG)
    directory = Path(line_of(process))
    line_of(process)
    process.kill()
    process.wait()
    # The command still runs, and its standard input is open.
    assert start("--", "ls", "{dir}", options=options).wait(20) == 0
    assert (directory / "config.json").exists()
    process.communicate("\n", timeout=20)
    until(lambda: start("--", "ls", "{dir}", options=options).wait(20) == 0 and not directory.exists())
    assert left(place) == []


def test_several_runs_share_one_copy(start: Run, place: Path, emulator: Emulator) -> None:
    emulator.clear_requests()
    processes = [start(*LONG) for _ in range(3)]
    directories = {line_of(process) for process in processes}
    assert len(directories) == 1
    received = sum(request.response_bytes for request in emulator.requests(operation="GetObject"))
    assert received == sum(map(len, FILES.values()))
    for process in processes:
        assert Path(*directories).exists()
        process.communicate("\n", timeout=20)
        assert process.returncode == 3
    assert left(place) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_files_are_fetched(start: Run, place: Path, emulator: Emulator, number: int) -> None:
    with emulator.fault(operation="GetObject", key="*-00001-*", stall="middle"):
        process = start(*LONG)
        until(lambda: any(path.name.startswith("model-00002") for path in place.rglob("*")))
        process.send_signal(number)
        out, _ = process.communicate(timeout=20)
    assert (process.returncode, out) == (130, "")
    assert left(place) == []


def test_nothing_runs_if_a_file_is_damaged(start: Run, place: Path, emulator: Emulator) -> None:
    with emulator.fault(operation="GetObject", key="*-00001-*", flip="middle"):
        process = start("--", "echo", "ran", "{dir}")
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (1, "")
    assert "-00001-of-00002.safetensors" in err
    assert left(place) == []


def test_a_link_from_the_environment_of_the_original(start: Run, place: Path, model: str, tmp_path: Path) -> None:
    link = tmp_path / "model"
    link.mkdir()
    variables = {"OSS_PATH": f"{model}/", "MODEL_DIR": str(link), "ENABLE_CONNECTOR": "1"}
    process = start("--", "ls", f"{link}/", options=("--place", "PLACE"), **variables)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out.split()) == (0, sorted({name.partition("/")[0] for name in FILES})), err
    assert not link.is_symlink()
    (tmp_path / "model").symlink_to(place / "gone")
    assert start("--", "ls", f"{link}/", options=("--place", "PLACE"), **variables).wait(20) == 0
    (tmp_path / "other").mkdir()
    (tmp_path / "other/file").touch()
    variables["MODEL_DIR"] = str(tmp_path / "other")
    process = start("--", "ls", options=("--place", "PLACE"), **variables)
    assert "is not empty, so it cannot become a link" in process.communicate(timeout=20)[1]
    assert process.returncode == 1


def test_a_link_of_somebody_else_stays(start: Run, tmp_path: Path) -> None:
    (tmp_path / "v1").mkdir()
    link = tmp_path / "current"
    link.symlink_to("v1")
    options = ("--model", "MODEL", "--place", "PLACE", "--link", str(link))
    process = start("--", "ls", options=options)
    assert "current is a link to v1, which stays as it is" in process.communicate(timeout=20)[1]
    assert process.returncode == 1
    assert str(link.readlink()) == "v1"
    # One that takes the place of this run's link while the command runs.
    link.unlink()
    assert start("--", "ln", "-sfn", "v1", str(link), options=options).wait(20) == 0
    assert str(link.readlink()) == "v1"


def test_the_switch_of_the_original(start: Run, place: Path) -> None:
    process = start("--", "echo", "ran", ENABLE_CONNECTOR="0")
    assert process.communicate(timeout=20)[0] == "ran\n"
    assert not place.exists()
    assert start("--", "echo", "{dir}", ENABLE_CONNECTOR="0").wait(20) == 2


def test_a_cache_is_kept(start: Run, tmp_path: Path, emulator: Emulator) -> None:
    options = ("--model", "MODEL", "--keep", "--cache", str(tmp_path / "cache"), "--cache-size", "1G")
    first, _ = start("--", "echo", "{dir}", options=options).communicate(timeout=20)
    emulator.clear_requests()
    second, _ = start("--", "echo", "{dir}", options=(*options, "--verify")).communicate(timeout=20)
    assert first == second
    assert emulator.requests(operation="GetObject") == []
    environment = {"OSS_MODEL_CACHE": str(tmp_path / "cache")}
    third, _ = start("--", "echo", "{dir}", options=("--model", "MODEL", "--keep"), **environment).communicate()
    assert third == first


@pytest.mark.parametrize(
    ("options", "words", "status", "complaint"),
    [
        ((), ("--", "ls", "{dir}"), 2, "there is no model: give --model, or set OSS_PATH"),
        (("--model", "/local"), ("--", "ls", "{dir}"), 2, "'/local' is no oss:// URI"),
        (("--model", "MODEL"), (), 2, "there is no command: write it after --"),
        (("--model", "MODEL"), ("--",), 2, "there is no command: write it after --"),
        (("--model", "MODEL"), ("--", "ls"), 2, "write {dir} in it, or give --link"),
        (("--model", "MODEL", "--keep", "--place", "x"), ("--", "ls", "{dir}"), 2, "give one of them"),
        (("--model", "MODEL", "--cache-size", "1G"), ("--", "ls", "{dir}"), 2, "give --keep too"),
        (("--model", "MODEL-3", "--place", "PLACE"), ("--", "ls", "{dir}"), 1, "there is no model at"),
        (
            ("--model", "MODEL", "--place", "PLACE"),
            ("--", "no-such-command", "{dir}"),
            127,
            "no-such-command cannot be",
        ),
        (("--model", "MODEL", "--place", "PLACE"), ("--", "/", "{dir}"), 126, "/ cannot be run: Permission denied"),
        (
            ("--model", "MODEL", "--keep", "--cache", "PLACE", "--cache-size", "1M"),
            ("--", "ls", "{dir}"),
            1,
            "give a larger limit",
        ),
        (("--model", "MODEL", "--include", "x", "--place", "PLACE"), ("--", "ls", "{dir}"), 1, "leaves out all files"),
    ],
)
def test_wrong_words(
    start: Run, place: Path, model: str, options: Any, words: Any, status: int, complaint: str
) -> None:
    process = start(*words, options=[word.replace("MODEL-3", f"{model}-3") for word in options])
    _, err = process.communicate(timeout=20)
    assert (process.returncode, complaint in err) == (status, True), err
    assert not place.exists() or left(place) == []


@contextmanager
def terminal() -> Iterator[tuple[int, int]]:
    master, slave = pty.openpty()
    try:
        yield master, slave
    finally:
        os.close(master)
        os.close(slave)


def test_ctrl_c_on_a_terminal_reaches_the_command_once(connection: list[str], model: str, place: Path) -> None:
    program = (
        "import signal, sys, time\n"
        "count = 0\n"
        "def came(*_):\n    global count\n    count += 1\n"
        "signal.signal(signal.SIGINT, came)\n"
        "print('ready', flush=True)\n"
        "until = time.monotonic() + 20\n"
        "while not count and time.monotonic() < until: time.sleep(0.01)\n"
        "time.sleep(0.3)\n"
        "print(f'interrupts={count}', flush=True)\n"
    )
    command = [*PROGRAM, "run", "--model", model, "--place", str(place), *connection, "--no-progress", "--"]
    with terminal() as (master, slave):
        process = subprocess.Popen(
            [*command, sys.executable, "-c", program, "{dir}"],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: __import__("fcntl").ioctl(0, __import__("termios").TIOCSCTTY, 0),  # noqa: PLW1509
        )
        shown = b""
        while b"ready" not in shown:
            shown += os.read(master, 1000)
        os.write(master, b"\x03")
        while b"interrupts=" not in shown:
            shown += os.read(master, 1000)
        assert process.wait(20) == 0
    assert b"interrupts=1" in shown
    assert left(place) == []
