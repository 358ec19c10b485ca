"""Checkpoints that are folders: the files that a training program wrote to a local disk, kept in OSS.

The files of a checkpoint are uploaded first, by each machine those that it has, and then the list of them. Only a
folder with a list counts, and only while all files in the list have the sizes and checksums that the list names. If a
checkpoint is saved again under its name, its files get other keys, so that the previous one stays until the new list
replaces the old.
"""

import contextlib
import logging
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Final, TypeVar

from osstorchconnector._native import crc64
from osstorchconnector.checkpoint import ranks
from osstorchconnector.checkpoint.folder_list import LIST, StoredFile, read_list, written_list
from osstorchconnector.connection.uri import split_object, split_prefix
from osstorchconnector.exceptions import OssConfigError, OssError, OssIntegrityError, OssNotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable

    from osstorchconnector.connection.client import OssClient

_logger = logging.getLogger(__name__)

# Enough for many small files; a large file uses several connections by itself.
_THREADS: Final = 8
_CHUNK: Final = 16 << 20
_NUMBER: Final = re.compile(r"\d+")

# What this process resumed from, and has not saved again. Several objects of a program may use one place.
_fetched: Final[set[str]] = set()

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class CheckpointFolders:
    """The checkpoints below one prefix. Ranks of a process group call all methods together."""

    def __init__(self, client: "OssClient", prefix: str, names: re.Pattern[str] = _NUMBER) -> None:
        """Name the place; the network is not used.

        Args:
            client: The client.
            prefix: ``oss://bucket/directory``.
            names: What the names of checkpoints contain; other folders below the prefix are ignored.

        Raises:
            OssConfigError: `prefix` is no URI of OSS, or it is a path object.
        """
        bucket, key = split_prefix(prefix)
        self._client = client
        self._pattern = names
        self.prefix = f"oss://{bucket}/{key.rstrip('/')}".rstrip("/")

    def uri(self, name: str) -> str:
        """Return the URI of a checkpoint."""
        uri = f"{self.prefix}/{name}"
        split_object(uri)
        return uri

    def save(self, folder: Path, name: str) -> str:
        """Upload the files of a local folder, and return the checkpoint's URI.

        Each machine uploads the files that it has. If several have a file of one name, the first of them uploads it.

        Raises:
            OssConfigError: No machine has a file in that folder.
            OssError: A file could not be read or uploaded. The checkpoint is not there, or is the previous one.
        """
        uri = self.uri(name)
        leads = _leads_machine()
        listings = ranks.together(lambda: sorted(_files_below(folder)) if leads else [])
        owners: dict[str, int] = {}
        for number, listing in enumerate(listings):
            for file in listing:
                owners.setdefault(file, number)
        if not owners:
            raise OssConfigError(
                f"{folder} is no folder with files on any rank's machine, so nothing was saved to {uri}"
            )
        previous = ranks.on_first(lambda: read_list(self._client, uri))
        subfolder = "" if previous is None else f"{ranks.on_first(lambda: secrets.token_hex(8))}/"
        own = [file for file, number in owners.items() if number == ranks.rank()]

        def upload(file: str, stopped: Event) -> StoredFile:
            return self._upload(folder / file, uri, (file, f"{subfolder}{file}"), stopped)

        try:
            stored = [one for part in ranks.together(lambda: _in_threads(upload, own)) for one in part]
        except BaseException as error:
            self._take_back([f"{uri}/{subfolder}{file}" for file in own], error)
            raise
        ranks.on_first(lambda: self._publish(uri, stored, previous or []))
        _fetched.discard(uri)
        return uri

    def newest(self) -> str | None:
        """Return the name of the whole checkpoint with the highest number, or None.

        Raises:
            OssError: The prefix could not be listed, or an object could not be read.
        """
        return ranks.on_first(self._newest)

    def fetch(self, name: str, folder: Path) -> None:
        """Download a checkpoint into a local folder on each machine. A folder that holds it already is used.

        Raises:
            OssNotFoundError: There is no such checkpoint.
            OssIntegrityError: A file has other bytes than were saved.
            OssError: A file could not be downloaded or written. No partial folder is left.
        """
        uri = self.uri(name)
        files = ranks.on_first(lambda: self._files(uri))
        leads = _leads_machine()
        ranks.together(lambda: self._fetch(uri, files, folder) if leads else None)
        _fetched.add(uri)

    def keep(self, n: int, protected: Iterable[str] = ()) -> list[str]:
        """Delete all but the newest `n` whole checkpoints and the protected ones; return the deleted names.

        What this process fetched is protected too, so that another restart can fetch it again. A folder without a list
        is never deleted: it may be something else, or a save that is running.

        Raises:
            OssError: A checkpoint could not be read or deleted.
        """
        kept = frozenset(protected)
        return ranks.on_first(lambda: self._keep(n, kept))

    def _upload(self, path: Path, uri: str, name_and_key: tuple[str, str], stopped: Event) -> StoredFile:
        name, key = name_and_key
        checksum = size = 0
        try:
            with path.open("rb") as source, self._client.writer(f"{uri}/{key}") as target:
                while chunk := source.read(_CHUNK):
                    _go_on(stopped)
                    target.write(chunk)
                    checksum = crc64(chunk, checksum)
                    size += len(chunk)
        except OssError:
            raise
        except OSError as error:
            raise OssConfigError(f"{path} cannot be read: {error.strerror}; nothing was saved") from error
        return StoredFile(name, key, size, checksum)

    def _take_back(self, uris: list[str], cause: BaseException) -> None:
        try:
            self._client.delete_many(uris)
        except OssError as error:
            cause.add_note(f"files of this failed save could not be deleted, such as {uris[0]}: {error}")

    def _publish(self, uri: str, files: list[StoredFile], previous: list[StoredFile]) -> None:
        self._client.put(f"{uri}/{LIST}", written_list(files))
        old = {file.key for file in previous} - {file.key for file in files}
        try:
            self._client.delete_many(f"{uri}/{key}" for key in sorted(old))
        except OssError as error:
            # The new checkpoint is whole: only deleting the old files failed.
            _logger.warning("%s is saved, but files of the previous one could not be deleted: %s", uri, error)

    def _files(self, uri: str) -> list[StoredFile]:
        files = read_list(self._client, uri)
        if files is None:
            raise OssNotFoundError(f"{uri} has no {LIST}, which a save writes last: the save did not end, or was none")
        return files

    def _names(self) -> list[str]:
        """Return the names of all folders, the newest first."""
        start = f"{self.prefix}/"
        names = [
            item.uri.removeprefix(start).rstrip("/")
            for item in self._client.list(start, delimiter="/")
            if item.uri.endswith("/")
        ]
        numbered = [
            (int(numbers[-1]), name)
            for name in names
            if self._pattern.search(name) and (numbers := _NUMBER.findall(name))
        ]
        return [name for _, name in sorted(numbered, reverse=True)]

    def _newest(self) -> str | None:
        return next((name for name in self._names() if self.is_whole(name)), None)

    def is_whole(self, name: str) -> bool:
        """Return whether a checkpoint has all files of its list. It is not called together."""
        uri = self.uri(name)
        try:
            files = read_list(self._client, uri)
        except OssIntegrityError as error:
            _logger.warning("%s", error)
            return False
        if files is None:
            return False

        def differs(file: StoredFile, _stopped: Event) -> bool:
            try:
                found = self._client.head(f"{uri}/{file.key}")
            except OssNotFoundError:
                return True
            return found.size != file.size or (found.crc64 is not None and found.crc64 != file.crc64)

        wrong = [file.name for file, wrong in zip(files, _in_threads(differs, files), strict=True) if wrong]
        if wrong:
            _logger.warning("%s is damaged: %s is missing or was replaced", uri, wrong[0])
        return not wrong

    def _fetch(self, uri: str, files: list[StoredFile], folder: Path) -> None:
        if _holds(folder, files):
            return
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(8)}")
            temporary.mkdir()
        except OSError as error:
            raise OssConfigError(f"{folder} cannot be written: {error.strerror}") from error
        try:
            _in_threads(lambda file, stopped: self._download(uri, file, temporary, stopped), files)
            if folder.exists():
                aside = folder.with_name(f"{folder.name}.replaced-{secrets.token_hex(4)}")
                folder.rename(aside)
                _logger.warning("%s held something else than %s: it is %s now", folder, uri, aside)
            temporary.rename(folder)
        except OSError as error:
            if isinstance(error, OssError):
                raise
            raise OssConfigError(f"{folder} cannot be written: {error.strerror}") from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _download(self, uri: str, file: StoredFile, folder: Path, stopped: Event) -> None:
        target = folder / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        source = f"{uri}/{file.key}"
        checksum = size = 0
        buffer = memoryview(bytearray(min(_CHUNK, file.size + 1)))
        with self._client.reader(source) as reader, target.open("wb") as written:
            while count := reader.readinto(buffer):
                _go_on(stopped)
                written.write(buffer[:count])
                checksum = crc64(buffer[:count], checksum)
                size += count
        if (size, checksum) != (file.size, file.crc64):
            raise OssIntegrityError(f"{source} has other bytes than were saved: use another checkpoint")

    def _keep(self, n: int, protected: frozenset[str]) -> list[str]:
        kept = 0
        deleted = []
        for name in self._names():
            if kept < n:
                kept += self.is_whole(name)
            elif name not in protected and self.uri(name) not in _fetched and self._exists(f"{self.uri(name)}/{LIST}"):
                self._delete(self.uri(name))
                deleted.append(name)
        return deleted

    def _exists(self, uri: str) -> bool:
        try:
            self._client.head(uri)
        except OssNotFoundError:
            return False
        return True

    def _delete(self, uri: str) -> None:
        # Without its list a checkpoint does not count, so the list goes first.
        self._client.delete(f"{uri}/{LIST}")
        self._client.delete_many(item.uri for item in self._client.list(f"{uri}/"))


