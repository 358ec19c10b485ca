"""Transfers of one large file or object that continue where an earlier run of the same transfer ended.

A download keeps its bytes beside the target under a hidden name, and a record with the ETag beside them. An upload
keeps its parts in OSS, and a record with the upload's ID, and the size and the time of the file, in the user's
directory for state. What is continued has the checksum of the whole object compared at its end.
"""

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from osstorchconnector._native import crc64, crc64_combine
from osstorchconnector.connection.uri import split_object
from osstorchconnector.exceptions import (
    OssConfigError,
    OssError,
    OssIntegrityError,
    OssNotFoundError,
    OssPermissionError,
)
from osstorchconnector.files.record import Record, is_own
from osstorchconnector.files.writing import sync_directory

if TYPE_CHECKING:
    from osstorchconnector._native import OssReader, Writer
    from osstorchconnector.connection.client import OssClient

#: Smaller ones are transferred in seconds, and begin again.
RESUMABLE: Final = 64 << 20
# Characters of the name that a temporary file repeats: file systems allow 255 bytes, and a character has up to four.
_NAME: Final = 50
_PARTIAL: Final = ".osst-part"
_RECORD: Final = ".osst-record"
_PIECE: Final = 8 << 20

#: Copies all bytes from a source to a target.
Pump = Callable[[Any, Any], None]


class Download:
    """A download into a local file."""

    def __init__(self, client: "OssClient", source: str, target: Path, record: Record) -> None:
        """Look how far an earlier run came.

        Args:
            client: Reads the object.
            source: Its URI.
            target: The file.
            record: The record of the download; it is closed at the end.
        """
        self._client, self._source, self._target = client, source, target
        self._record = record
        self._partial = _hidden(target, _PARTIAL)

    def run(self, pump: Pump, continued: Callable[[int], object]) -> None:
        """Download, whole or not at all; if it ends early, a later run continues it.

        Args:
            pump: Copies the bytes; it raises to stop.
            continued: Called with the number of bytes that an earlier run has downloaded, if there are any.

        Raises:
            OssIntegrityError: The bytes do not have the checksum of the object. They are removed.
            OSError: The file cannot be written; what was written is removed.
        """
        try:
            with self._client.reader(self._source) as reader, os.fdopen(self._open(), "r+b") as file:
                self._fill(reader, file, pump, continued)
                file.flush()
                os.fsync(file.fileno())
            self._partial.replace(self._target)
            sync_directory(self._target.parent)
        except BaseException as error:
            # A full disk needs the room, and nothing can follow these bytes. Else what has arrived is good.
            is_local = isinstance(error, OSError) and not isinstance(error, OssError)
            if is_local or isinstance(error, (OssIntegrityError, OssNotFoundError)):
                self._remove()
            raise
        self._record.remove()

    def _open(self) -> int:
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
        with contextlib.suppress(OSError):
            descriptor = os.open(self._partial, flags)
            if is_own(descriptor):
                return descriptor
            os.close(descriptor)
        # Others know the name too, and could have put a link to a file of this user there.
        self._partial.unlink(missing_ok=True)
        return os.open(self._partial, flags | os.O_CREAT | os.O_EXCL, 0o666)

    def _remove(self) -> None:
        self._partial.unlink(missing_ok=True)
        self._record.remove()

    def _fill(self, reader: "OssReader", file: IO[bytes], pump: Pump, continued: Callable[[int], object]) -> None:
        about = {"source": self._source, "endpoint": self._client.endpoint, "etag": reader.etag, "size": reader.size}
        start = os.fstat(file.fileno()).st_size
        if self._record.read() != about or start > reader.size:
            start = 0
            file.truncate()
            self._record.write(about)
        if start:
            continued(start)
            found = _checksum(file, start)
            reader.seek(start)
        file.seek(start)
        pump(reader, file)
        if start:
            self._compare(reader, file, start, found)

    def _compare(self, reader: "OssReader", file: IO[bytes], start: int, checksum: int) -> None:
        """Compare the checksum of all bytes: a reader compares it only if it has read them all itself."""
        for begin, end, received in sorted(reader.received()):
            if begin != start:
                break
            checksum, start = crc64_combine(checksum, received, end - begin), end
        if start != reader.size:
            file.seek(0)
            checksum = _checksum(file, reader.size)
        if reader.crc64 is not None and reader.crc64 != checksum:
            raise OssIntegrityError(
                f"{self._target} would not have the checksum of {self._source}; what was downloaded is removed: copy "
                "it again"
            )


@contextmanager
def download_record(target: str) -> Iterator[Record | None]:
    """Hold the record of a download to a file; None if it cannot be continued later."""
    record = Record.open(_hidden(Path(os.path.realpath(target)), _RECORD))
    try:
        yield record
    finally:
        if record is not None:
            record.close()


