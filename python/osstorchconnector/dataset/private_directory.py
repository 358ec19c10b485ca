"""A private directory that the processes of one dataset share: for listing file, claims and failure counts."""

import contextlib
import logging
import os
import re
import shutil
import stat
import tempfile
import uuid
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from osstorchconnector.exceptions import OssConfigError
from osstorchconnector.process.owner import Owner
from osstorchconnector.process.starting import is_starting_process

_logger: Final = logging.getLogger(__name__)

# User, process, its start time, and machine and pid namespace decide who may remove the directory, and when.
_NAME: Final = re.compile(r"osstorchconnector-(\d+)-(\d+)-(\d+)-(\d+)-[0-9a-f]{32}")
# Field 22 of /proc/<pid>/stat is the start time; the first field after the command's name in brackets is the third.
_START_TIME: Final = 22 - 3
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_NAMESPACE: Final = Path("/proc/self/ns/pid")


class PrivateDirectory:
    """A directory for this user alone. Its name is chosen at once; the directory is made when it is first needed.

    The process that chose the name removes the directory when this object is dropped, or when the process ends. If it
    was killed, the next process that makes such a directory removes it. A process that is being started gets the name;
    any other copy gets its own directory.
    """

    def __init__(self) -> None:
        """Choose a name."""
        self._owner = Owner()
        self._path = Path(tempfile.gettempdir()) / _new_name()
        weakref.finalize(self, _remove, self._path, self._owner)

    @property
    def path(self) -> Path:
        """Location of the directory, which may not exist yet."""
        return self._path

    def make(self) -> Path:
        """Make the directory if it does not exist, and return its path.

        Raises:
            OssConfigError: It cannot be made, or another user made it.
        """
        try:
            self._path.mkdir(mode=0o700)
        except FileExistsError:
            pass
        except OSError as error:
            raise OssConfigError(
                f"the directory {self._path} for the dataset's listing cannot be made ({error.strerror}): set TMPDIR "
                "to a directory with free space that this user can write to"
            ) from error
        else:
            sweep(self._path.parent)
        found = self._path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
            raise OssConfigError(f"{self._path} is not a private directory of this user: remove it")
        return self._path

    @contextlib.contextmanager
    def written(self) -> Iterator[Path]:
        """Make the directory, in which the block then writes.

        Raises:
            OssConfigError: It cannot be made or written to.
        """
        path = self.make()
        try:
            yield path
        except OSError as error:
            raise OssConfigError(
                f"the directory {path} cannot be written to ({error.strerror}): set TMPDIR to a directory with free "
                "space that this user can write to"
            ) from error

    def __getstate__(self) -> dict[str, Any]:
        """Return the name if a process is being started, else nothing."""
        return {"path": self._path, "owner": self._owner} if is_starting_process() else {"path": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the name, or choose a new one."""
        if state["path"] is None:
            self.__init__()  # type: ignore[misc]
        else:
            self._path, self._owner = state["path"], state["owner"]


def living(parent: Path) -> Iterator[tuple[int, Path]]:
    """Return such directories of this user whose process runs, each with the number of the process."""
    namespace = _pid_namespace()
    with contextlib.suppress(OSError), os.scandir(parent) as entries:
        for entry in entries:
            name = _NAME.fullmatch(entry.name)
            if name is None:
                continue
            user, pid, start_time, its_namespace = map(int, name.groups())
            if (user, its_namespace) != (os.getuid(), namespace) or _start_time(pid) != start_time:
                continue
            with contextlib.suppress(OSError):
                if entry.is_dir(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_uid == user:
                    yield pid, Path(entry.path)


def sweep(parent: Path) -> None:
    """Remove the directories that killed processes of this user left behind.

    A process has ended if its pid is free, or belongs to a process that started later. Directories of processes in
    another pid namespace or on another machine stay, because nothing is known about these. Without ``/proc`` all
    directories stay.
    """
    namespace = _pid_namespace()
    if namespace == 0:
        return
    with contextlib.suppress(OSError), os.scandir(parent) as entries:
        for entry in entries:
            name = _NAME.fullmatch(entry.name)
            if name is None:
                continue
            user, pid, start_time, its_namespace = map(int, name.groups())
            if user != os.getuid() or its_namespace != namespace or _start_time(pid) == start_time:
                continue
            with contextlib.suppress(OSError):
                if entry.is_dir(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_uid == user:
                    _logger.debug("removing %s, which a killed process left behind", entry.path)
                    shutil.rmtree(entry.path, ignore_errors=True)


def _new_name() -> str:
    pid = os.getpid()
    start_time = _start_time(pid) or 0
    return f"osstorchconnector-{os.getuid()}-{pid}-{start_time}-{_pid_namespace()}-{uuid.uuid4().hex}"


def _start_time(pid: int) -> int | None:
    """Return when a process started, in ticks since the machine started, or None if there is no such process."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    return int(status.rpartition(")")[2].split()[_START_TIME])


def _pid_namespace() -> int:
    """Return a number of this pid namespace, or 0 if that is not known.

    Every machine has a first one of the same number, and machines may share a directory for temporary files. So the
    number has the start of the machine in it.
    """
    try:
        start = int(_BOOT_ID.read_text(encoding="ascii").replace("-", ""), 16)
        return start ^ _NAMESPACE.stat().st_ino
    except (OSError, ValueError):
        return 0


def _remove(path: Path, owner: Owner) -> None:
    # A forked child inherits the finalizer too.
    if owner.is_this_process():
        shutil.rmtree(path, ignore_errors=True)
