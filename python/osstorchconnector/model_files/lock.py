"""A lock file that processes of a machine share. The system releases it when the last process that has it ends."""

import contextlib
import fcntl
import os
from pathlib import Path
from typing import Self


class FileLock:
    """An open lock file, on which this process has a lock.

    A process that was started with its descriptor has the same lock.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        """Take over an open descriptor."""
        self._path = path
        self.descriptor = descriptor

    @classmethod
    def alone(cls, path: Path) -> Self | None:
        """Lock a file for this process alone, and make it if it does not exist; None if another process has it."""
        return cls._lock(path, fcntl.LOCK_EX | fcntl.LOCK_NB)

    @classmethod
    def together(cls, path: Path) -> Self | None:
        """Wait until no process has the file alone, and share it; None if it was removed meanwhile."""
        return cls._lock(path, fcntl.LOCK_SH)

    @classmethod
    def waiting(cls, path: Path) -> Self:
        """Wait until this process has the file alone."""
        while (lock := cls._lock(path, fcntl.LOCK_EX)) is None:
            pass
        return lock

    @classmethod
    def _lock(cls, path: Path, how: int) -> Self | None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        lock = cls(path, descriptor)
        try:
            fcntl.flock(descriptor, how)
        except BlockingIOError:
            lock.close()
            return None
        except BaseException:
            lock.close()
            raise
        if not lock._is_current():
            lock.close()
            return None
        return lock

    def share(self) -> bool:
        """Let others share it from now on; return whether it was not removed in between."""
        # The system gives the lock up for a moment.
        fcntl.flock(self.descriptor, fcntl.LOCK_SH)
        return self._is_current()

    def take(self) -> bool:
        """Return whether no other process shares it, so that this one has it alone. If not, this one has no lock."""
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return self._is_current()

    def remove(self) -> None:
        """Remove the file, which this process has alone. Processes that wait for it find that it is another one."""
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()

    def close(self) -> None:
        """Give the lock up. Processes that were forked meanwhile still have it."""
        os.close(self.descriptor)

    def end(self) -> None:
        """Give the lock up, also for processes that were forked meanwhile."""
        fcntl.flock(self.descriptor, fcntl.LOCK_UN)
        self.close()

    def _is_current(self) -> bool:
        """Return whether the path still has this file: another process may have removed it before this one had it."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return False
        mine = os.fstat(self.descriptor)
        return (found.st_dev, found.st_ino) == (mine.st_dev, mine.st_ino)
