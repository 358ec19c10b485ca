"""Draw docs/images/doctor.svg, top.svg and bench.svg: what the commands show in a terminal, run against the emulator.

``python tools/draw_terminal.py [NAME ...]``; the figures are those of this machine.
"""

import re
import subprocess
import sys
import tempfile
from html import escape
from pathlib import Path
from typing import Final, NamedTuple

import pexpect

from osstorchconnector.testing import Emulator

IMAGES: Final = Path(__file__).resolve().parent.parent / "docs" / "images"

_COLUMNS: Final = 112
_WIDTH: Final = 7.3
_HEIGHT: Final = 17
_MARGIN: Final = 14
_GROUND: Final = "#0d1117"
_INK: Final = "#e6edf3"
_PROMPT: Final = "#7d8590"
# Of the colours of a terminal, those that the commands use.
_COLOURS: Final = {"31": "#ff7b72", "32": "#7ee787", "33": "#e3b341", "36": "#79c0ff"}
_SGR: Final = re.compile(r"\x1b\[([\d;]*)m")
_OTHER: Final = re.compile(r"\x1b\[[\d;?]*[A-HJKST-Zhl]")
_FONT: Final = "ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace"

# A job whose transform takes most of the time.
_JOB: Final = """
import sys, time
from torch.utils.data import DataLoader
from osstorchconnector import OssMapDataset

def decode(item):
    time.sleep(0.03)
    return len(item.read())

endpoint, key = sys.argv[1:]
dataset = OssMapDataset.from_prefix(
    "oss://images/train/", endpoint, cred_path=key, region="cn-hangzhou", transform=decode
)
while True:
    for _ in DataLoader(dataset, batch_size=16, num_workers=1):
        pass
"""


class Span(NamedTuple):
    """Text of one colour."""

    text: str
    colour: str


def spans_of(line: str) -> list[Span]:
    """Return the coloured parts of a line."""
    found, colour = [], _INK
    for position, part in enumerate(_SGR.split(line)):
        if position % 2 == 0:
            if part:
                found.append(Span(part, colour))
            continue
        for code in part.split(";"):
            colour = _COLOURS.get(code, _INK if code in {"", "0", "39"} else colour)
    return found


def draw(title: str, command: str, shown: str) -> str:
    """Return the picture of a command and its output."""
    # Of a line that was written over, what is left.
    written = [line.rstrip("\r").rpartition("\r")[2] for line in _OTHER.sub("", shown).rstrip().split("\n")]
    described = "\n".join(_SGR.sub("", line) for line in written)
    lines = [[Span("$ ", _PROMPT), Span(command, _INK)]]
    lines += [spans_of(line) for line in written]
    columns = max(sum(len(span.text) for span in line) for line in lines)
    width, height = round(columns * _WIDTH + 2 * _MARGIN), len(lines) * _HEIGHT + 2 * _MARGIN
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" font-family="{_FONT}" font-size="12">',
        f"<title>{escape(title)}</title>",
        f"<desc>{escape(described)}</desc>",
        f'<rect width="{width}" height="{height}" rx="8" fill="{_GROUND}"/>',
    ]
    for number, line in enumerate(lines):
        column, y = 0, _MARGIN + number * _HEIGHT + 12
        for text, colour in line:
            # The width is given, since each machine has another font.
            place = f'x="{_MARGIN + column * _WIDTH:.1f}" y="{y}" textLength="{len(text) * _WIDTH:.1f}"'
            if text.strip():
                parts.append(f'<text {place} fill="{colour}" xml:space="preserve">{escape(text)}</text>')
            column += len(text)
    return "\n".join([*parts, "</svg>", ""])


def run(command: str, folder: Path) -> str:
    """Return what a command shows in a terminal."""
    words = [sys.executable, "-m", "osstorchconnector.cli", *command.split()[1:]]
    child = pexpect.spawn(
        words[0], words[1:], cwd=str(folder), encoding="utf-8", timeout=120, dimensions=(200, _COLUMNS)
    )
    child.expect(pexpect.EOF)
    return str(child.before)


def main(names: list[str]) -> None:
    """Draw the pictures of these names, or all."""
    with tempfile.TemporaryDirectory() as temporary, Emulator(port=9400) as emulator:
        folder = Path(temporary)
        (folder / "key.json").write_bytes(Path(emulator.cred_path).read_bytes())
        emulator.create_bucket("images")
        client = emulator.client()
        for number in range(400):
            client.put(f"oss://images/train/{number:04}.jpg", bytes(100_000))
        connection = f"--endpoint {emulator.endpoint.removeprefix('http://')} --region cn-hangzhou --cred-path key.json"
        commands = {
            "doctor": (f"osst doctor oss://images/train/ {connection}", "What osst doctor says of an emulator"),
            "bench": (
                f"osst bench oss://images/train/ --seconds 12 {connection}",
                "What osst bench says of an emulator",
            ),
            "top": ("osst top --once", "What osst top says of a job with a slow transform"),
        }
        for name in names or commands:
            command, title = commands[name]
            job = None
            if name == "top":
                arguments = [emulator.endpoint, str(folder / "key.json")]
                job = subprocess.Popen([sys.executable, "-c", _JOB, *arguments], stdin=subprocess.DEVNULL)
                while "the job waits" not in run(command, folder):
                    if job.poll() is not None:
                        raise RuntimeError("the job ended")
            try:
                (IMAGES / f"{name}.svg").write_text(draw(title, command, run(command, folder)), encoding="utf-8")
            finally:
                if job is not None:
                    job.terminate()
                    job.wait()


if __name__ == "__main__":
    main(sys.argv[1:])
