"""Downloading the files of a model, several at a time, each whole or not at all."""

import os
import secrets
import shutil
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed, wait
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, cast

from osstorchconnector._native import crc64
from osstorchconnector.exceptions import OssConfigError, OssError, OssIntegrityError
from osstorchconnector.files.receiving import receive
from osstorchconnector.files.transfer import Stopped
from osstorchconnector.files.writing import writing

if TYPE_CHECKING:
    from osstorchconnector.connection.client import OssClient
    from osstorchconnector.files.progress import Advance
    from osstorchconnector.model_files.listing import ModelFile

# One large file already uses all connections. Further ones keep them busy while it begins and ends.
_AT_A_TIME: Final = 4
_ATTEMPTS: Final = 3
_CHUNK: Final = 8 << 20
# Up to this size, a file is always compared by checksum: one request, and no wait for the disk that anybody notices.
_COMPARED: Final = 8 << 20
_PATIENCE_SECONDS: Final = 1.0


class Downloads:
    """Downloads files. Threads may share it."""

    def __init__(self, client: "OssClient", advance: "Advance", *, durable: bool) -> None:
        """Prepare.

        Args:
            client: Reads objects.
            advance: Called with the number of bytes that arrived, by one thread at a time.
            durable: Whether a file must be on the disk at its end, so that it survives a crash of the machine.
        """
        self._client = client
        self._advance = advance
        self._durable = durable
        self._counting = threading.Lock()
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Make the running downloads raise :class:`osstorchconnector.files.transfer.Stopped`."""
        self._stopped.set()

    def all(self, files: Iterable[tuple["ModelFile", Path]]) -> dict[str, int]:
        """Download files, in their order, and several at a time; return the CRC-64 of each by its path in the model.

        Raises:
            OssError: One could not be downloaded; the others were stopped.
        """
        threads = ThreadPoolExecutor(_AT_A_TIME, thread_name_prefix="osst-model")
        running = {threads.submit(self.one, file, target): file.path for file, target in files}
        try:
            return {running[done]: done.result() for done in as_completed(running)}
        except BaseException as error:
            self.stop()
            threads.shutdown(wait=False, cancel_futures=True)
            # A step may take long on a slow network, and after Ctrl-C nobody waits for it.
            left = [future for future in running if not future.cancelled()]
            wait(left, _PATIENCE_SECONDS if isinstance(error, KeyboardInterrupt) else None)
            raise
        finally:
            threads.shutdown(wait=False)

    def one(self, file: "ModelFile", target: Path) -> int:
        """Download a file, give it the time of its object, and return its CRC-64.

        Raises:
            Stopped: It was stopped.
            OssIntegrityError: The object was replaced since it was listed, or bytes do not have their checksum.
            OssError: It could not be downloaded.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            counted = 0

            def count(more: int) -> None:
                nonlocal counted
                counted += more
                self._count(more)

            try:
                value = self._fetch(file, target, count)
            except _ReplacedError:
                raise
            except OssIntegrityError:
                if attempt == _ATTEMPTS:
                    raise
                self._count(-counted)
            else:
                os.utime(target, (file.modified, file.modified))
                return value
        raise AssertionError("the last attempt returns or raises")

    def _fetch(self, file: "ModelFile", target: Path, count: "Advance") -> int:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with writing(str(target), None, durable=self._durable) as written:
                return self._receive(file, cast("BinaryIO", written), count)
        except OssError:
            raise
        except OSError as error:
            # Such as a full disk.
            raise OssConfigError(f"{target} cannot be written: {error.strerror}; no partial file is left") from error

    def _receive(self, file: "ModelFile", written: BinaryIO, count: "Advance") -> int:
        if self._stopped.is_set():
            raise Stopped
        with self._client.reader(file.uri) as reader:
            _check_version(file, reader.etag, reader.size)
            return receive(reader, written, count, self._stopped)

    def _count(self, count: int) -> None:
        with self._counting:
            self._advance(count)


class _ReplacedError(OssIntegrityError):
    """Another attempt would find the same."""


def _check_version(file: "ModelFile", etag: str, size: int) -> None:
    if (etag, size) != (file.etag, file.size):
        raise _ReplacedError(f"{file.uri} was replaced while its model was read: begin again")


def is_current(client: "OssClient", file: "ModelFile", path: Path) -> bool:
    """Return whether a local file is like its object: by checksum, or a large one by size and time if they are equal.

    OSS tells times in whole seconds, so that they do not show every change. A small file without a stored checksum is
    not known to be like its object.

    Raises:
        OssError: The object cannot be asked for its checksum.
        OssConfigError: The file cannot be read.
    """
    try:
        status = path.stat()
    except OSError:
        return False
    same_time = int(status.st_mtime) == int(file.modified)
    if same_time and file.size > _COMPARED and status.st_size == file.size and path.is_file():
        return True
    if matching_crc64(client, file, path) is None:
        return False
    if not same_time:
        os.utime(path, (file.modified, file.modified))
    return True


def matching_crc64(client: "OssClient", file: "ModelFile", path: Path) -> int | None:
    """Return the CRC-64 of a local file if it is that of its object; None if it differs, or one of them has none.

    Raises:
        OssError: The object cannot be asked for its checksum.
        OssConfigError: The file cannot be read.
    """
    if not path.is_file() or path.stat().st_size != file.size:
        return None
    stored = client.stat(file.uri)
    if stored.crc64 is None or stored.etag != file.etag:
        return None
    value = crc64_of(path)
    return value if value == stored.crc64 else None


def link_or_copy(source: Path, target: Path) -> None:
    """Put a file at another place, whole or not at all: as a link, or as a copy on another file system.

    Raises:
        OssConfigError: The place cannot be written to.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if not _linked(source, target):
            with source.open("rb") as file, writing(str(target), None) as copy:
                shutil.copyfileobj(file, cast("BinaryIO", copy), _CHUNK)
            shutil.copystat(source, target)
    except OssError:
        raise
    except OSError as error:
        raise OssConfigError(f"{target} cannot be written: {error.strerror}") from error


def _linked(source: Path, target: Path) -> bool:
    temporary = target.with_name(f".{secrets.token_hex(8)}")
    try:
        os.link(source, temporary)
        temporary.replace(target)
    except OSError:
        return False
    finally:
        # It is also left if the target is the same file already.
        temporary.unlink(missing_ok=True)
    return True


def crc64_of(path: Path) -> int:
    """Return the CRC-64 of a file.

    Raises:
        OssConfigError: The file cannot be read.
    """
    value = 0
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                value = crc64(chunk, value)
    except OSError as error:
        raise OssConfigError(f"{path} cannot be read: {error.strerror}") from error
    return value
