"""Writing at the end of an object: bytes wait in a temporary file, and go there when the file is closed.

There are two ways. An appendable object grows in place. Another one is copied inside the service, as the first parts of
an upload, and the new bytes are its last parts; so its bytes do not come here.
"""

import io
import logging
import os
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final, Literal, NoReturn
from urllib.parse import quote
from xml.etree import ElementTree as ET

from osstorchconnector._native import crc64, crc64_combine
from osstorchconnector.connection.seekable_writer import SPOOL_LIMIT, SeekableWriter
from osstorchconnector.connection.uri import split_object
from osstorchconnector.exceptions import OssError, OssIntegrityError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from osstorchconnector.connection.client import OssClient
    from osstorchconnector.connection.stat import ObjectStat
    from osstorchconnector.connection.write_options import WriteOptions

_logger: Final = logging.getLogger(__name__)

# One append or one part of new bytes: few requests, and little memory.
_PIECE: Final = 32 << 20
# OSS sends nothing before a part is copied, and the client limits silence; Alibaba's SDKs copy as much at once.
_COPIED_PART: Final = 200 << 20
# https://www.alibabacloud.com/help/en/oss/user-guide/multipart-upload: all parts but the last have at least 100 KB.
SMALLEST_PART: Final = 100 << 10
# Others append at the same time; each of them can come first once.
_TRIES: Final = 8


class End(ABC):
    """Where new bytes go."""

    @abstractmethod
    def add(self, pieces: "Iterator[bytes]") -> None:
        """Put bytes at the end of the object.

        Raises:
            OssError: They are not there.
        """

    @abstractmethod
    def leave(self) -> None:
        """Leave the object as it is."""


class AppendWriter(SeekableWriter):
    """A file that is being appended to. :class:`FsspecFileSystem` makes it for mode ``"ab"``.

    What publishes and what aborts is the same as for :class:`Writer`.
    """

    def __init__(self, client: "OssClient", uri: str, start: int, end: End, *, deferred: bool = False) -> None:
        """Make the temporary file.

        Args:
            client: Its writer, which writes nothing, knows which exceptions are the reason to abort.
            uri: The object.
            start: Its size now.
            end: Takes the bytes when they are published.
            deferred: Only :meth:`publish` publishes.
        """
        super().__init__(client._native_client.writer(*split_object(uri), deferred=True), deferred=deferred)  # noqa: SLF001 - the package's own
        self._start = start
        self._end = end
        self._limit = SPOOL_LIMIT
        self._published = False
        self._left = False

    @property
    def mode(self) -> str:
        """``"ab"``."""
        return "ab"

    @property
    def aborted(self) -> bool:
        """Whether it was aborted: its bytes will never be appended."""
        return super().aborted and not self._published

    @property
    def appended(self) -> bool:
        """Whether its bytes are in the object."""
        return self._published

    def readable(self) -> Literal[False]:
        """Return False."""
        self._open_file()
        return False

    def seekable(self) -> Literal[False]:
        """Return False."""
        self._open_file()
        return False

    def tell(self) -> int:
        """Return the position in the object."""
        return self._start + super().tell()

    def seek(self, _offset: int, _whence: int = os.SEEK_SET, /) -> NoReturn:
        """Raise `io.UnsupportedOperation`."""
        self._open_file()
        raise io.UnsupportedOperation("seek: a file that is appended to has no other position")

    def truncate(self, _size: object = None, /) -> NoReturn:
        """Raise `io.UnsupportedOperation`."""
        self._open_file()
        raise io.UnsupportedOperation("truncate: a file that is appended to only grows")

    def publish(self) -> None:
        """Append the bytes, also while an exception is being handled. Again it does nothing.

        Raises:
            OssError: They were not appended.
            ValueError: The writer was aborted.
        """
        if self._published:
            return
        if not self._owner.is_this_process():
            # It raises, as in every call of another process.
            self._writer.publish()
        if self._file.closed:
            raise ValueError(f"{self.uri} was aborted, and cannot be published: write it again")
        try:
            self._raise_failure()
            self._file.seek(0)
            self._end.add(iter(lambda: self._file.read(_PIECE) or b"", b""))
            self._published = True
        finally:
            self._file.close()
            self._ended = True
            if not self._published:
                self._leave()
            # It has sent nothing, so this sends nothing.
            self._writer.abort()

    def abort(self) -> None:
        """Drop everything that was written. The object stays as it is."""
        super().abort()
        self._leave()

    def close(self) -> None:
        """End the writing, and append the bytes or abort, as :meth:`Writer.close` does.

        Raises:
            OssError: They were not appended.
        """
        is_lost = getattr(self, "_finalizing", False)
        try:
            super().close()
        finally:
            if super().aborted or is_lost:
                self._leave()

    def __exit__(self, *exception: object) -> None:
        """Append the bytes, or abort if the block raised."""
        try:
            super().__exit__(*exception)  # type: ignore[arg-type]
        finally:
            if super().aborted:
                self._leave()

    def _leave(self) -> None:
        # In a fork, the upload is still the parent's.
        if self._published or self._left or not self._owner.is_this_process():
            return
        self._left = True
        try:
            self._end.leave()
        except OssError as error:
            _logger.warning("the upload of %s could not be aborted, its parts remain: %s", self.uri, error)


