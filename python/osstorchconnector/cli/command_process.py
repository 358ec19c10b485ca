"""A command that `osst` runs: it gets the signals that `osst` gets, and its exit status is passed on."""

import contextlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from osstorchconnector.cli.ending import report

if TYPE_CHECKING:
    from types import FrameType

# As a shell reports them.
_NOT_FOUND: Final = 127
_NOT_RUNNABLE: Final = 126
_BY_SIGNAL: Final = 128

_PASSED_ON: Final = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
# The interpreter ignores them, and a program that inherits that would not end.
_RESET: Final = (signal.SIGPIPE, signal.SIGXFSZ)


class CommandProcess:
    """A command in a process of its own."""

    def __init__(self, words: list[str], environment: Mapping[str, str], descriptors: Sequence[int]) -> None:
        """Describe it.

        Args:
            words: The program and its arguments.
            environment: Variables to add to those of this process.
            descriptors: Open descriptors that the command inherits.
        """
        self._words = words
        self._environment = {**os.environ, **environment}
        self._descriptors = descriptors
        self._pid = 0
        self._early: list[int] = []
        self._interrupts = 0

    def run(self) -> int:
        """Run it to its end and return its exit status."""
        for descriptor in self._descriptors:
            os.set_inheritable(descriptor, True)  # noqa: FBT003 - it has no name
        before = {number: signal.signal(number, self._pass_on) for number in _PASSED_ON if _is_handled(number)}
        sys.stdout.flush()
        try:
            try:
                self._pid = os.posix_spawnp(self._words[0], self._words, self._environment, setsigdef=_RESET)
            except OSError as error:
                report("run", f"{self._words[0]} cannot be run: {error.strerror}")
                return _NOT_FOUND if isinstance(error, FileNotFoundError) else _NOT_RUNNABLE
            for number in self._early:
                self._send(number)
            status = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
            self._pid = 0
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        return _BY_SIGNAL - status if status < 0 else status

    def _pass_on(self, number: int, _frame: "FrameType | None") -> None:
        if number == signal.SIGINT:
            self._interrupts += 1
            if self._interrupts == 1 and _is_in_foreground():
                # The terminal sent it to the command too.
                return
        if self._pid:
            self._send(number)
        else:
            self._early.append(number)

    def _send(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, number)


def _is_handled(number: int) -> bool:
    """Return whether a signal is not ignored: a program that was started in the background ignores Ctrl-C."""
    return signal.getsignal(number) is not signal.SIG_IGN


def _is_in_foreground() -> bool:
    """Return whether Ctrl-C on the terminal reaches this process group."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)
