"""Process groups for tests: functions of a module such as ``tests.dcp.ranks``, run by several ranks at once.

Importing torch takes seconds. So one process imports it, starts no thread, and forks the ranks of each world.
"""

import importlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).parents[2]
# No collective operation takes so long unless it has lost a rank.
GROUP_TIMEOUT = timedelta(seconds=30)
WORLD_SECONDS = 60.0


@dataclass(frozen=True)
class Outcome:
    """How one rank ended: its result, the text of its exception, or the signal that killed it."""

    result: Any = None
    error: str | None = None
    killed_by: int | None = None


class Worlds:
    """Runs worlds one after the other; a context manager."""

    def __init__(self, ranks: str = "tests.dcp.ranks") -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.dcp.worlds", ranks],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), "OMP_NUM_THREADS": "1"},
        )

    def run(self, size: int, function: str, **arguments: Any) -> list[Outcome]:
        """Run a function of the module of ranks in each rank of a new world."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        order = {"size": size, "function": function, "arguments": arguments}
        self._process.stdin.write(f"{json.dumps(order)}\n")
        self._process.stdin.flush()
        return [Outcome(**outcome) for outcome in json.loads(self._process.stdout.readline())]

    def results(self, size: int, function: str, **arguments: Any) -> list[Any]:
        """Run a function that must succeed in each rank, and return the results."""
        outcomes = self.run(size, function, **arguments)
        assert all(outcome.error is None and outcome.killed_by is None for outcome in outcomes), outcomes
        return [outcome.result for outcome in outcomes]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        self._process.wait(WORLD_SECONDS)


def _serve() -> None:
    # Imported here, because only this process and its ranks need torch. The first use of a DTensor imports this too.
    importlib.import_module("torch._dynamo")
    ranks = importlib.import_module(sys.argv[1])

    answers = os.fdopen(os.dup(1), "w")
    # The output of a rank is no answer.
    os.dup2(2, 1)
    for line in sys.stdin:
        order = json.loads(line)
        with tempfile.TemporaryDirectory() as directory:
            function = getattr(ranks, order["function"])
            pipes = [
                _start(rank, order["size"], f"file://{directory}/store", function, order["arguments"])
                for rank in range(order["size"])
            ]
            outcomes = _wait(pipes)
        answers.write(f"{json.dumps(outcomes)}\n")
        answers.flush()


def _start(rank: int, size: int, store: str, function: Any, arguments: dict[str, Any]) -> tuple[int, int]:
    """Fork a rank; return its process id and the pipe for its outcome."""
    reading, writing = os.pipe()
    process = os.fork()
    if process:
        os.close(writing)
        return process, reading
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        try:
            import torch.distributed as dist  # noqa: PLC0415 - as in _serve

            dist.init_process_group("gloo", init_method=store, rank=rank, world_size=size, timeout=GROUP_TIMEOUT)
            outcome = {"result": function(**arguments)}
        except BaseException as error:  # noqa: BLE001 - the test gets any exception as an outcome
            outcome = {"error": "".join(traceback.format_exception(error))}
        pipe.write(json.dumps(outcome))
    # The group is not destroyed: a rank that failed would wait for the others.
    os._exit(0)


def _wait(pipes: list[tuple[int, int]]) -> list[dict[str, Any]]:
    deadline = time.monotonic() + WORLD_SECONDS
    texts = dict.fromkeys((pipe for _, pipe in pipes), b"")
    open_pipes = set(texts)
    while open_pipes:
        ready, _, _ = select.select(open_pipes, [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            break
        for pipe in ready:
            piece = os.read(pipe, 1 << 16)
            texts[pipe] += piece
            if not piece:
                open_pipes.discard(pipe)
    outcomes: list[dict[str, Any]] = []
    for process, pipe in pipes:
        if pipe in open_pipes:
            os.kill(process, signal.SIGKILL)
        _, status = os.waitpid(process, 0)
        os.close(pipe)
        if pipe in open_pipes:
            outcomes.append({"error": "it hung"})
        elif os.WIFSIGNALED(status):
            outcomes.append({"killed_by": os.WTERMSIG(status)})
        else:
            outcomes.append(json.loads(texts[pipe]))
    return outcomes


if __name__ == "__main__":
    _serve()
