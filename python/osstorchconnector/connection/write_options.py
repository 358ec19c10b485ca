"""How objects are stored: the headers of writes, and the headers that every request carries."""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal, get_args
from urllib.parse import quote, urlencode

from osstorchconnector.connection.http_date import format_http_date
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

_CONDITION: Final = "give the conditions of get and stat, such as if_match="
_CONNECTION: Final = "leave it out, the client decides about its connections"
_COPY: Final = "call OssClient.copy"
_RANGE: Final = "give start and end to get, or read with reader"
_SIGNATURE: Final = "leave it out, the client signs its requests"
_CHECKSUM: Final = "leave it out, the client computes what it says of the bytes"

# The client sets them, or they would change what a request means, with what to do instead.
_RESERVED: Final = {
    "accept-encoding": "leave it out, the client needs the bytes as they are stored",
    "authorization": _SIGNATURE,
    "connection": _CONNECTION,
    "content-length": _CHECKSUM,
    "content-md5": _CHECKSUM,
    "content-range": _CHECKSUM,
    "date": _SIGNATURE,
    "expect": _CONNECTION,
    "host": "leave it out, the endpoint and OssConfig.addressing decide it",
    "if-match": _CONDITION,
    "if-modified-since": _CONDITION,
    "if-none-match": _CONDITION,
    "if-range": _CONDITION,
    "if-unmodified-since": _CONDITION,
    "keep-alive": _CONNECTION,
    "proxy-authorization": "give OssConfig.proxy",
    "proxy-connection": _CONNECTION,
    "range": _RANGE,
    "security-token": "give OssConfig.security_token",
    "te": _CONNECTION,
    "trailer": _CONNECTION,
    "transfer-encoding": _CONNECTION,
    "upgrade": _CONNECTION,
    "user-agent": "leave it out",
    "x-oss-additional-headers": _SIGNATURE,
    "x-oss-content-sha256": _SIGNATURE,
    "x-oss-copy-source": _COPY,
    "x-oss-copy-source-range": _COPY,
    "x-oss-copy-source-if-match": _COPY,
    "x-oss-copy-source-if-none-match": _COPY,
    "x-oss-copy-source-if-modified-since": _COPY,
    "x-oss-copy-source-if-unmodified-since": _COPY,
    "x-oss-date": _SIGNATURE,
    "x-oss-hash-crc64ecma": _CHECKSUM,
    "x-oss-metadata-directive": _COPY,
    "x-oss-process": "leave it out, the client needs the bytes as they are stored",
    "x-oss-range-behavior": _RANGE,
    "x-oss-request-payer": "give OssConfig.request_payer",
    "x-oss-security-token": "give OssConfig.security_token",
    "x-oss-symlink-target": "call OssClient.symlink",
    "x-oss-tagging-directive": _COPY,
}

