"""Where a dataset's objects come from. A source is plain data: it pickles and holds no connection."""

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from osstorchconnector._manifest import ManifestParser, default_manifest_parser, labelled_uris, pages
from osstorchconnector._native import Client, EntryFeed, ObjectStream, ObjectTable
from osstorchconnector._sharding import Shard
from osstorchconnector._uri import split_object, split_prefix
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
class ManifestSource:
    """The objects that a manifest names, in its order, with their labels."""

    manifest: str
    parser: ManifestParser
    base_uri: str

    @classmethod
    def from_file(cls, manifest: str, parser: ManifestParser | None, base_uri: str) -> "ManifestSource":
        """Check what can be checked without reading the manifest.

        Raises:
            OssConfigError: There is no such local file, the parser cannot be called, or the base is no OSS URI.
        """
        if not isinstance(manifest, str) or not manifest:
            raise OssConfigError(f"manifest_file_path must be a local path or an oss:// URI as str, not {manifest!r}")
        if manifest.startswith("oss://"):
            split_object(manifest)
        elif not Path(manifest).is_file():
            raise OssConfigError(f"the manifest {manifest} does not exist or is no file")
        if parser is None:
            parser = default_manifest_parser
        if not callable(parser):
            raise OssConfigError(f"manifest_parser must be callable with a binary stream, not {parser!r}")
        if base_uri:
            split_prefix(base_uri)
        return cls(manifest, parser, base_uri)

    def stream(self, client: Client, shard: Shard) -> ObjectStream:
        """Parse the manifest in a thread of its own and fetch the shard's objects meanwhile."""
        stream, feed = client.stream_fed(shard.index, shard.count)
        # A daemon, since it may wait for a reader that has gone; the core keeps it from blocking the process's end.
        threading.Thread(target=self._feed, args=(client, feed), name="osst-manifest", daemon=True).start()
        return stream

    def _feed(self, client: Client, feed: EntryFeed) -> None:
        try:
            for page in pages(labelled_uris(self.manifest, self.parser, self.base_uri, client)):
                if not feed.put(page):
                    return
            feed.finish()
        except Exception as error:  # noqa: BLE001 - the reader of the stream raises it
            feed.fail(error)

    def table(self, client: Client) -> ObjectTable:
        """Parse the whole manifest."""
        return ObjectTable.from_labelled(labelled_uris(self.manifest, self.parser, self.base_uri, client))


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
