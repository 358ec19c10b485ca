"""How objects are stored: the headers of writes, and the headers that every request carries."""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any, Final, Literal, get_args
from urllib.parse import quote, urlencode

from osstorchconnector.exceptions import OssConfigError

__all__ = ["WriteOptions"]

StorageClass = Literal["Standard", "IA", "Archive", "ColdArchive", "DeepColdArchive"]
Encryption = Literal["AES256", "KMS", "SM4"]
Acl = Literal["default", "private", "public-read", "public-read-write"]

# https://www.alibabacloud.com/help/en/oss/user-guide/tag-objects
_MOST_TAGS: Final = 10
_LONGEST_TAG_KEY: Final = 128
_LONGEST_TAG_VALUE: Final = 256
_TAG: Final = re.compile(r"[\w +\-=._:/]*")

# https://www.alibabacloud.com/help/en/oss/user-guide/manage-object-metadata-10: 8 KB altogether.
_LONGEST_METADATA: Final = 8 * 1024
_METADATA_NAME: Final = re.compile(r"[A-Za-z0-9-]+")

# RFC 9110 section 5.6.2.
_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE: Final = re.compile(r"[!-~](?:[ \t!-~]*[!-~])?")

# The client sets them, or they would change what a request means.
_RESERVED: Final = frozenset(
    {
        "authorization",
        "connection",
        "content-length",
        "content-md5",
        "date",
        "expect",
        "host",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "if-unmodified-since",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "range",
        "security-token",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
        "x-oss-additional-headers",
        "x-oss-content-sha256",
        "x-oss-copy-source",
        "x-oss-copy-source-range",
        "x-oss-copy-source-if-match",
        "x-oss-copy-source-if-none-match",
        "x-oss-copy-source-if-modified-since",
        "x-oss-copy-source-if-unmodified-since",
        "x-oss-date",
        "x-oss-hash-crc64ecma",
        "x-oss-metadata-directive",
        "x-oss-process",
        "x-oss-range-behavior",
        "x-oss-security-token",
        "x-oss-tagging-directive",
    }
)

