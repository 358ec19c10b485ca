"""Runs a program under callgrind, and reads what it counted."""

import os
import platform
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from osstorchconnector import _native

# A function's number stands with its name the first time. Calls follow the function that is called.
_FUNCTION: Final = re.compile(r"^c?fn=\((\d+)\)(?: (.*))?$")
_CALLS: Final = re.compile(r"^calls=(\d+) ")
_TOTALS: Final = re.compile(r"^(?:summary|totals): (\d+)", re.MULTILINE)
# Python takes the arenas of its small objects from here, so its objects are not counted one by one.
_ALLOCATE: Final = frozenset({"malloc", "calloc", "realloc", "posix_memalign", "aligned_alloc", "memalign"})


@dataclass(frozen=True)
class Counted:
    """What was counted between two marks."""

    instructions: int
    allocations: int


def counted(module: str, arguments: Sequence[str], mark: str, folder: Path) -> list[Counted]:
    """Run a module under callgrind, and return what it counted up to each call of a function of the C library."""
    # valgrind runs one thread at a time: fair scheduling gives a waiting thread its turn.
    options = ["--tool=callgrind", "--fair-sched=yes", f"--dump-before={mark}", f"--callgrind-out-file={folder}/out"]
    command = ["valgrind", *options, sys.executable, "-m", module, *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONHASHSEED": "0"}
    )
    if done.returncode != 0:
        raise RuntimeError(f"valgrind ended with {done.returncode}: {done.stderr[-2000:]}")
    dumps = sorted(folder.glob("out.*"), key=lambda path: int(path.suffix[1:]))
    return [_read(path) for path in dumps]


def _read(path: Path) -> Counted:
    text = path.read_text()
    names: dict[str, str] = {}
    called, calls = "", 0
    for line in text.splitlines():
        if (function := _FUNCTION.match(line)) is not None:
            called = function[1]
            if function[2]:
                names[called] = function[2]
        elif (number := _CALLS.match(line)) is not None and names.get(called, "") in _ALLOCATE:
            calls += int(number[1])
    total = _TOTALS.search(text)
    if total is None:
        raise RuntimeError(f"{path} has no total")
    return Counted(int(total[1]), calls)


def versions() -> dict[str, str]:
    """Return what the counts depend on besides the source."""
    flags = re.search(r"^flags\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    known = set(flags[1].split()) if flags else set()
    return {
        "compiler": compiler(),
        "C library": " ".join(platform.libc_ver()),
        "Python": platform.python_version(),
        "valgrind": _first_line("valgrind", "--version"),
        # The C library and checksums choose their code by these.
        "processor": " ".join(
            [platform.machine(), *sorted(known & {"avx2", "avx512f", "bmi2", "erms", "fsrm", "pclmulqdq", "sha_ni"})]
        ),
    }


def compiler() -> str:
    """Return the version of the Rust compiler that made the native module, as the module says."""
    found = re.findall(rb"rustc version [^\0]+", Path(_native.__file__ or "").read_bytes())
    return " ".join(sorted({version.decode() for version in found}))


def _first_line(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[0]
