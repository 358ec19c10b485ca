"""A small file that says how far a long transfer is. One process has it at a time."""

import fcntl
import json
import os
import stat
from pathlib import Path
from typing import Any, Self

_READ_AT_ONCE = 1 << 16


class Record:
    """What a later run of the same transfer needs to continue it."""

    def __init__(self, path: Path, descriptor: int) -> None:
        """Hold the file, which is locked."""
        self._path = path
        self._descriptor = descriptor
        self._is_removed = False

    @classmethod
    def open(cls, path: Path) -> Self | None:
        """Return the record in a file, which is made if there is none.

        Returns:
            None if another process has it, the file cannot be written, or it is another user's or a link: then the
            transfer cannot be continued later.
        """
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The process that had it may have removed it meanwhile.
            is_there = path.exists() and os.fstat(descriptor).st_ino == path.stat().st_ino and is_own(descriptor)
        except OSError:
            is_there = False
        if is_there:
            return cls(path, descriptor)
        os.close(descriptor)
        return None

    def read(self) -> dict[str, Any]:
        """Return what was written; empty if nothing was, or a part of it only."""
        try:
            found = json.loads(os.pread(self._descriptor, _READ_AT_ONCE, 0))
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def write(self, values: dict[str, Any]) -> None:
        """Write it.

        Raises:
            OSError: The disk is full.
        """
        self._is_removed = False
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, json.dumps(values).encode(), 0)

    def remove(self) -> None:
        """Remove what was written, and at the end the file too: nothing is left to continue."""
        self._is_removed = True
        os.ftruncate(self._descriptor, 0)

    def close(self) -> None:
        """Let another process have it."""
        try:
            if self._is_removed:
                # Not before: another process would make a new one, and begin the same transfer.
                self._path.unlink(missing_ok=True)
        finally:
            os.close(self._descriptor)


def is_own(descriptor: int) -> bool:
    """Return whether an open file is a plain one of this user, and has no other name."""
    status = os.fstat(descriptor)
    return stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and status.st_nlink == 1
