"""Local copies of models, which the processes of a user share: one for each version of a model.

Beside the directory of a copy are a lock file and a record. A process that fills or removes a copy has its lock alone.
Processes that use it share the lock, and so do programs that inherit the descriptor. If a process is killed, the system
releases its lock, and the next one continues or removes what it left.
"""

import hashlib
import json
import os
import re
import shutil
import stat
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from osstorchconnector.connection.uri import split_prefix
from osstorchconnector.exceptions import OssConfigError
from osstorchconnector.files.space import free_space, in_memory
from osstorchconnector.files.transfer import local_path
from osstorchconnector.model_files.download import Downloads, matching_crc64
from osstorchconnector.model_files.lock import FileLock
from osstorchconnector.model_files.record import KeptFile, Record
from osstorchconnector.process.owner import Owner

if TYPE_CHECKING:
    from osstorchconnector.connection.client import OssClient
    from osstorchconnector.files.progress import Advance
    from osstorchconnector.model_files.listing import ModelFile

_GIB: Final = 1 << 30
# Programs must not write to a file that others use too.
_READ_ONLY: Final = 0o444
# Files of others may be in a directory that the user gives, also lock files such as those of package managers.
_NAME: Final = re.compile(r"[0-9a-f]{32}")
#: Who decides about space has this lock.
_SPACE: Final = "space"


class LocalCopy:
    """A whole copy of a model. It stays whole until it is released, or until all processes that share it end.

    Attributes:
        directory: Its files.
    """

    def __init__(self, copies: "LocalCopies", name: str, directory: Path, lock: FileLock) -> None:
        """Take over a lock that this process shares."""
        self.directory = directory
        self._lock = lock
        self._end = weakref.finalize(self, copies.leave, name, lock, Owner())

    @property
    def descriptor(self) -> int:
        """A descriptor to leave open in a program that uses the copy."""
        return self._lock.descriptor

    def release(self) -> bool:
        """End the use of the copy, and return whether it was the last one. Releasing again does nothing."""
        return self._end() is True