#: Names and values of headers.
Headers = list[tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class WriteOptions:
    """How an object is stored. What is left out is decided by OSS and by the bucket's settings.

    Attributes:
        storage_class: ``"Standard"``, ``"IA"``, ``"Archive"``, ``"ColdArchive"`` or ``"DeepColdArchive"``. Default: the
            bucket's.
        encryption: Encryption by the service: ``"AES256"``, ``"KMS"`` or ``"SM4"``. Default: the bucket's.
        kms_key_id: The key of ``encryption="KMS"``. Default: the key that KMS manages for OSS.
        acl: ``"default"`` (the bucket's), ``"private"``, ``"public-read"`` or ``"public-read-write"``.
        tags: At most ten tags.
        metadata: Names and values of one's own: ASCII, 8 KB altogether. The names are stored in lower case.
        content_type: Media type. Default: ``application/octet-stream``.
        cache_control: ``Cache-Control`` of answers with the object.
        content_disposition: ``Content-Disposition`` of answers with the object.
        content_encoding: ``Content-Encoding`` of answers with the object.
        expires: ``Expires`` of answers with the object: a time with a zone, or the header's text.
        forbid_overwrite: Fail with the code ``"FileAlreadyExists"`` if the object exists.
        headers: More headers by name. They are signed.

    Raises:
        OssConfigError: A value is not allowed; the message names the field and what is allowed.
    """

    storage_class: StorageClass | None = None
    encryption: Encryption | None = None
    kms_key_id: str | None = None
    acl: Acl | None = None
    tags: Mapping[str, str] | None = field(default=None, hash=False)
    metadata: Mapping[str, str] | None = field(default=None, hash=False)
    content_type: str | None = None
    cache_control: str | None = None
    content_disposition: str | None = None
    content_encoding: str | None = None
    expires: datetime | str | None = None
    forbid_overwrite: bool = False
    headers: Mapping[str, str] | None = field(default=None, hash=False)

    def __post_init__(self) -> None:
        """Check every field."""
        for name, kind in (("storage_class", StorageClass), ("encryption", Encryption), ("acl", Acl)):
            self._check_choice(name, (None, *get_args(kind)))
        self._check_choice("forbid_overwrite", (False, True))
        if self.kms_key_id is not None and self.encryption != "KMS":
            raise OssConfigError("WriteOptions.kms_key_id needs encryption='KMS'")
        for name in ("kms_key_id", "content_type", "cache_control", "content_disposition", "content_encoding"):
            value = getattr(self, name)
            if value is not None:
                _check_value(f"WriteOptions.{name}", value)
        if isinstance(self.expires, datetime):
            if self.expires.tzinfo is None:
                raise OssConfigError("WriteOptions.expires is a time without a zone: add one, such as datetime.UTC")
        elif self.expires is not None:
            _check_value("WriteOptions.expires", self.expires)
        self._check_tags()
        self._check_metadata()
        if self.headers is not None:
            object.__setattr__(self, "headers", dict(check_headers("WriteOptions.headers", self.headers)))

    def over(self, defaults: "WriteOptions | None") -> "WriteOptions":
        """Return these options, with `defaults` for the fields that were left out."""
        if defaults is None:
            return self
        fields = [one.name for one in dataclasses.fields(self)]
        given = {name: getattr(self, name) for name in fields if getattr(self, name) not in (None, False)}
        if self.encryption is not None:
            # A key belongs to its kind of encryption.
            given["kms_key_id"] = self.kms_key_id
        return dataclasses.replace(defaults, **given)

    def to_headers(self) -> Headers:
        """Return the headers of a write."""
        expires = self.expires
        if isinstance(expires, datetime):
            expires = format_datetime(expires.astimezone(UTC), usegmt=True)
        found = [
            ("x-oss-storage-class", self.storage_class),
            ("x-oss-server-side-encryption", self.encryption),
            ("x-oss-server-side-encryption-key-id", self.kms_key_id),
            ("x-oss-object-acl", self.acl),
            ("x-oss-tagging", urlencode(self.tags, quote_via=quote, safe="") if self.tags else None),
            ("content-type", self.content_type),
            ("cache-control", self.cache_control),
            ("content-disposition", self.content_disposition),
            ("content-encoding", self.content_encoding),
            ("expires", expires),
            ("x-oss-forbid-overwrite", "true" if self.forbid_overwrite else None),
            *((f"x-oss-meta-{name.lower()}", value) for name, value in (self.metadata or {}).items()),
            *(self.headers or {}).items(),
        ]
        return [(name, value) for name, value in found if value is not None]

    def _check_choice(self, name: str, allowed: tuple[object, ...]) -> None:
        value = getattr(self, name)
        if not any(value is choice or (isinstance(choice, str) and value == choice) for choice in allowed):
            shown = " or ".join(repr(choice) for choice in allowed)
            raise OssConfigError(f"WriteOptions.{name} is {value!r}: allowed is {shown}")

    def _check_tags(self) -> None:
        if self.tags is not None:
            object.__setattr__(self, "tags", dict(check_tags("WriteOptions.tags", self.tags)))

    def _check_metadata(self) -> None:
        if self.metadata is None:
            return
        metadata = _pairs("WriteOptions.metadata", self.metadata)
        for name, value in metadata:
            if not _METADATA_NAME.fullmatch(name):
                raise OssConfigError(f"WriteOptions.metadata: {name!r}: a name has ASCII letters, digits and '-' only")
            _check_value(f"WriteOptions.metadata[{name!r}]", value)
        size = sum(len(name) + len(value) for name, value in metadata)
        if size > _LONGEST_METADATA:
            raise OssConfigError(f"WriteOptions.metadata has {size} bytes: OSS stores at most {_LONGEST_METADATA}")
        if len({name.lower() for name, _ in metadata}) < len(metadata):
            raise OssConfigError("WriteOptions.metadata: two names differ only in upper and lower case")
        object.__setattr__(self, "metadata", dict(metadata))


def check_tags(what: str, given: Mapping[str, str]) -> Headers:
    """Return the tags of an object as pairs.

    Args:
        what: The setting, for messages.
        given: Keys and values.

    Raises:
        OssConfigError: There are too many, or one is not allowed.
    """
    tags = _pairs(what, given)
    if len(tags) > _MOST_TAGS:
        raise OssConfigError(f"{what} has {len(tags)} tags: OSS stores at most {_MOST_TAGS}")
    for key, value in tags:
        if not 1 <= len(key) <= _LONGEST_TAG_KEY or len(value) > _LONGEST_TAG_VALUE:
            raise OssConfigError(
                f"{what}: {key!r} needs a key of 1 to {_LONGEST_TAG_KEY} characters and a value of at most "
                f"{_LONGEST_TAG_VALUE}"
            )
        if not _TAG.fullmatch(key) or not _TAG.fullmatch(value):
            raise OssConfigError(f"{what}: {key!r} = {value!r}: allowed are letters, digits, spaces and + - = . _ : /")
    return tags


def check_headers(what: str, headers: Mapping[str, str]) -> Headers:
    """Return headers that a user adds to requests, with names in lower case.

    Args:
        what: The setting, for messages.
        headers: Names and values.

    Raises:
        OssConfigError: A name or a value is not allowed.
    """
    found = []
    for name, value in _pairs(what, headers):
        if not _HEADER_NAME.fullmatch(name):
            raise OssConfigError(f"{what}: {name!r} is not a name that a header can have")
        if name.lower() in _RESERVED:
            raise OssConfigError(f"{what}: {name!r} is set by the client itself; leave it out")
        _check_value(f"{what}[{name!r}]", value)
        found.append((name.lower(), value))
    return found


def _pairs(what: str, given: object) -> Headers:
    items: Iterable[tuple[Any, Any]] | None = given.items() if isinstance(given, Mapping) else None
    pairs = None if items is None else list(items)
    if pairs is None or not all(isinstance(text, str) for pair in pairs for text in pair):
        raise OssConfigError(f"{what} must be a dict of strings")
    return pairs


def _check_value(what: str, value: object) -> None:
    if not isinstance(value, str):
        raise OssConfigError(f"{what} must be a string, not {type(value).__name__}")
    if not _HEADER_VALUE.fullmatch(value):
        # The value may be a secret of the user's, so only the character is shown that is wrong.
        wrong = re.search(r"[^ \t!-~]", value)
        problem = "is empty, or has a space at an end" if wrong is None else f"holds {wrong.group()!r}"
        raise OssConfigError(
            f"{what} {problem}: a header holds ASCII without line breaks and without spaces at its ends; "
            "percent-encode other text"
        )
