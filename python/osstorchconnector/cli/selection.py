"""Which files and objects a command takes: ``--include``, ``--exclude``, ``--newer``."""

import argparse
import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

from osstorchconnector.cli.globs import compiled, matches
from osstorchconnector.cli.values import age


@dataclass(frozen=True)
class Selection:
    """What the options say about which files and objects to take."""

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    #: Unix time; None takes files of any age.
    newer: float | None = None

    @classmethod
    def of(cls, options: argparse.Namespace) -> Self:
        """Return what the options of a command say."""
        return cls(tuple(options.include), tuple(options.exclude), options.newer)

    @property
    def everything(self) -> bool:
        """Whether nothing is left out."""
        return not self.include and not self.exclude and self.newer is None

    def takes(self, path: str, modified: float) -> bool:
        """Return whether a file is taken.

        Args:
            path: Its path below what the command was given.
            modified: When it was written last.
        """
        return (self.newer is None or modified > self.newer) and self.takes_name(path)

    def takes_name(self, path: str) -> bool:
        """Return whether a file of any age is taken."""
        if self.include and not any(matches(pattern, path) for pattern in self.include):
            return False
        return not any(_leaves_out(pattern, path) for pattern in self.exclude)


def _leaves_out(pattern: str, path: str) -> bool:
    """Return whether a pattern matches a path or a directory of it; with a slash at its end, only a directory."""
    if matches(pattern, path):
        return True
    name = pattern.removesuffix("/")
    return any(matches(name, path[: slash.start()]) for slash in re.finditer("/", path))


def add_selection(parser: argparse.ArgumentParser) -> None:
    """Add the options to a command."""
    group = parser.add_argument_group(
        "selection",
        "A PATTERN has *, ?, [a-z] and **; only ** goes across slashes. Without a slash it is about the last name, "
        "with one about the path below what the command was given.",
    )
    group.add_argument(
        "--include", action="append", default=[], type=_pattern, metavar="PATTERN", help="take only what matches one"
    )
    group.add_argument(
        "--exclude",
        action="append",
        default=[],
        type=_pattern,
        metavar="PATTERN",
        help="leave out what matches one, and what is below a directory that matches",
    )
    group.add_argument(
        "--newer",
        type=_since,
        metavar="WHEN",
        help="take only what was written later: an age such as 12h, or a date such as 2026-11-30 or 2026-11-30T08:00 "
        "in UTC",
    )


def _pattern(text: str) -> str:
    try:
        compiled(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _since(text: str) -> float:
    if re.fullmatch(r"\d+[smhd]", text):
        return time.time() - age(text).total_seconds()
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither an age such as 12h nor a date such as 2026-11-30T08:00"
        ) from None
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
