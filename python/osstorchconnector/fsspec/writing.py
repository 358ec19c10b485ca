"""Writing through fsspec: transactions, and compressed files that close the object below them."""

import io
import logging
from typing import TYPE_CHECKING, Any, Final, Literal

from fsspec.transaction import Transaction

from osstorchconnector.exceptions import OssConfigError, OssError
from osstorchconnector.process.owner import Owner

if TYPE_CHECKING:
    from osstorchconnector._native import Writer
    from osstorchconnector.connection.seekable_writer import SeekableWriter

_logger: Final = logging.getLogger(__name__)


class OssTransaction(Transaction):  # type: ignore[misc]
    """Publishes the objects of a transaction at its end, or none of them.

    OSS publishes each object by itself. If one cannot be published, those before it are published already. A
    transaction belongs to the process that began it.
    """

    def __init__(self, fs: Any, **options: Any) -> None:  # noqa: ANN401 - fsspec's
        """Begin without files."""
        super().__init__(fs, **options)
        self._owner = Owner()

    def check_process(self) -> None:
        """Raise if this is a fork of the process that began the transaction.

        Raises:
            OssConfigError: It is.
        """
        if not self._owner.is_this_process():
            raise OssConfigError(
                "this transaction belongs to the process that began it, and this is a fork of that process: begin one "
                "in this process, on a file system that is made here"
            )

    def start(self) -> None:
        """Begin.

        Raises:
            OssConfigError: The file system is in a transaction already, or another process began this one.
        """
        self.check_process()
        self.check_free(self.fs)
        super().start()

    @staticmethod
    def check_free(fs: Any) -> None:  # noqa: ANN401 - fsspec's
        """Raise if a file system is in a transaction: a second one would end it, and forget its files.

        Raises:
            OssConfigError: It is, or there is none, since this transaction is over.
        """
        if fs is None:
            raise OssConfigError("this transaction is over: get a new one from the file system's attribute transaction")
        if fs._intrans:  # noqa: SLF001 - as the base class
            raise OssConfigError(
                "this file system is in a transaction already: end that one first, or give the inner one a file system "
                "of its own, fsspec.filesystem('oss', skip_instance_cache=True)"
            )

    def complete(self, commit: bool = True) -> None:  # noqa: FBT001, FBT002 - the interface's
        """Publish everything that was closed, or abort everything.

        An object is not published if an exception was the reason of closing it, even if the transaction goes on.

        Raises:
            OssConfigError: Another process began it.
            OssError: An object could not be published; the objects after it were aborted.
            ValueError: A file is still open.
        """
        writers: list[Writer | SeekableWriter] = list(self.files)
        self.files.clear()
        self.fs._intrans = False  # noqa: SLF001 - as the base class
        self.fs._transaction = None  # noqa: SLF001 - as the base class
        # The writers of another process can neither publish nor abort here.
        self.check_process()
        try:
            if commit:
                for writer in writers:
                    if not writer.closed:
                        raise ValueError(f"{writer.uri} is still open at the end of its transaction: close it before")
                for writer in writers:
                    if not writer.aborted:
                        writer.publish()
        finally:
            for writer in writers:
                try:
                    # Does nothing to an object that is published.
                    writer.abort()
                except OssError as error:
                    _logger.warning("the upload of %s could not be aborted, its parts remain: %s", writer.uri, error)


class CompressedWriter(io.BufferedIOBase):
    """A compressor above an object. Closing it closes both: compressors leave a stream open that they were given."""

    def __init__(self, compressor: Any, writer: "Writer | SeekableWriter") -> None:  # noqa: ANN401 - each compression has its own class
        """Write to a compressor that writes to `writer`."""
        self._compressor = compressor
        self._writer = writer

    @property
    def closed(self) -> bool:
        """Whether it is closed."""
        return self._writer.closed

    def writable(self) -> Literal[True]:
        """Return True."""
        return True

    def write(self, data: Any, /) -> int:  # noqa: ANN401 - any buffer
        """Compress bytes and return their number."""
        count: int = self._compressor.write(data)
        return count

    def flush(self) -> None:
        """Do nothing: all bytes become visible at once."""

    def commit(self) -> None:
        """Write the rest, and publish the object."""
        self._compressor.close()
        self._writer.commit()

    def discard(self) -> None:
        """Drop everything that was written."""
        try:
            self._compressor.close()
        finally:
            self._writer.discard()

    def _dealloc_warn(self, source: object) -> None:
        self._writer._dealloc_warn(source)  # noqa: SLF001 - what the interpreter calls

    def close(self) -> None:
        """Write the rest, and close the object."""
        # The interpreter sets it when it collects this object.
        if getattr(self, "_finalizing", False):
            self._dealloc_warn(self)
        try:
            self._compressor.close()
        finally:
            self._writer.close()
