"""Writing through fsspec: transactions, and compressed files that close the object below them."""

import io
import logging
from typing import TYPE_CHECKING, Any, Final, Literal

from fsspec.transaction import Transaction

from osstorchconnector.exceptions import OssError

if TYPE_CHECKING:
    from osstorchconnector._native import Writer
    from osstorchconnector.connection.seekable_writer import SeekableWriter

_logger: Final = logging.getLogger(__name__)


class OssTransaction(Transaction):  # type: ignore[misc]
    """Publishes the objects of a transaction at its end, or none of them.

    OSS publishes each object by itself. If one cannot be published, those before it are published already.
    """

    def complete(self, commit: bool = True) -> None:  # noqa: FBT001, FBT002 - the interface's
        """Publish everything that was closed, or abort everything.

        An object is not published if an exception was the reason of closing it, even if the transaction goes on.

        Raises:
            OssError: An object could not be published; the objects after it were aborted.
            ValueError: A file is still open.
        """
        writers: list[Writer | SeekableWriter] = list(self.files)
        self.files.clear()
        self.fs._intrans = False  # noqa: SLF001 - as the base class
        self.fs._transaction = None  # noqa: SLF001 - as the base class
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