class LocalCopies:
    """The copies below a directory of this user."""

    def __init__(self, place: Path, *, keep: bool, limit: int | None = None) -> None:
        """Remember the place. Nothing is made before the first use.

        Args:
            place: The directory.
            keep: Keep copies that nobody uses, and remove those that were not used for longest when there is no room.
                Else a copy is removed when its last user releases it.
            limit: Most bytes of all copies. Default: what the file system has.
        """
        self.place = place
        self._keep = keep
        self._limit = limit

    def acquire(
        self,
        client: "OssClient",
        uri: str,
        files: Sequence["ModelFile"],
        *,
        advance: "Advance",
        waiting: Callable[[], object] = lambda: None,
        compare: bool = False,
    ) -> LocalCopy:
        """Return the copy of a version of a model. If there is none yet, it is made.

        Args:
            client: Reads the objects.
            uri: The model.
            files: Its files, in the order in which to fetch them.
            advance: Called with the number of bytes that are there.
            waiting: Called before this process waits for another one that makes the copy.
            compare: Read a copy that is there already, and compare its checksums.

        Raises:
            OssConfigError: There is no room, or the place cannot be used.
            OssError: A file could not be fetched, or has not its checksum.
        """
        self._make_place()
        name = _name_of(client.endpoint, uri, files)
        # What a killed process left of this version is continued.
        self.sweep(besides=name)
        directory = local_path(str(self.place / name), _last_name(uri))
        told = False
        while True:
            lock = FileLock.alone(self._path(name, "lock"))
            if lock is not None:
                try:
                    self._fill(client, uri, name, directory, files, advance, compare=compare)
                    shared = lock.share()
                except BaseException:
                    lock.end()
                    if not self._keep or not self._path(name, "json").exists():
                        self._remove(name)
                    raise
            else:
                if not told:
                    waiting()
                told = True
                lock = FileLock.together(self._path(name, "lock"))
                shared = lock is not None
            if lock is None:
                continue
            if shared and self._is_complete(name):
                os.utime(lock.descriptor)
                return LocalCopy(self, name, directory, lock)
            # The one that made it failed, or another one removed it in a moment without a lock.
            lock.close()

    def sweep(self, besides: str = "") -> None:
        """Remove what killed processes left, unless copies are kept; one copy stays."""
        if self._keep or not self.place.is_dir():
            return
        for name in self._names():
            if name != besides:
                self._remove(name)

    def leave(self, name: str, lock: FileLock, owner: Owner) -> bool:
        """End the use of a copy, and return whether nobody else uses it. Then it is removed, unless it is kept."""
        if not owner.is_this_process():
            return False
        last = lock.take()
        if not last:
            lock.close()
            return False
        if not self._keep:
            self._remove_locked(name, lock)
        # Forked processes must not have it alone.
        lock.end()
        return True

    def _fill(
        self,
        client: "OssClient",
        uri: str,
        name: str,
        directory: Path,
        files: Sequence["ModelFile"],
        advance: "Advance",
        *,
        compare: bool,
    ) -> None:
        before = Record.read(self._path(name, "json"))
        known = {} if before is None else before.files
        elsewhere = self._elsewhere(name)
        targets = {file.path: _target(directory, file.path) for file in files}
        whole: dict[str, KeptFile] = {}
        missing = []
        for file in files:
            target = targets[file.path]
            found = _found(client, file, target, known.get(file.path), compare=compare)
            if found is None and (source := elsewhere.get((file.uri, file.size, file.etag))) is not None:
                found = _linked(file, target, *source)
            if found is None:
                missing.append(file)
            else:
                whole[file.path] = found
                advance(file.size)
        total = sum(file.size for file in files)
        if missing:
            try:
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as error:
                raise OssConfigError(f"the directory {directory} cannot be made: {error.strerror}") from error
            self._make_room(name, Record(uri, total, files=whole), sum(file.size for file in missing))
            downloads = Downloads(client, advance, durable=not in_memory(self.place))
            values = downloads.all((file, targets[file.path]) for file in missing)
            for file in missing:
                targets[file.path].chmod(_READ_ONLY)
                whole[file.path] = KeptFile.of(targets[file.path], file.uri, file.etag, values[file.path])
        Record(uri, total, complete=True, files=whole).write(self._path(name, "json"))

    def _elsewhere(self, name: str) -> dict[tuple[str, int, str], tuple[Path, KeptFile]]:
        """Return the files of other copies by object, size and ETag, if copies are kept: other versions share files."""
        found = {}
        for other in self._names() if self._keep else []:
            record = Record.read(self._path(other, "json"))
            # The name below is that of the model.
            for directory in (self.place / other).glob("*") if record is not None and other != name else ():
                for path, kept in record.files.items() if record is not None else ():
                    found[kept.uri, kept.size, kept.etag] = (directory / path, kept)
        return found

    def _make_room(self, name: str, record: Record, needed: int) -> None:
        """Remove copies that nobody uses, longest unused first, until there is room, and write down what is needed."""
        with self._deciding():
            others = {other: self._size(other) for other in self._names() if other != name}
            total, limit = sum(others.values()) + record.total, self._limit
            unused = sorted(others, key=self._last_use) if self._keep else []
            while needed > free_space(self.place) or (limit is not None and total > limit):
                if not unused:
                    raise OssConfigError(self._no_room(record, needed, total))
                other = unused.pop(0)
                if self._remove(other):
                    total -= others[other]
            record.write(self._path(name, "json"))

    def _no_room(self, record: Record, needed: int, total: int) -> str:
        said = f"{record.uri} needs {needed / _GIB:.2f} GiB below {self.place}"
        free = free_space(self.place)
        if needed > free:
            kind = "in memory, " if in_memory(self.place) else ""
            return f"{said} ({kind}{free / _GIB:.2f} GiB are free): give a directory with more room"
        used = (total - record.total) / _GIB
        return (
            f"{said}, whose limit is {(self._limit or 0) / _GIB:.2f} GiB, and programs use {used:.2f} GiB of it: give "
            "a larger limit"
        )

    def _remove(self, name: str) -> bool:
        """Remove a copy that nobody uses; return whether that was so."""
        lock = FileLock.alone(self._path(name, "lock"))
        if lock is None:
            return False
        self._remove_locked(name, lock)
        lock.end()
        return True

    def _remove_locked(self, name: str, lock: FileLock) -> None:
        # First the record: a directory without one is no copy.
        self._path(name, "json").unlink(missing_ok=True)
        shutil.rmtree(self.place / name, ignore_errors=True)
        lock.remove()

    @contextmanager
    def _deciding(self) -> Iterator[None]:
        lock = FileLock.waiting(self.place / _SPACE)
        try:
            yield
        finally:
            lock.end()

    def _is_complete(self, name: str) -> bool:
        record = Record.read(self._path(name, "json"))
        return record is not None and record.complete

    def _names(self) -> list[str]:
        return sorted(path.stem for path in self.place.glob("*.lock") if _NAME.fullmatch(path.stem))

    def _size(self, name: str) -> int:
        record = Record.read(self._path(name, "json"))
        return 0 if record is None else record.total

    def _last_use(self, name: str) -> float:
        try:
            return self._path(name, "lock").stat().st_mtime
        except FileNotFoundError:
            return 0.0

    def _path(self, name: str, kind: str) -> Path:
        return self.place / f"{name}.{kind}"

    def _make_place(self) -> None:
        try:
            self.place.mkdir(mode=0o700, parents=True, exist_ok=True)
            found, link = self.place.stat(), self.place.lstat()
        except OSError as error:
            raise OssConfigError(f"the directory {self.place} cannot be made: {error.strerror}") from error
        if link.st_uid not in {0, os.getuid()} or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o022:
            raise OssConfigError(f"other users can write to {self.place}: give a directory that only this user can")


