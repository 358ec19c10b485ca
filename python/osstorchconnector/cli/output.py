"""What commands show: sizes, times, lines of JSON, colour, questions."""

import argparse
import json
import os
import sys
import time
from typing import IO, Any, Final

from osstorchconnector._printable import printable
from osstorchconnector.exceptions import OssConfigError

_UNIT: Final = 1024
# Made once: `json.dumps` with arguments makes one for each object, which takes longer than the object.
_ENCODE: Final = json.JSONEncoder().encode
_BLUE, _PLAIN = "\x1b[1;34m", "\x1b[0m"


def human(size: float) -> str:
    """Return a number of bytes as people read it, such as ``1.5 GiB``."""
    if size < _UNIT:
        return f"{size:.0f} B"
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        size /= _UNIT
        # 1023.96 would be shown as 1024.0.
        if size < _UNIT - 0.05:
            return f"{size:.1f} {unit}"
    return f"{size / _UNIT:.1f} PiB"


def shown_size(size: int, *, exact: bool) -> str:
    """Return a number of bytes for a table."""
    return str(size) if exact else human(size)


def utc(moment: float) -> str:
    """Return a Unix time, such as ``2026-11-30T08:00:00Z``."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))


def emit(document: dict[str, Any]) -> None:
    """Write one JSON object on a line of its own. Control characters are escaped."""
    sys.stdout.write(_ENCODE(document) + "\n")


def coloured(stream: IO[str]) -> bool:
    """Return whether to use colour: on a terminal, unless ``NO_COLOR`` is set (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def directory(text: str, *, colour: bool) -> str:
    """Return the name of a directory for a table."""
    shown = printable(text)
    return f"{_BLUE}{shown}{_PLAIN}" if colour else shown


def check_can_ask(options: argparse.Namespace, what: str) -> None:
    """Exit with status 2 if a command must ask, but nobody can be asked."""
    if not options.yes and not options.dry_run and not (sys.stdin.isatty() and sys.stderr.isatty()):
        parser: argparse.ArgumentParser = options.parser
        parser.error(f"{what} asks before it deletes, and there is no terminal to ask on: give --yes")


def confirm(question: str) -> None:
    """Ask before something is lost.

    Raises:
        OssConfigError: The answer is no.
    """
    sys.stderr.write(f"{printable(question)}? [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise OssConfigError("nothing was deleted")