def is_partial(name: str) -> bool:
    """Return whether a file holds what an unfinished download has left."""
    return name.startswith(".") and name.endswith((_PARTIAL, _RECORD))


def _hidden(target: Path, ending: str) -> Path:
    """Return the path of a temporary file of a download, which is the same for each run."""
    return target.with_name(f".{target.name[:_NAME]}.{_digest(target.name)}{ending}")


class Upload:
    """An upload of a local file."""

    def __init__(self, client: "OssClient", source: str, target: str, record: Record) -> None:
        """Prepare.

        Args:
            client: Writes the object.
            source: The path of the file.
            target: The URI of the object.
            record: The record of the upload.
        """
        self._client, self._source, self._target, self._record = client, source, target, record

    def run(self, file: IO[bytes], pump: Pump, continued: Callable[[int], object]) -> None:
        """Upload, whole or not at all; if it ends early, a later run continues it.

        Args:
            file: The file, at its beginning.
            pump: Copies the bytes; it raises to stop.
            continued: Called with the number of bytes that an earlier run has uploaded, if there are any.

        Raises:
            OssConfigError: The file was changed meanwhile. What was uploaded is removed.
            OssError: The object was not stored.
        """
        status = os.fstat(file.fileno())
        about = {
            "source": str(Path(self._source).absolute()),
            "target": self._target,
            "endpoint": self._client.endpoint,
            "size": status.st_size,
            "modified": status.st_mtime_ns,
            "options": _digest(repr(self._client._write_headers(None))),  # noqa: SLF001 - part of the client
        }
        known = self._record.read()
        upload_id = known.pop("upload_id", "")
        after = self._parts(upload_id, file) if known == about else []
        if upload_id and not after:
            self._abort(upload_id)
        resumed = (upload_id, after) if after else None
        writer = self._client._writer_after(self._target, status.st_size, resumed)  # noqa: SLF001 - part of the client
        start = writer.tell()
        try:
            if start:
                continued(start)
            else:
                upload_id = writer._begin()  # noqa: SLF001 - for this module
                with contextlib.suppress(OSError):
                    # A full disk here is no reason not to upload.
                    self._record.write({**about, "upload_id": upload_id})
            file.seek(start)
            pump(file, writer)
            changed = os.fstat(file.fileno())
            if start and (changed.st_size, changed.st_mtime_ns) != (status.st_size, status.st_mtime_ns):
                self._refuse(writer)
            writer.publish()
        except BaseException:
            # The parts that have arrived are good.
            writer._leave()  # noqa: SLF001 - as above
            raise
        self._record.remove()

    def _refuse(self, writer: "Writer") -> None:
        self._record.remove()
        writer.abort()
        raise OssConfigError(f"{self._source} was changed while it was being copied: copy it again")

    def _parts(self, upload_id: str, file: IO[bytes]) -> list[tuple[str, int, int | None]]:
        """Return the first parts of an earlier run that have the bytes of the file."""
        try:
            arrived = self._client._native_client.list_parts(*split_object(self._target), upload_id)  # noqa: SLF001
        except (OssNotFoundError, OssPermissionError):
            # Some keys may upload, and not ask for what has arrived.
            return []
        parts: list[tuple[str, int, int | None]] = []
        for expected, (number, (etag, length, stored)) in enumerate(arrived, 1):
            checksum = _checksum(file, length)
            if number != expected or stored not in {None, checksum}:
                break
            parts.append((etag, length, checksum))
        return parts

    def _abort(self, upload_id: str) -> None:
        # Some keys may not.
        with contextlib.suppress(OssPermissionError):
            self._client._native_client.abort_upload(*split_object(self._target), upload_id)  # noqa: SLF001


@contextmanager
def upload_record(client: "OssClient", source: str, target: str) -> Iterator[Record | None]:
    """Hold the record of an upload; None if it cannot be continued later."""
    record = None
    # Without a home, or a file system that can be written, the upload works all the same.
    with contextlib.suppress(OSError, RuntimeError):
        state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
        directory = Path(state) / "osst" / "uploads"
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = _digest("\n".join((client.endpoint, target, str(Path(source).absolute()))))
        record = Record.open(directory / f"{name}.json")
    try:
        yield record
    finally:
        if record is not None:
            record.close()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:16]


def _checksum(file: IO[bytes], length: int) -> int:
    """Return the CRC-64 of the next bytes of a file."""
    checksum, buffer = 0, memoryview(bytearray(_PIECE))
    while length > 0:
        count = file.readinto(buffer[: min(length, _PIECE)])  # type: ignore[attr-defined]
        if not count:
            break
        checksum = crc64(buffer[:count], checksum)
        length -= count
    return checksum