_METADATA: Final = "x-oss-meta-"
# The header of each field that has one.
_HEADER_OF: Final = {
    "storage_class": "x-oss-storage-class",
    "encryption": "x-oss-server-side-encryption",
    "kms_key_id": "x-oss-server-side-encryption-key-id",
    "acl": "x-oss-object-acl",
    "tags": "x-oss-tagging",
    "content_type": "content-type",
    "cache_control": "cache-control",
    "content_disposition": "content-disposition",
    "content_encoding": "content-encoding",
    "expires": "expires",
    "forbid_overwrite": "x-oss-forbid-overwrite",
}
_FIELD_OF: Final = {header: name for name, header in _HEADER_OF.items()}
# Headers of writes without a field.
_OF_WRITES: Final = ("content-language", "x-oss-callback", "x-oss-server-side-")

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
        forbid_overwrite: Raise :class:`OssExistsError` if the object exists. False undoes True of
            ``OssConfig.write_options``.
        headers: More headers by name. They are signed, and win over those of ``OssConfig.headers``. A header that a
            field has as well is given once, there or here.

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
    forbid_overwrite: bool | None = None
    headers: Mapping[str, str] | None = field(default=None, hash=False)

    def __post_init__(self) -> None:
        """Check every field."""
        for name, kind in (("storage_class", StorageClass), ("encryption", Encryption), ("acl", Acl)):
            self._check_choice(name, (None, *get_args(kind)))
        self._check_choice("forbid_overwrite", (None, False, True))
        if self.kms_key_id is not None and self.encryption != "KMS":
            raise OssConfigError("WriteOptions.kms_key_id needs encryption='KMS'")
        for name in ("kms_key_id", "content_type", "cache_control", "content_disposition", "content_encoding"):
            value = getattr(self, name)
            if value is not None:
                check_value(f"WriteOptions.{name}", value)
        if isinstance(self.expires, datetime):
            if self.expires.tzinfo is None:
                raise OssConfigError("WriteOptions.expires is a time without a zone: add one, such as datetime.UTC")
        elif self.expires is not None:
            check_value("WriteOptions.expires", self.expires)
        self._check_tags()
        self._check_metadata()
        if self.headers is not None:
            object.__setattr__(self, "headers", dict(check_headers("WriteOptions.headers", self.headers)))
            self._check_fields_in_headers(self.headers)

    def over(self, defaults: "WriteOptions | None") -> "WriteOptions":
        """Return these options, with `defaults` for the fields that were left out.

        Raises:
            OssConfigError: `defaults` is something else.
        """
        check_options("WriteOptions.over: defaults", defaults)
        if defaults is None:
            return self
        fields = [one.name for one in dataclasses.fields(self)]
        given = {name: getattr(self, name) for name in fields if getattr(self, name) is not None}
        if self.encryption is not None:
            # A key belongs to its kind of encryption.
            given["kms_key_id"] = self.kms_key_id
        if self.headers is not None:
            # One header here may say what a field says there, or the other way round.
            replaced = {found for name in self.headers if (found := _field_of(name)) is not None}
            given |= dict.fromkeys({*replaced, "kms_key_id"} if "encryption" in replaced else replaced)
        elif defaults.headers is not None:
            given["headers"] = {name: value for name, value in defaults.headers.items() if _field_of(name) not in given}
        return dataclasses.replace(defaults, **given)

    def to_headers(self) -> Headers:
        """Return the headers of a write."""
        expires = self.expires
        if isinstance(expires, datetime):
            expires = format_http_date(expires)
        values = {name: getattr(self, name) for name in _HEADER_OF} | {
            "tags": urlencode(self.tags, quote_via=quote, safe="") if self.tags else None,
            "expires": expires,
            "forbid_overwrite": "true" if self.forbid_overwrite else None,
        }
        found = [
            *((header, values[name]) for name, header in _HEADER_OF.items()),
            *((f"{_METADATA}{name.lower()}", value) for name, value in (self.metadata or {}).items()),
            *(self.headers or {}).items(),
        ]
        return [(name, value) for name, value in found if value is not None]

    def _check_choice(self, name: str, allowed: tuple[object, ...]) -> None:
        value = getattr(self, name)
        if not any(value is choice or (isinstance(choice, str) and value == choice) for choice in allowed):
            shown = " or ".join(repr(choice) for choice in allowed)
            raise OssConfigError(f"WriteOptions.{name} is {value!r}: allowed is {shown}")

    def _check_fields_in_headers(self, headers: Mapping[str, str]) -> None:
        for name in headers:
            field_name = _field_of(name)
            if field_name == "forbid_overwrite":
                # It is no header of every request of an upload.
                raise OssConfigError(f"WriteOptions.headers: {name!r} is the field forbid_overwrite: give it there")
            if field_name is not None and getattr(self, field_name) is not None:
                raise OssConfigError(
                    f"WriteOptions.headers: {name!r} is given beside WriteOptions.{field_name}: leave one of them out"
                )

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
            check_value(f"WriteOptions.metadata[{name!r}]", value)
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


def check_headers(what: str, headers: Mapping[str, str], *, every_request: bool = False) -> Headers:
    """Return headers that a user adds to requests, with names in lower case.

    Args:
        what: The setting, for messages.
        headers: Names and values.
        every_request: They are for reads as well, so that those of writes are refused.

    Raises:
        OssConfigError: A name or a value is not allowed, or a header is given twice.
    """
    found: dict[str, str] = {}
    for given, value in _pairs(what, headers):
        if not _HEADER_NAME.fullmatch(given):
            raise OssConfigError(f"{what}: {given!r} is not a name that a header can have")
        name = given.lower()
        if name in _RESERVED:
            raise OssConfigError(f"{what}: {given!r} is set by the client itself: {_RESERVED[name]}")
        if every_request and (_field_of(name) is not None or name.startswith(_OF_WRITES)):
            argument = f"{_field_of(name) or 'headers'}=..."
            raise OssConfigError(
                f"{what}: {given!r} belongs to writes, and these headers to all requests: give "
                f"OssConfig.write_options=WriteOptions({argument})"
            )
        if name in found:
            raise OssConfigError(f"{what}: {given!r} is given twice: names of headers have no upper and lower case")
        check_value(f"{what}[{given!r}]", value)
        found[name] = value
    return list(found.items())


def check_options(what: str, options: WriteOptions | None) -> WriteOptions | None:
    """Return the options of a write.

    Args:
        what: The argument, for messages.
        options: The options.

    Raises:
        OssConfigError: They are something else, such as a dict.
    """
    if options is not None and not isinstance(options, WriteOptions):
        raise OssConfigError(f"{what} is {options!r}: allowed is WriteOptions or None")
    return options


def _field_of(header: str) -> str | None:
    """Return the field that says what a header says, if there is one."""
    return "metadata" if header.startswith(_METADATA) else _FIELD_OF.get(header)


def _pairs(what: str, given: object) -> Headers:
    items: Iterable[tuple[Any, Any]] | None = given.items() if isinstance(given, Mapping) else None
    pairs = None if items is None else list(items)
    if pairs is None or not all(isinstance(text, str) for pair in pairs for text in pair):
        raise OssConfigError(f"{what} must be a dict of strings")
    return pairs


def check_value(what: str, value: object) -> None:
    """Check the value of a header.

    Args:
        what: The setting, for messages.
        value: The value.

    Raises:
        OssConfigError: A header cannot have it.
    """
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
