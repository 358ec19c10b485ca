"""Where a dataset's objects come from. A source holds no connection, and pickles.

The processes of a dataset share one listing. It travels while a process is being started; any other pickle lists anew.
"""

import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from multiprocessing.context import get_spawning_popen
from pathlib import Path
from typing import Any, Final, Protocol

from osstorchconnector._listing import new_listing
from osstorchconnector._manifest import ManifestParser, default_manifest_parser, labelled_uris, pages
from osstorchconnector._native import Client, Listing, ObjectStream, ObjectTable, Order, PrefixListing
from osstorchconnector._sharding import Shard
from osstorchconnector._uri import split_object, split_prefix
from osstorchconnector.exceptions import OssConfigError

# How often a thread that waits for its turn to parse looks whether anybody still reads.
_TURN_SECONDS: Final = 0.1


class Source(Protocol):
    """What a dataset needs of the place its objects come from."""

    def stream(self, client: Client, shard: Shard) -> ObjectStream:
        """Start to fetch the shard's objects, in order."""
        ...

    def rows(self, client: Client) -> ObjectTable | Listing:
        """Return all objects."""
        ...


def _order(shard: Shard) -> Order:
    return Order(worker=shard.index, workers=shard.count)


@dataclass(frozen=True, slots=True)
class PrefixSource:
    """Every object under a prefix, in key order."""

    bucket: str
    prefix: str
    listing: Listing = field(default_factory=new_listing, compare=False, repr=False)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Take the listing along only to a process that is being started."""
        shared = () if get_spawning_popen() is None else (self.listing,)
        return PrefixSource, (self.bucket, self.prefix, *shared)

    @classmethod
    def from_uri(cls, uri: str) -> "PrefixSource":
        """Read the prefix from a URI.

        Raises:
            OssConfigError: It is not ``oss://bucket/prefix`` or ``/bucket/prefix``.
        """
        return cls(*split_prefix(uri))

    def stream(self, client: Client, shard: Shard) -> ObjectStream:
        """List the prefix, where no other process does, and fetch the shard's objects meanwhile."""
        return client.stream(self.listing, _order(shard), producer=PrefixListing(self.bucket, self.prefix))

    def rows(self, client: Client) -> Listing:
        """List the whole prefix."""
        self.listing.wait(client, PrefixListing(self.bucket, self.prefix))
        return self.listing


@dataclass(frozen=True, slots=True)
class ManifestSource:
    """The objects that a manifest names, in its order, with their labels."""

    manifest: str
    parser: ManifestParser
    base_uri: str
    listing: Listing = field(default_factory=new_listing, compare=False, repr=False)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Take the listing along only to a process that is being started."""
        shared = () if get_spawning_popen() is None else (self.listing,)
        return ManifestSource, (self.manifest, self.parser, self.base_uri, *shared)

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
        """Parse the manifest in a thread of its own, where no other process does, and fetch the shard's objects."""
        stream = client.stream(self.listing, _order(shard))
        # A daemon, since the parser may wait for ever; the core keeps it from blocking the process's end.
        arguments = (client, weakref.ref(stream))
        threading.Thread(target=self._parse_for, args=arguments, name="osst-manifest", daemon=True).start()
        return stream

    def _parse_for(self, client: Client, reference: "weakref.ref[ObjectStream]") -> None:
        def is_read() -> bool:
            stream = reference()
            return stream is not None and not stream.closed

        try:
            turn = None
            while turn is None and is_read():
                turn = self.listing.acquire(_TURN_SECONDS)
            if turn:
                self._parse(client, is_read)
        except Exception as error:  # noqa: BLE001 - the reader of the stream raises it
            stream = reference()
            if stream is not None:
                stream.fail(error)

    def _parse(self, client: Client, is_read: Callable[[], bool]) -> None:
        """Append what the manifest names behind the rows that are there."""
        try:
            for page in self._pages(client):
                if not is_read():
                    return
                self.listing.put(page)
            self.listing.finish()
        except Exception as error:  # noqa: BLE001 - all readers of the listing raise it
            self.listing.fail(error)
        finally:
            self.listing.release()

    def _pages(self, client: Client) -> Iterator[list[tuple[str, str]]]:
        named = labelled_uris(self.manifest, self.parser, self.base_uri, client)
        return pages(islice(named, self.listing.count, None))

    def rows(self, client: Client) -> Listing:
        """Parse the whole manifest."""
        if self.listing.acquire():
            self._parse(client, lambda: True)
        self.listing.wait()
        return self.listing


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
        return client.stream(self.objects, _order(shard))

    def rows(self, client: Client) -> ObjectTable:  # noqa: ARG002 - it is known without asking anyone
        """Return the table."""
        return self.objects