def check_keep(keep: int | None) -> int | None:
    """Return the number of checkpoints to keep.

    Raises:
        OssConfigError: It is less than 1, or no whole number.
    """
    if keep is not None and (isinstance(keep, bool) or not isinstance(keep, int) or keep < 1):
        raise OssConfigError(f"keep must be a whole number of at least 1, or None to delete nothing, got {keep!r}")
    return keep


def remove_empty(folder: Path) -> None:
    """Remove a folder that a framework made of a URI, and its parents, as far as they are empty."""
    for path in (folder, *folder.parents):
        try:
            path.rmdir()
        except OSError:
            return


@contextlib.contextmanager
def private_folder() -> Iterator[Path]:
    """Make a temporary folder on each machine for all its ranks, which enter and leave the block together.

    Raises:
        OssConfigError: There is no place for it.
    """

    def make() -> str | None:
        try:
            return tempfile.mkdtemp(prefix="osstorchconnector-") if _leads(leaders) else None
        except OSError as error:
            raise OssConfigError(f"no temporary folder can be made: {error}; set TMPDIR") from error

    leaders = ranks.machine_leaders()
    made = ranks.together(make)[leaders[ranks.rank()]]
    if made is None:
        raise OssError("the first rank of this machine made no temporary folder")
    try:
        yield Path(made)
    finally:
        if _leads(leaders):
            shutil.rmtree(made, ignore_errors=True)