def shared_memory_place() -> Path:
    """Return the directory of this user in shared memory."""
    return Path("/dev/shm") / f"osstorchconnector-models-{os.getuid()}"  # noqa: S108 - checked to be this user's alone


def cache_place() -> Path:
    """Return the directory of this user's cache: below ``OSS_MODEL_CACHE``, else where caches are."""
    if given := os.environ.get("OSS_MODEL_CACHE", ""):
        return Path(given).absolute()
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else Path.home() / ".cache") / "osstorchconnector" / "models"


def is_link_to_copy(link: Path) -> bool:
    """Return whether a link leads into a local copy of a model, which may be gone."""
    to = link.readlink()
    # Caches of others name files by checksums, which look the same.
    return to.is_absolute() and any(_NAME.fullmatch(part) for part in to.parts[:-1])


def _target(directory: Path, path: str) -> Path:
    """Return the place of a file; a link there, which somebody else made, is removed."""
    if (directory / path).is_symlink():
        (directory / path).unlink()
    return local_path(str(directory), path)


def _found(
    client: "OssClient", file: "ModelFile", target: Path, kept: KeptFile | None, *, compare: bool
) -> KeptFile | None:
    """Describe a file that is there already; None if it is not there, or not whole."""
    if kept is not None:
        # Its stamp may be another one, if its checksum was compared.
        whole = kept.is_whole(target, compare=compare)
        return KeptFile.of(target, file.uri, file.etag, kept.crc64) if whole else None
    # A process that was killed fetched it, and could not write that down.
    value = matching_crc64(client, file, target)
    return None if value is None else KeptFile.of(target, file.uri, file.etag, value)


def _linked(file: "ModelFile", target: Path, source: Path, kept: KeptFile) -> KeptFile | None:
    """Link a file of another copy; None if it is not there any more, or not whole."""
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        os.link(source, target)
        if kept.is_whole(target, compare=False):
            return KeptFile.of(target, file.uri, file.etag, kept.crc64)
        target.unlink()
    except OSError:
        # Some file systems have no links.
        pass
    return None


def _last_name(uri: str) -> str:
    bucket, prefix = split_prefix(uri)
    return prefix.rstrip("/").rpartition("/")[2] or bucket


def _name_of(endpoint: str, uri: str, files: Iterable["ModelFile"]) -> str:
    version = [[file.uri, file.path, file.size, file.etag] for file in files]
    return hashlib.sha256(json.dumps([endpoint, uri.rstrip("/"), version]).encode()).hexdigest()[:32]
