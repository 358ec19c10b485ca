"""Running `osst`: in this process, in one of its own, and in a terminal."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from osstorchconnector.cli.__main__ import main
from osstorchconnector.testing import Emulator

PROGRAM = [sys.executable, "-m", "osstorchconnector.cli"]


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def documents(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]


Osst = Callable[..., Ended]
Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def connection(emulator: Emulator) -> list[str]:
    return ["--endpoint", emulator.endpoint, "--cred-path", emulator.cred_path, "--region", emulator.region]


@pytest.fixture
def osst(connection: list[str], capsys: pytest.CaptureFixture[str]) -> Iterator[Osst]:
    """Run a command in this process, whose standard input and outputs are no terminals."""
    handler = signal.getsignal(signal.SIGTERM)

    def run(*arguments: object) -> Ended:
        capsys.readouterr()
        try:
            status = main([*map(str, arguments), *connection])
        except SystemExit as ending:
            status = int(ending.code or 0)
        captured = capsys.readouterr()
        return Ended(status, captured.out, captured.err)

    yield run
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def start(connection: list[str]) -> Start:
    """Start a command in a process of its own, with pipes."""

    def start(*arguments: object, **options: Any) -> "subprocess.Popen[bytes]":
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen([*PROGRAM, *map(str, arguments), *connection], **{**pipes, **options})

    return start