def _leads(leaders: list[int]) -> bool:
    return leaders[ranks.rank()] == ranks.rank()


def _leads_machine() -> bool:
    return _leads(ranks.machine_leaders())


def _files_below(folder: Path) -> Iterator[str]:
    for directory, _, names in os.walk(folder, onerror=_raise):
        for name in names:
            path = Path(directory, name)
            if path.is_file():
                yield path.relative_to(folder).as_posix()


def _raise(error: OSError) -> None:
    # A folder that this machine does not have is no error: another machine may have it.
    if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
        raise OssConfigError(f"{error.filename} cannot be read: {error.strerror}") from error


def _holds(folder: Path, files: list[StoredFile]) -> bool:
    """Return whether a folder has these files, and no others, with these bytes."""
    if set(_files_below(folder)) != {file.name for file in files}:
        return False
    with contextlib.suppress(OSError):
        return all(
            (folder / file.name).stat().st_size == file.size and _checksum(folder / file.name) == file.crc64
            for file in files
        )
    return False


def _checksum(path: Path) -> int:
    checksum = 0
    with path.open("rb") as source:
        while chunk := source.read(_CHUNK):
            checksum = crc64(chunk, checksum)
    return checksum


def _in_threads(function: "Callable[[_Item, Event], _Result]", items: Iterable[_Item]) -> list[_Result]:
    """Call a function for each item. If one call fails, or Ctrl-C comes, the event makes the others end."""
    stopped = Event()
    with ThreadPoolExecutor(_THREADS) as threads:
        futures = [threads.submit(function, item, stopped) for item in items]
        try:
            # The first failure, not that of a call that was stopped because of it.
            wait(futures, return_when=FIRST_EXCEPTION)
            for future in futures:
                if future.done() and (error := future.exception()) is not None:
                    raise error
            return [future.result() for future in futures]
        finally:
            stopped.set()
            for future in futures:
                future.cancel()


def _go_on(stopped: Event) -> None:
    """Raise if another transfer failed."""
    if stopped.is_set():
        raise OssError("stopped, because another file failed")
