"""What commands print, and how they end: after an error, after Ctrl-C, and after a signal to terminate."""

import sys
from typing import TYPE_CHECKING, Final, NoReturn

from osstorchconnector._printable import printable
from osstorchconnector.credentials.chain import WAYS
from osstorchconnector.exceptions import OssCredentialsError

if TYPE_CHECKING:
    from types import FrameType

_WAYS: Final = (
    "give --cred-path FILE (a JSON file with AccessKeyId and AccessKeySecret), or set OSS_ACCESS_KEY_ID and "
    "OSS_ACCESS_KEY_SECRET"
)

#: The exit status that a shell reports for a program that Ctrl-C ended.
INTERRUPTED: Final = 130


def report(command: str, text: object) -> None:
    """Write a message of a command, or its error, to standard error."""
    if isinstance(text, OssCredentialsError):
        # A command has options where a program has arguments.
        text = str(text).replace(WAYS, _WAYS)
    sys.stderr.write(f"osst {command}: {printable(text)}\n")


def say(text: str) -> None:
    """Write a line to standard output. Keys in it may hold any characters, and none reaches the terminal raw."""
    sys.stdout.write(f"{printable(text)}\n")


def interrupt(_signal: int, _frame: "FrameType | None") -> NoReturn:
    """Handle a signal as Ctrl-C."""
    raise KeyboardInterrupt
