"""Operations on single objects beyond reading and writing: description, URLs, appending, links, tags, restoring."""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Final, Literal, get_args
from urllib.parse import parse_qsl, quote, unquote

from osstorchconnector._native import Client, crc64
from osstorchconnector.connection.conditions import condition_headers
from osstorchconnector.connection.stat import ObjectStat
from osstorchconnector.connection.uri import split_object
from osstorchconnector.connection.write_options import Headers, WriteOptions, check_headers, check_tags
from osstorchconnector.credentials.shield import guards_methods
from osstorchconnector.exceptions import OssConfigError, OssError, OssIntegrityError, OssNotFoundError

if TYPE_CHECKING:
    from typing_extensions import Buffer

_PRESIGNED: Final = ("GET", "PUT", "HEAD", "DELETE")

# With signature V1, a URL may last as long as its time of expiry can be written: the bound catches a wrong unit.
_LONGEST_URL: Final = 100 * 365 * 24 * 3600

# As xml.sax.saxutils has it, whose import takes 20 ms.
_XML: Final = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})

Tier = Literal["Expedited", "Standard", "Bulk"]


@guards_methods
class ObjectOperations(ABC):
    """The part of :class:`OssClient` that sends one small request for each call."""

    @property
    @abstractmethod
    def _native_client(self) -> Client:
        """The native client of this process."""

    @abstractmethod
    def _write_options(self, options: WriteOptions | None) -> WriteOptions:
        """Return options of a call, with those of the configuration for what they leave out."""

    def stat(
        self,
        uri: str,
        *,
        if_match: str | None = None,
        if_none_match: str | None = None,
        if_modified_since: datetime | None = None,
        if_unmodified_since: datetime | None = None,
    ) -> ObjectStat:
        """Return everything that OSS tells of an object: storage class, metadata, encryption and so on.

        Args:
            uri: The object.
            if_match: As for :meth:`OssClient.get`.
            if_none_match: As for :meth:`OssClient.get`.
            if_modified_since: As for :meth:`OssClient.get`.
            if_unmodified_since: As for :meth:`OssClient.get`.

        Raises:
            OssNotFoundError: The object does not exist.
            OssError: The object does not meet a condition; the code is ``"NotModified"`` or ``"PreconditionFailed"``.
        """
        bucket, key = split_object(uri)
        conditions = condition_headers(if_match, if_none_match, if_modified_since, if_unmodified_since)
        headers, _ = self._native_client.request("HEAD", bucket, key, headers=conditions)
        size = _header(headers, "content-length") or ""
        # A proxy may leave the length out; `head` finds it by a range.
        known = int(size) if size.isascii() and size.isdigit() else self._native_client.head(bucket, key).size
        return ObjectStat.from_headers(headers, known)

    def presign(
        self, uri: str, *, method: str = "GET", expires: int = 3600, headers: Mapping[str, str] | None = None
    ) -> str:
        """Return a URL that anyone who has it may send a request to, without an access key. It is a secret.

        A temporary access key ends the URL with itself.

        Args:
            uri: The object.
            method: ``"GET"``, ``"PUT"``, ``"HEAD"`` or ``"DELETE"``.
            expires: Seconds that the URL is valid; with signature V4 at most seven days (604,800), with V1 a hundred
                years.
            headers: Headers that the request must have, with these values, such as a content type. With
                ``OssConfig.request_payer``, the URL itself says who pays.

        Raises:
            OssConfigError: A value is not allowed.
        """
        bucket, key = split_object(uri)
        if method not in _PRESIGNED:
            raise OssConfigError(f"method is {method!r}: allowed is {' or '.join(_PRESIGNED)}")
        if not isinstance(expires, int) or isinstance(expires, bool) or expires < 1:
            raise OssConfigError(f"expires is {expires!r}: a whole number of seconds above 0 is needed")
        if expires > _LONGEST_URL:
            raise OssConfigError("expires is more than a hundred years: it is a number of seconds")
        return self._native_client.presign(method, bucket, key, expires, check_headers("headers", headers or {}))

    def append(
        self, uri: str, data: "Buffer", position: int | None = None, *, options: WriteOptions | None = None
    ) -> int:
        """Append bytes to an appendable object, and return its new size. The first append creates the object.

        If the answer to the request is lost, the bytes are not appended twice.

        Args:
            uri: The object.
            data: Bytes, or any object with a contiguous buffer.
            position: The object's size now; the append fails if it has another. Default: what OSS says.
            options: How a new object is stored; what is left out comes from ``OssConfig.write_options``. Later appends
                change nothing of it. ``forbid_overwrite`` has no effect: an append replaces nothing.

        Raises:
            OssConfigError: An argument is not allowed.
            OssError: It was not appended. The code is ``"ObjectNotAppendable"`` for other kinds of objects, and
                ``"PositionNotEqualToLength"`` if somebody else appended meanwhile.
            OssIntegrityError: OSS stored other bytes.
        """
        bucket, key = split_object(uri)
        # An integer has no buffer, but `bytes` would make as many zero bytes of it.
        content = data if isinstance(data, bytes) else bytes(memoryview(data))
        if position is not None and (not isinstance(position, int) or isinstance(position, bool) or position < 0):
            raise OssConfigError(f"position is {position!r}: a whole number of at least 0 is needed")
        stored_as = dataclasses.replace(self._write_options(options), forbid_overwrite=None)
        if position is None:
            position, checksum = self._end_of(uri)
        else:
            checksum = 0 if position == 0 else None
        query = [("append", ""), ("position", str(position))]
        headers = [] if position else stored_as.to_headers()
        try:
            answer, _ = self._native_client.request("POST", bucket, key, query=query, headers=headers, body=content)
        except OssError as error:
            # The attempt before the last one may have done it.
            lost = error.code == "PositionNotEqualToLength" and (error.attempts or 1) > 1
            end = position + len(content)
            if (
                lost
                and self.stat(uri).next_append_position == end
                and self._native_client.get(bucket, key, position, end) == content
            ):
                return end
            raise
        stored = _header(answer, "x-oss-hash-crc64ecma")
        sent = None if checksum is None else str(crc64(content, checksum))
        if None not in (stored, sent) and stored != sent:
            raise OssIntegrityError(
                f"the append to {uri} stored other bytes than were sent: its CRC-64 is {stored!r}, expected {sent}",
                bucket=bucket,
                key=key,
            )
        return position + len(content)

    def _end_of(self, uri: str) -> tuple[int, int | None]:
        """Return size and CRC-64 of an object that bytes are appended to; it need not exist."""
        try:
            found = self.stat(uri)
        except OssNotFoundError:
            return 0, 0
        return found.size, found.crc64

    def symlink(self, uri: str, target: str, *, options: WriteOptions | None = None) -> None:
        """Create a symbolic link to an object of the same bucket, which need not exist.

        Args:
            uri: The link.
            target: URI of the object that it points to.
            options: How the link is stored. What is left out comes from ``OssConfig.write_options``.

        Raises:
            OssConfigError: The target is in another bucket.
            OssExistsError: The link exists and must not be overwritten.
        """
        bucket, key = split_object(uri)
        target_bucket, target_key = split_object(target)
        if target_bucket != bucket:
            raise OssConfigError(f"{uri} cannot point to {target}: a symbolic link stays in its bucket")
        headers = [("x-oss-symlink-target", quote(target_key, safe=""))]
        headers += self._write_options(options).to_headers()
        self._native_client.request("PUT", bucket, key, query=[("symlink", "")], headers=headers)

    def readlink(self, uri: str) -> str:
        """Return the URI that a symbolic link points to.

        Raises:
            OssError: It is no link; the code is ``"NotSymlink"``.
        """
        bucket, key = split_object(uri)
        headers, _ = self._native_client.request("GET", bucket, key, query=[("symlink", "")])
        target = _header(headers, "x-oss-symlink-target")
        if target is None:
            raise OssError(f"the answer does not say where {uri} points", bucket=bucket, key=key)
        return f"oss://{bucket}/{unquote(target)}"

    def tags(self, uri: str) -> dict[str, str]:
        """Return the tags of an object."""
        return dict(parse_qsl(self._native_client.tags(*split_object(uri)), keep_blank_values=True))

    def set_tags(self, uri: str, tags: Mapping[str, str]) -> None:
        """Replace the tags of an object; without any, all are removed.

        Raises:
            OssConfigError: There are more than ten, or one is not allowed.
        """
        bucket, key = split_object(uri)
        pairs = check_tags("tags", tags)
        if not pairs:
            self._native_client.request("DELETE", bucket, key, query=[("tagging", "")])
            return
        tagged = "".join(
            f"<Tag><Key>{_escaped(name)}</Key><Value>{_escaped(value)}</Value></Tag>" for name, value in pairs
        )
        body = f"<Tagging><TagSet>{tagged}</TagSet></Tagging>".encode()
        headers = [("content-type", "application/xml")]
        self._native_client.request("PUT", bucket, key, query=[("tagging", "")], headers=headers, body=body)

    def restore(self, uri: str, days: int = 1, tier: Tier | None = None) -> None:
        """Ask for an archived object to be readable for some days. :attr:`ObjectStat.restore` tells when it is.

        It is no error if it is being restored already.

        Args:
            uri: The object.
            days: How long it stays readable.
            tier: ``"Expedited"``, ``"Standard"`` or ``"Bulk"``, for the classes cold archive and deep cold archive.
                Default: ``"Standard"``.

        Raises:
            OssConfigError: An argument is not allowed.
            OssError: It cannot be restored, for instance because it is not archived.
        """
        bucket, key = split_object(uri)
        if tier is not None and tier not in get_args(Tier):
            raise OssConfigError(f"tier is {tier!r}: allowed is None or {' or '.join(map(repr, get_args(Tier)))}")
        if not isinstance(days, int) or isinstance(days, bool) or days < 1:
            raise OssConfigError(f"days is {days!r}: a whole number above 0 is needed")
        job = "" if tier is None else f"<JobParameters><Tier>{tier}</Tier></JobParameters>"
        body = f"<RestoreRequest><Days>{days}</Days>{job}</RestoreRequest>".encode()
        headers = [("content-type", "application/xml")]
        try:
            self._native_client.request("POST", bucket, key, query=[("restore", "")], headers=headers, body=body)
        except OssError as error:
            if error.code != "RestoreAlreadyInProgress":
                raise


def _header(headers: Headers, wanted: str) -> str | None:
    return next((value for name, value in headers if name.lower() == wanted), None)


def _escaped(text: str) -> str:
    return text.translate(_XML)
