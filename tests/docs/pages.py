"""The code of a page of the documentation, and how it is run."""

import os
import re
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
_FENCE: Final = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
# The first line of a program that readers save says its name.
_NAME: Final = re.compile(r"# (?P<name>[\w./-]+\.\w+)\n")


@dataclass(frozen=True)
class Block:
    """One block of code."""

    language: str
    text: str

    @property
    def name(self) -> str | None:
        """The file that the page tells the reader to save the block in."""
        match = _NAME.match(self.text)
        return match and match["name"]


def blocks(page: Path | str) -> list[Block]:
    """Return the blocks of code of a page, or of a part of it."""
    text = page if isinstance(page, str) else page.read_text(encoding="utf-8")
    return [Block(match["language"], match["text"]) for match in _FENCE.finditer(text)]


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def new_shell(folder: Path) -> dict[str, str]:
    """Return the environment of a new shell: nothing of this process's settings but where programs are."""
    given = {name: os.environ[name] for name in ("PYTHONPATH", "OMP_NUM_THREADS") if name in os.environ}
    return {**given, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(folder)}


def pasted(given: list[Block], folder: Path, **replaced: str) -> subprocess.CompletedProcess[str]:
    """Do what a reader does who pastes blocks one after the other into a new shell in `folder`.

    Named blocks are saved. Python without a name is pasted into `python`, whose prompt needs an empty line after an
    indented block. Everything ends with the shell.
    """
    script = ["set -m", "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT", "set -e"]
    for block in given:
        text = block.text
        for name, value in replaced.items():
            assert isinstance(value, str)
            text = text.replace(name.removeprefix("_"), value)
        if block.name is not None:
            path = folder / block.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        elif block.language == "python":
            script.append(f"python -i - <<'END' 2>stderr\n{text}\nEND\n! grep -A20 Error stderr >&2")
        elif block.language == "sh":
            script.append(text)
    return subprocess.run(
        ["bash", "-s"],
        input="\n".join(script),
        cwd=folder,
        env=new_shell(folder),
        capture_output=True,
        text=True,
        check=False,
    )
