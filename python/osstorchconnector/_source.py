"""Where a dataset's objects come from. A source is plain data: it pickles and holds no connection."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from osstorchconnector._native import Client, ObjectStream, ObjectTable
from osstorchconnector._sharding import Shard
from osstorchconnector._uri import split_prefix
from osstorchconnector.exceptions import OssConfigError


class Source(Protocol):
    """What a dataset needs of the place its objects come from."""

    def stream(self, client: Client, shard: Shard) -> ObjectStream:
        """Start to fetch the shard's objects, in order."""
        ...

    def table(self, client: Client) -> ObjectTable:
        """Return the whole table of objects."""
        ...


@dataclass(frozen=True, slots=True)
class PrefixSource:
    """Every object under a prefix, in key order."""

    bucket: str
    prefix: str

    @classmethod
    def from_uri(cls, uri: str) -> "PrefixSource":
        """Read the prefix from a URI.

        Raises:
            OssConfigError: It is not ``oss://bucket/prefix`` or ``/bucket/prefix``.
        """
        return cls(*split_prefix(uri))

    def stream(self, client: Client, shard: Shard) -> ObjectStream:
        """List the prefix and fetch the shard's objects meanwhile."""
        return client.stream_prefix(self.bucket, self.prefix, shard.index, shard.count)

    def table(self, client: Client) -> ObjectTable:
        """List the whole prefix."""
        return client.list_table(self.bucket, self.prefix)


@dataclass(frozen=True, slots=True)
class ObjectsSource:
    """The objects that were named, in the order in which they were named."""

    objects: ObjectTable

    @classmethod
    def from_uris(cls, uris: str | Iterable[str]) -> "ObjectsSource":
        """Read the URIs into a table; an iterator is read to its end.

        Raises:
            OssConfigError: There is none, or one is not ``oss://bucket/key`` or ``/bucket/key``.
        """
        objects = ObjectTable.from_uris([uris] if isinstance(uris, str) else uris)
        if not len(objects):
            raise OssConfigError("object_uris is empty: give at least one URI like 'oss://bucket/key'")
        return cls(objects)

    def stream(self, client: Client, shard: Shard) -> ObjectStream:
        """Fetch the shard's objects."""
        return client.stream_table(self.objects, shard.index, shard.count)

    def table(self, client: Client) -> ObjectTable:  # noqa: ARG002 - it is known without asking anyone
        """Return the table."""
        return self.objects
