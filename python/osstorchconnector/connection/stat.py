"""What a ``HEAD`` request tells of an object."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from osstorchconnector.connection.http_date import parse_http_date

__all__ = ["ObjectStat"]

_METADATA_PREFIX = "x-oss-meta-"


@dataclass(frozen=True)
class ObjectStat:
    """The description of an object.

    Attributes:
        size: Bytes.
        etag: ETag, without quotes.
        last_modified: When it was written last, in UTC.
        content_type: Media type.
        storage_class: ``"Standard"``, ``"IA"``, ``"Archive"``, ``"ColdArchive"`` or ``"DeepColdArchive"``.
        object_type: ``"Normal"``, ``"Multipart"``, ``"Appendable"`` or ``"Symlink"``.
        crc64: CRC-64 of the content, if OSS states one.
        metadata: The user's own metadata; names in lower case.
        tag_count: Number of tags.
        version_id: Version, in buckets with versions.
        encryption: ``"AES256"``, ``"KMS"`` or ``"SM4"``, if the service encrypts it.
        kms_key_id: Key of the encryption.
        restore: State of an archived object that is being restored, or was.
        next_append_position: Start of the next append, for appendable objects.
        headers: All headers of the answer; names in lower case.
    """

    size: int
    etag: str
    last_modified: datetime | None
    content_type: str | None
    storage_class: str | None
    object_type: str | None
    crc64: int | None
    metadata: Mapping[str, str] = field(hash=False)
    tag_count: int
    version_id: str | None
    encryption: str | None
    kms_key_id: str | None
    restore: str | None
    next_append_position: int | None
    headers: Mapping[str, str] = field(hash=False, repr=False)

    @classmethod
    def from_headers(cls, answer: list[tuple[str, str]], size: int) -> "ObjectStat":
        """Read the headers of an answer about an object of `size` bytes."""
        headers = {name.lower(): value for name, value in answer}

        def number(name: str) -> int | None:
            text = headers.get(name, "")
            return int(text) if text.isascii() and text.isdigit() else None

        return cls(
            size=size,
            etag=headers.get("etag", "").strip('"'),
            last_modified=parse_http_date(headers.get("last-modified", "")),
            content_type=headers.get("content-type"),
            storage_class=headers.get("x-oss-storage-class"),
            object_type=headers.get("x-oss-object-type"),
            crc64=number("x-oss-hash-crc64ecma"),
            metadata={
                name.removeprefix(_METADATA_PREFIX): value
                for name, value in headers.items()
                if name.startswith(_METADATA_PREFIX)
            },
            tag_count=number("x-oss-tagging-count") or 0,
            version_id=headers.get("x-oss-version-id"),
            encryption=headers.get("x-oss-server-side-encryption"),
            kms_key_id=headers.get("x-oss-server-side-encryption-key-id"),
            restore=headers.get("x-oss-restore"),
            next_append_position=number("x-oss-next-append-position"),
            headers=headers,
        )
