"""Programs in other processes, for things that must not happen to the process of the tests."""

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).parents[2]
# Enough to start an interpreter on a busy machine; the tests have their own bounds.
PATIENCE = 20.0


class Program:
    """A program of ``tests.border.programs`` that talks to the test line by line, as a context manager."""

    def __init__(self, name: str, *arguments: str, options: tuple[str, ...] = ()) -> None:
        self._process = subprocess.Popen(
            [sys.executable, *options, "-m", f"tests.border.programs.{name}", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
            # Signals for the program and its children are not for the tests.
            process_group=0,
        )
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._errors: list[str] = []
        self._threads = [threading.Thread(target=target) for target in (self._read_lines, self._read_errors)]
        for thread in self._threads:
            thread.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def expect(self, line: str) -> float:
        """Wait for the program to say this, and return when it did."""
        try:
            said = self._lines.get(timeout=PATIENCE)
        except queue.Empty:
            said = "nothing"
        arrived = time.monotonic()
        assert said == line, f"the program said {said!r}, not {line!r}: {self._reason()}"
        return arrived

    def tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def interrupt(self) -> float:
        """Send the signal of Ctrl-C, and return the time."""
        self._process.send_signal(signal.SIGINT)
        return time.monotonic()

    def end(self, patience: float = PATIENCE) -> tuple[int, str]:
        """Wait for its end; return its status and what it wrote to standard error."""
        status = self._process.wait(patience)
        for thread in self._threads:
            thread.join(PATIENCE)
        return status, "".join(self._errors)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            # Its children too: one of them may hang, which is what the test is about.
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(PATIENCE)
        for thread in self._threads:
            thread.join(PATIENCE)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            assert pipe is not None
            pipe.close()

    def _reason(self) -> str:
        try:
            # Its end may be a moment after its last line.
            self._process.wait(1)
        except subprocess.TimeoutExpired:
            return "it runs"
        for thread in self._threads:
            thread.join(1)
        return f"it ended with {self._process.returncode}:\n{''.join(self._errors)}"

    def _read_lines(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put("the end")

    def _read_errors(self) -> None:
        assert self._process.stderr is not None
        self._errors.extend(self._process.stderr)
