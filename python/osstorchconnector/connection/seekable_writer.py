"""A writer for programs that seek while they write: a temporary file, uploaded when it is whole."""

import errno
import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from operator import index
from typing import TYPE_CHECKING, Final, NoReturn, Self, SupportsIndex

from osstorchconnector._native import Writer
from osstorchconnector.exceptions import OssConfigError, OssError
from osstorchconnector.process.owner import Owner

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Buffer

#: Default of the most bytes that the temporary file may have: more than a model that is saved from one process, less
#: than a disk that other programs need too.
SPOOL_LIMIT: Final = 64 << 30
# The size of several parts, so that one write sends them all from this memory.
_CHUNK: Final = 32 << 20
_LINE_PIECE: Final = 8 << 10


class SeekableWriter(io.BufferedIOBase):
    """An object being written, as a binary stream that can seek and read what was written.

    :class:`OssClient` and :class:`OssCheckpoint` make it by ``writer(uri, seekable=True)``. All bytes go to a temporary
    file that has no name, so it disappears with the process. Publishing uploads the file; what publishes and what
    aborts is the same as for :class:`Writer`.
    """

    def __init__(
        self,
        writer: Writer,
        directory: str | os.PathLike[str] | None = None,
        limit: int = SPOOL_LIMIT,
        *,
        deferred: bool = False,
    ) -> None:
        """Make the temporary file.

        Args:
            writer: Uploads the file. Nothing was written to it yet.
            directory: The directory for the file. Default: the directory of :mod:`tempfile`, which ``TMPDIR`` decides.
            limit: Most bytes that the file may have.
            deferred: Only :meth:`publish` publishes; `writer` is deferred too.

        Raises:
            OssConfigError: The file cannot be made.
        """
        self._writer = writer
        self._directory = os.fspath(directory) if directory is not None else tempfile.gettempdir()
        self._limit = limit
        self._deferred = deferred
        self._owner = Owner()
        self._failure: OssError | None = None
        # Of its own `with` blocks, how many are open. The end of the outermost one publishes.
        self._blocks = 0
        self._ended = False
        self._lost = False
        try:
            # Without a buffer: a forked child would write its copy of the buffer to the same file.
            self._file: io.FileIO = tempfile.TemporaryFile(buffering=0, prefix="osst-", dir=self._directory)  # noqa: SIM115 - `close` closes it
        except OSError as error:
            writer.abort()
            raise OssConfigError(
                f"{writer.uri}: no temporary file can be made in {self._directory}, which a seekable writer needs: "
                f"{error.strerror}; give another spool_directory"
            ) from error

    @property
    def uri(self) -> str:
        """``oss://bucket/name``."""
        return self._writer.uri

    @property
    def name(self) -> str:
        """The URI, as the name of a file is what it was opened by."""
        return self._writer.uri

    @property
    def mode(self) -> str:
        """``"rb+"``."""
        return "rb+"

    @property
    def closed(self) -> bool:
        """Whether it was closed or aborted."""
        return self._ended or self._writer.closed

    @property
    def aborted(self) -> bool:
        """Whether it was aborted, by :meth:`abort` or because of an exception: it will never be published."""
        return self._writer.aborted

    @property
    def etag(self) -> str | None:
        """The entity tag of the published object, without quotes. None if it is not published yet."""
        return self._writer.etag

    @property
    def crc64(self) -> int | None:
        """The CRC-64 of the published object. None if it is not published yet."""
        return self._writer.crc64

    def readable(self) -> bool:
        """Return True: what was written can be read."""
        self._open_file()
        return True

    def writable(self) -> bool:
        """Return True."""
        self._open_file()
        return True

    def seekable(self) -> bool:
        """Return True."""
        self._open_file()
        return True

    def isatty(self) -> bool:
        """Return False."""
        self._open_file()
        return False

    def fileno(self) -> NoReturn:
        """Raise `io.UnsupportedOperation`: bytes written to the file past this object would not be counted."""
        self._open_file()
        raise io.UnsupportedOperation("fileno: an object of OSS is not a file of the operating system")

    def detach(self) -> NoReturn:
        """Raise `io.UnsupportedOperation`."""
        self._open_file()
        raise io.UnsupportedOperation("detach: this writer has no raw stream")

    def write(self, data: "Buffer", /) -> int:
        """Take bytes and return their number.

        Raises:
            OssConfigError: The disk is full, or the file has more bytes than allowed.
            ValueError: It is closed.
        """
        file = self._open_file()
        if isinstance(data, str):
            raise TypeError("an object holds bytes, not str: encode the text, or write it to an io.TextIOWrapper of it")
        with memoryview(data) as view, view.cast("B") as left:
            count = len(left)
            with self._reporting():
                self._check_size(file.tell() + count if count else 0)
                written = 0
                while written < count:
                    written += file.write(left[written:]) or 0
        return count

    def read(self, size: SupportsIndex | None = -1, /) -> bytes:
        """Return at most `size` of the bytes after the position, or all of them."""
        file = self._open_file()
        limit = -1 if size is None else index(size)
        with self._reporting():
            if limit < 0:
                return file.readall()
            found = bytearray()
            while piece := file.read(limit - len(found)):
                found += piece
            return bytes(found)

    def read1(self, size: SupportsIndex | None = -1, /) -> bytes:
        """Return bytes as :meth:`read` does."""
        return self.read(size)

    def readinto(self, buffer: "Buffer", /) -> int:
        """Fill a buffer with the bytes after the position, and return their number."""
        file = self._open_file()
        with memoryview(buffer) as view, view.cast("B") as target, self._reporting():
            count = 0
            while piece := file.readinto(target[count:]):
                count += piece
            return count

    def readinto1(self, buffer: "Buffer", /) -> int:
        """Fill a buffer as :meth:`readinto` does."""
        return self.readinto(buffer)

    def readline(self, size: SupportsIndex | None = -1, /) -> bytes:
        """Return the bytes up to and with the next line feed, at most `size`."""
        file = self._open_file()
        limit = -1 if size is None else index(size)
        with self._reporting():
            start = file.tell()
            line = bytearray()
            while piece := file.read(_LINE_PIECE if limit < 0 else min(_LINE_PIECE, limit - len(line))):
                end = piece.find(b"\n") + 1
                line += piece[:end] if end else piece
                if end:
                    break
            file.seek(start + len(line))
        return bytes(line)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move to a position and return it. Bytes that are skipped and never written are zeros."""
        file = self._open_file()
        if whence not in {os.SEEK_SET, os.SEEK_CUR, os.SEEK_END}:
            raise ValueError(f"invalid whence ({whence}, should be 0, 1 or 2)")
        if whence == os.SEEK_SET and offset < 0:
            raise ValueError(f"negative seek value {offset}")
        with self._reporting():
            try:
                return file.seek(offset, whence)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                # Before the start: io.BytesIO moves there, too.
                return file.seek(0)

    def tell(self) -> int:
        """Return the position."""
        return self._open_file().tell()

    def truncate(self, size: SupportsIndex | None = None, /) -> int:
        """Give the object a size, by default the position, which stays as it is."""
        file = self._open_file()
        length = file.tell() if size is None else index(size)
        if length < 0:
            raise ValueError(f"negative size value {length}")
        with self._reporting():
            self._check_size(length)
            return file.truncate(length)

    def flush(self) -> None:
        """Do nothing: all bytes become visible at once."""
        self._open_file()

    def close(self) -> None:
        """End the writing, and publish the object or abort, as :meth:`Writer.close` does.

        Raises:
            OssError: The object was not published; the previous one is untouched.
        """
        if self.closed:
            return
        if getattr(self, "_finalizing", False):
            # It is being collected. The native writer, which is next, warns and publishes nothing.
            self._file.close()
        elif self._blocks:
            self._raise_failure()
            self._ended = True
        elif self._lost or self._writer._reason_to_abort(ends_block=False) is not None:  # noqa: SLF001 - made for this class
            self._file.close()
            self._writer.close()
        elif self._deferred:
            self._raise_failure()
            self._ended = True
        else:
            self.publish()

    def publish(self) -> None:
        """Upload the file and publish the object, also while an exception is being handled.

        Publishing again does nothing.

        Raises:
            OssError: The object was not published; the previous one is untouched.
            ValueError: The writer was aborted.
        """
        if not self._file.closed:
            try:
                self._raise_failure()
                self._upload()
            except BaseException:
                # What was uploaded is a part.
                self._writer.abort()
                raise
            finally:
                self._file.close()
        self._writer.publish()

    def abort(self) -> None:
        """Drop everything that was written. The previous object is untouched."""
        self._file.close()
        self._writer.abort()

    def commit(self) -> None:
        """Publish the object: :meth:`publish` under the name that fsspec calls."""
        self.publish()

    def discard(self) -> None:
        """Drop everything that was written: :meth:`abort` under the name that fsspec calls."""
        self.abort()

    def __enter__(self) -> Self:
        """Return the writer."""
        self._open_file()
        self._writer.__enter__()
        self._blocks += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: "TracebackType | None"
    ) -> None:
        """Publish the object, or abort if the block raised.

        Raises:
            OssError: The object was not published. If the block raised another exception after a write had failed, that
                exception is this one's context.
        """
        self._blocks = max(0, self._blocks - 1)
        if kind is None and error is None and self._blocks:
            self.close()
            return
        if kind is None and error is None and self._writer._reason_to_abort(ends_block=True) is None:  # noqa: SLF001 - made for this class
            if self._deferred:
                self._ended = True
            elif not self._writer.closed:
                self.publish()
            return
        self._file.close()
        self._writer.__exit__(kind, error, traceback)
        if self._failure is not None and isinstance(error, Exception) and not isinstance(error, OssError):
            # torch.save raises an error of its own about bytes that are missing because a write failed.
            raise self._failure

    def __reduce__(self) -> NoReturn:
        """Raise TypeError: it belongs to its process."""
        raise TypeError("a writer does not pickle: it belongs to its process; pickle the client")

    def __repr__(self) -> str:
        """Return the URI."""
        return f"SeekableWriter(uri={self.uri!r})"

    def _dealloc_warn(self, source: object) -> None:
        self._lost = True
        self._writer._dealloc_warn(source)  # noqa: SLF001 - what the interpreter calls

    def _open_file(self) -> io.FileIO:
        if self._ended:
            raise ValueError("I/O operation on closed writer")
        # Raises if it is closed, or belongs to another process: the position is that of all processes.
        self._writer.tell()
        self._raise_failure()
        return self._file

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _check_size(self, size: int) -> None:
        if size > self._limit:
            self._failure = OssConfigError(
                f"{self.uri}: the temporary file of this seekable writer may have {self._limit} bytes, but {size} are "
                "needed; give a larger spool_limit. Nothing is published"
            )
            raise self._failure

    def _upload(self) -> None:
        buffer = memoryview(bytearray(_CHUNK))
        with self._reporting():
            self._file.seek(0)
        while True:
            with self._reporting():
                count = self._file.readinto(buffer)
            if not count:
                return
            self._writer.write(buffer[:count])

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        try:
            yield
        except OssError:
            raise
        except OSError as error:
            self._failure = OssConfigError(
                f"{self.uri}: the temporary file of this seekable writer in {self._directory} cannot be used: "
                f"{error.strerror}; make room there, or give another spool_directory. Nothing is published"
            )
            raise self._failure from error
