"""What commands print, and how they end: after an error, after Ctrl-C, and after a signal to terminate."""

import contextlib
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NoReturn

from osstorchconnector._printable import printable

if TYPE_CHECKING:
    from types import FrameType

_WAYS: Final = (
    "give --cred-path FILE (a JSON file with AccessKeyId and AccessKeySecret), or set OSS_ACCESS_KEY_ID and "
    "OSS_ACCESS_KEY_SECRET"
)

#: The exit status that a shell reports for a program that Ctrl-C ended.
INTERRUPTED: Final = 130
#: The one of a program that wrote to a pipe that nobody reads any more.
BROKEN_PIPE: Final = 141

# The requirement of the commands about checkpoints, the only ones that need torch.
_CHECKPOINTS_NEED: Final = "torch>=2.7"


# The functions that clean up before a process ends without waiting for its threads.
_instead_of_threads: Final[list[Callable[[], object]]] = []

# The uploads of the threads are aborted meanwhile, so that their parts cost nothing.
_ABORT_SECONDS: Final = 5.0


def end_without_threads() -> None:
    """Let the process end without waiting for threads, which wait for the network and cannot see Ctrl-C."""
    from osstorchconnector._native import end_uploads  # noqa: PLC0415 - few commands need them
    from osstorchconnector.files.writing import remove_unfinished  # noqa: PLC0415

    _instead_of_threads[:] = [lambda: end_uploads(_ABORT_SECONDS), remove_unfinished]


def finish(command: str, run: Callable[[], int]) -> int:
    """Run a command and return its exit status; every failure becomes a sentence on standard error."""
    status = _status(command, run)
    if _instead_of_threads:
        for clean_up in _instead_of_threads:
            with contextlib.suppress(Exception, KeyboardInterrupt):
                # Nothing can be said or done any more.
                clean_up()
        os._exit(status)
    return status


def _status(command: str, run: Callable[[], int]) -> int:
    try:
        try:
            status = run()
        finally:
            # Here, and not at the end of the interpreter, where an error would be a traceback.
            sys.stdout.flush()
    except BrokenPipeError:
        # The program that reads the output wants no more, as `head` does.
        _discard_output()
        return BROKEN_PIPE
    except KeyboardInterrupt:
        return INTERRUPTED
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "torch":
            raise
        missing = isinstance(error, ModuleNotFoundError)
        report(command, f"needs PyTorch; run: pip install '{_CHECKPOINTS_NEED}'" if missing else error)
        return 1
    except OSError as error:
        report(command, error)
        _discard_output()
        return 1
    except RuntimeError as error:
        if not _is_ours(error):
            raise
        report(command, error)
        return 1
    return status


def _is_ours(error: Exception) -> bool:
    from osstorchconnector.exceptions import OssError  # noqa: PLC0415 - a command that fails has time for it

    return isinstance(error, OssError)


def _discard_output() -> None:
    """Let the interpreter's end write what is left nowhere, if it can be written no more."""
    try:
        sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def report(command: str, text: object) -> None:
    """Write a message of a command, or its error, to standard error."""
    sys.stderr.write(f"osst {command}: {printable(said(text))}\n")


def said(text: object) -> str:
    """Return an error as a sentence for users of the command line."""
    if isinstance(text, OSError) and text.strerror and not _is_ours(text):
        return f"{text.filename or 'standard output'}: {text.strerror}"
    shown = str(text)
    if isinstance(text, RuntimeError) and _is_ours(text):
        from osstorchconnector.credentials.chain import WAYS  # noqa: PLC0415 - as above

        # A command has options where a program has arguments.
        return shown.replace(WAYS, _WAYS)
    return shown


def say(text: str) -> None:
    """Write a line to standard output. Keys in it may hold any characters, and none reaches the terminal raw."""
    sys.stdout.write(f"{printable(text)}\n")


def interrupt(_signal: int, _frame: "FrameType | None") -> NoReturn:
    """Handle a signal as Ctrl-C."""
    raise KeyboardInterrupt