class AppendableEnd(End):
    """The end of an appendable object, which may not exist yet."""

    def __init__(self, client: "OssClient", uri: str, options: "WriteOptions | None") -> None:
        """Take the object, and how a new one is stored."""
        self._client = client
        self._uri = uri
        self._options = options

    def add(self, pieces: "Iterator[bytes]") -> None:
        """Append. If there are several pieces and one fails, those before it stay.

        Raises:
            OssError: They were not appended, or only some; a note says how many bytes.
        """
        done = 0
        for piece in pieces:
            try:
                self._append(piece)
            except OssError as error:
                if done:
                    error.add_note(f"{done} bytes before that were appended to {self._uri}")
                raise
            done += len(piece)
        if not done:
            # As a file that is opened to append to exists afterwards.
            self._append(b"")

    def leave(self) -> None:
        """Do nothing: nothing was sent."""

    def _append(self, piece: bytes) -> None:
        for left in reversed(range(_TRIES)):
            try:
                self._client.append(self._uri, piece, options=self._options)
            except OssError as error:
                # Somebody else appended between the question for the size and the append. After a lost answer, the
                # bytes may be there already, with others after them.
                if error.code != "PositionNotEqualToLength" or not left or (error.attempts or 1) > 1:
                    raise
            else:
                return


class RewrittenEnd(End):
    """The end of a small object, which is written anew: its bytes, and then the new ones."""

    def __init__(self, client: "OssClient", uri: str, before: "ObjectStat", options: "WriteOptions") -> None:
        """Read the object.

        Args:
            client: Sends the requests.
            uri: The object.
            before: What it is now.
            options: How it is stored again.

        Raises:
            OssError: The object cannot be read, for instance because it is archived.
        """
        self._client = client
        self._uri = uri
        self._before = before
        self._options = options
        self._content = client.get(uri)

    def add(self, pieces: "Iterator[bytes]") -> None:
        """Write the whole.

        Raises:
            OssIntegrityError: The object was replaced meanwhile.
            OssError: It was not published; the object is as it was.
        """
        writer = self._client.writer(self._uri, deferred=True, options=self._options)
        try:
            writer.write(self._content)
            for piece in pieces:
                writer.write(piece)
            check_unchanged(self._client, self._uri, self._before)
            writer.publish()
        finally:
            # Does nothing to an object that is published.
            writer.abort()

    def leave(self) -> None:
        """Do nothing: nothing was sent."""


