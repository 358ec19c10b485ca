"""Which process made a value: after a fork, parent and child both hold it, and only one of them owns it."""

import os
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from osstorchconnector.exceptions import OssError

Value = TypeVar("Value")


class Owner:
    """The process that made a value."""

    __slots__ = ("pid",)

    def __init__(self) -> None:
        """Remember this process."""
        self.pid: Final = os.getpid()

    def is_this_process(self) -> bool:
        """Return whether this process made the value, not one that it was forked from."""
        return self.pid == os.getpid()

    def check(self, what: str) -> None:
        """Check that this process made the value. Call it before a lock that a fork may have copied is taken.

        Args:
            what: The value, for the message.

        Raises:
            OssError: Another process made it.
        """
        if not self.is_this_process():
            raise OssError(f"{what} was opened in process {self.pid}, not in {os.getpid()}: open it in this one")


class PerProcess(Generic[Value]):
    """A value that each process makes for itself, when it first needs it."""

    __slots__ = ("by_pid",)

    def __init__(self) -> None:
        """Make no value yet."""
        self.by_pid: Final[dict[int, Value]] = {}

    def get(self, make: Callable[[], Value]) -> Value:
        """Return the value of this process; the first call makes it."""
        # No lock: a fork could copy it locked. If two threads both make a value, setdefault keeps one of them. The
        # values of a parent process are kept, not dropped: what they hold belongs to the parent.
        pid = os.getpid()
        value = self.by_pid.get(pid)
        return value if value is not None else self.by_pid.setdefault(pid, make())
