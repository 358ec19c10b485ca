"""The interface that the contract tests give to all clients."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from osstorchconnector.testing import Emulator


@dataclass(frozen=True)
class Access:
    """The address of a server, and an access key for it."""

    endpoint: str
    region: str
    access_key_id: str
    access_key_secret: str
    security_token: str | None = None

    @classmethod
    def to(cls, emulator: Emulator) -> Self:
        return cls(emulator.endpoint, emulator.region, emulator.access_key_id, emulator.access_key_secret)

    def with_key(self, access_key_id: str, access_key_secret: str, security_token: str | None = None) -> Self:
        return replace(
            self, access_key_id=access_key_id, access_key_secret=access_key_secret, security_token=security_token
        )


@dataclass(frozen=True)
class Head:
    """What a client reports about an object; None if it does not report a field."""

    size: int
    etag: str | None = None
    crc64: int | None = None


@dataclass(frozen=True)
class Failure:
    code: str
    status: int
    request_id: str


@dataclass(frozen=True)
class Page:
    """One page of a listing. `after` requests the next page; it is empty on the last page."""

    sizes: dict[str, int]
    prefixes: list[str]
    after: str


@dataclass(frozen=True)
class Part:
    number: int
    size: int
    etag: str


class ObjectClient(ABC):
    """A client that reads, writes and lists objects."""

    # The exception of its operations.
    error: ClassVar[type[Exception] | tuple[type[Exception], ...]]

    @abstractmethod
    def put(self, bucket: str, key: str, data: bytes) -> None: ...

    @abstractmethod
    def put_in_parts(self, bucket: str, key: str, data: bytes) -> None:
        """Store more bytes than one part, as users of this client upload large objects."""

    @abstractmethod
    def get(self, bucket: str, key: str) -> bytes: ...

    @abstractmethod
    def get_range(self, bucket: str, key: str, first: int, last: int) -> bytes:
        """Read from the first to the last byte, both included."""

    @abstractmethod
    def head(self, bucket: str, key: str) -> Head: ...

    @abstractmethod
    def copy(self, bucket: str, source_key: str, key: str) -> None: ...

    @abstractmethod
    def delete(self, bucket: str, key: str) -> None: ...

    @abstractmethod
    def delete_many(self, bucket: str, keys: Sequence[str]) -> None: ...

    @abstractmethod
    def list_all(self, bucket: str, prefix: str = "") -> dict[str, int]:
        """Return the sizes of all objects under a prefix, in the order of the listing."""

    @abstractmethod
    def list_buckets(self) -> list[str]: ...

    @abstractmethod
    def failure(self, error: Exception) -> Failure: ...

    @abstractmethod
    def close(self) -> None: ...


class BucketClient(ObjectClient):
    """A client that manages buckets too."""

    @abstractmethod
    def create_bucket(self, bucket: str) -> None: ...

    @abstractmethod
    def delete_bucket(self, bucket: str) -> None: ...


class ApiClient(BucketClient):
    """A client with one method for each operation of the service."""

    @abstractmethod
    def bucket_region(self, bucket: str) -> str:
        """Return the location, which has ``oss-`` before the region ID."""

    @abstractmethod
    def bucket_info(self, bucket: str) -> dict[str, str]:
        """Return name, location and storage class."""

    @abstractmethod
    def list_v1(
        self, bucket: str, *, prefix: str = "", delimiter: str = "", marker: str = "", max_keys: int = 100
    ) -> Page: ...

    @abstractmethod
    def list_v2(
        self,
        bucket: str,
        *,
        prefix: str = "",
        delimiter: str = "",
        token: str = "",
        start_after: str = "",
        max_keys: int = 100,
    ) -> Page: ...

    @abstractmethod
    def initiate(self, bucket: str, key: str) -> str:
        """Return the ID of a new multipart upload."""

    @abstractmethod
    def upload_part(self, bucket: str, key: str, upload_id: str, number: int, data: bytes) -> Part: ...

    @abstractmethod
    def copy_part(
        self, bucket: str, source_key: str, key: str, upload_id: str, number: int, first: int, last: int
    ) -> Part: ...

    @abstractmethod
    def list_parts(self, bucket: str, key: str, upload_id: str) -> list[Part]: ...

    @abstractmethod
    def list_uploads(self, bucket: str) -> list[tuple[str, str]]:
        """Return key and upload ID of unfinished uploads."""

    @abstractmethod
    def complete(self, bucket: str, key: str, upload_id: str, parts: Sequence[Part]) -> str:
        """Publish the object and return its ETag, without quotes."""

    @abstractmethod
    def abort(self, bucket: str, key: str, upload_id: str) -> None: ...

    @abstractmethod
    def put_with(
        self, bucket: str, key: str, data: bytes, *, storage_class: str = "", acl: str = "", tagging: str = ""
    ) -> None:
        """Store an object with its attributes; the tags are in form encoding."""

    @abstractmethod
    def append(self, bucket: str, key: str, position: int, data: bytes) -> int:
        """Append and return where the next append must start."""

    @abstractmethod
    def meta(self, bucket: str, key: str) -> Head:
        """Return the short description of an object."""

    @abstractmethod
    def put_symlink(self, bucket: str, key: str, target: str) -> None: ...

    @abstractmethod
    def get_symlink(self, bucket: str, key: str) -> str:
        """Return the key that a link points to."""

    @abstractmethod
    def put_tags(self, bucket: str, key: str, tags: dict[str, str]) -> None: ...

    @abstractmethod
    def get_tags(self, bucket: str, key: str) -> dict[str, str]: ...

    @abstractmethod
    def delete_tags(self, bucket: str, key: str) -> None: ...

    @abstractmethod
    def put_acl(self, bucket: str, key: str, acl: str) -> None: ...

    @abstractmethod
    def get_acl(self, bucket: str, key: str) -> str: ...

    @abstractmethod
    def put_bucket_acl(self, bucket: str, acl: str) -> None: ...

    @abstractmethod
    def get_bucket_acl(self, bucket: str) -> str: ...

    @abstractmethod
    def restore(self, bucket: str, key: str, days: int) -> int:
        """Ask for an archived object to be restored and return the status of the answer."""

    @abstractmethod
    def restoration(self, bucket: str, key: str) -> str | None:
        """Return the state of an object's restoration."""

    @abstractmethod
    def presign(self, method: str, bucket: str, key: str, seconds: int, content_type: str = "") -> str: ...