class CopiedEnd(End):
    """The end of a copy that replaces an object: its parts are those of the object, and then the new ones."""

    def __init__(self, client: "OssClient", uri: str, before: "ObjectStat", options: "WriteOptions") -> None:
        """Begin the copy.

        Args:
            client: Sends the requests.
            uri: The object.
            before: What it is now. It has at least :data:`SMALLEST_PART` bytes.
            options: How the copy is stored.

        Raises:
            OssError: The object cannot be copied, for instance because it is archived.
        """
        self._client = client
        self._native = client._native_client  # noqa: SLF001 - the package's own
        self._bucket, self._key = split_object(uri)
        self._uri = uri
        self._before = before
        headers = client._write_headers(options)  # noqa: SLF001 - as above
        self._upload = self._text("POST", [("uploads", "")], headers, "UploadId")
        self._parts: list[str] = []
        try:
            for first, last in _ranges(before.size):
                self._copy(first, last)
        except BaseException as error:
            try:
                self.leave()
            except OssError as second:
                error.add_note(f"the upload could not be aborted, its parts remain: {second}")
            raise

    def add(self, pieces: "Iterator[bytes]") -> None:
        """Upload the new bytes and publish the whole.

        Raises:
            OssIntegrityError: OSS stored other bytes, or the object was replaced meanwhile.
            OssError: It was not published; the object is as it was.
        """
        checksum, length = 0, 0
        for piece in pieces:
            headers, _ = self._native.request("PUT", self._bucket, self._key, query=self._part(), body=piece)
            etag = {name.lower(): value for name, value in headers}.get("etag", "")
            self._parts.append(etag.strip('"'))
            checksum, length = crc64(piece, checksum), length + len(piece)
        # Sending the parts took time.
        check_unchanged(self._client, self._uri, self._before)
        listed = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"
            for number, etag in enumerate(self._parts, 1)
        )
        headers, _ = self._native.request(
            "POST",
            self._bucket,
            self._key,
            query=[("uploadId", self._upload)],
            headers=[("content-type", "application/xml")],
            body=f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>".encode(),
        )
        stored = {name.lower(): value for name, value in headers}.get("x-oss-hash-crc64ecma")
        if self._before.crc64 is None or stored is None:
            return
        expected = crc64_combine(self._before.crc64, checksum, length)
        if stored != str(expected):
            raise OssIntegrityError(
                f"{self._uri} holds other bytes than were appended: its CRC-64 is {stored}, expected {expected}",
                bucket=self._bucket,
                key=self._key,
            )

    def leave(self) -> None:
        """Abort the upload."""
        self._native.abort_upload(self._bucket, self._key, self._upload)

    def _copy(self, first: int, last: int) -> None:
        source = f"/{self._bucket}/{quote(self._key, safe='')}"
        headers = [
            ("x-oss-copy-source", source),
            ("x-oss-copy-source-range", f"bytes={first}-{last}"),
            ("x-oss-copy-source-if-match", f'"{self._before.etag}"'),
        ]
        self._parts.append(self._text("PUT", self._part(), headers, "ETag").strip('"'))

    def _part(self) -> list[tuple[str, str]]:
        return [("partNumber", str(len(self._parts) + 1)), ("uploadId", self._upload)]

    def _text(self, method: str, query: list[tuple[str, str]], headers: list[tuple[str, str]], name: str) -> str:
        """Send a request and return the text of one element of the answer."""
        _, body = self._native.request(method, self._bucket, self._key, query=query, headers=headers)
        try:
            found = ET.fromstring(body).findtext(f"{{*}}{name}")  # noqa: S314 - the answer of the service
        except ET.ParseError:
            found = None
        if not found:
            raise OssError(f"the answer to an upload of {self._uri} has no {name}", bucket=self._bucket, key=self._key)
        return found


def check_unchanged(client: "OssClient", uri: str, before: "ObjectStat") -> None:
    """Raise if an object was replaced after a file was opened to append to it: what somebody else wrote would be lost.

    OSS has no condition for replacing, so what is written between this and the replacing is not noticed.

    Raises:
        OssIntegrityError: It was replaced.
        OssNotFoundError: It was deleted.
    """
    now = client.stat(uri)
    if (now.etag, now.size, now.last_modified) != (before.etag, before.size, before.last_modified):
        bucket, key = split_object(uri)
        raise OssIntegrityError(
            f"{uri} was replaced while it was being appended to, and nothing was appended: open it again. Several "
            "programs can append to one object if it is appendable, as one that mode 'ab' makes",
            bucket=bucket,
            key=key,
        )


def _ranges(size: int) -> "Iterator[tuple[int, int]]":
    """Yield first and last byte of the parts of a copy; each has at least :data:`SMALLEST_PART` bytes."""
    count = -(-size // _COPIED_PART)
    length = -(-size // count)
    for first in range(0, size, length):
        yield first, min(first + length, size) - 1
