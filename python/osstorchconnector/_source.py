"""Where a dataset's objects come from. A source is plain data: it pickles and holds no connection."""

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from osstorchconnector._manifest import ManifestParser, default_manifest_parser, labelled_uris, pages
from osstorchconnector._native import Client, ObjectTable, PrefixListing
from osstorchconnector._uri import split_object, split_prefix
from osstorchconnector.exceptions import OssConfigError

#: Objects by URI and label.
Page = list[tuple[str, str]]


class Source(Protocol):
    """What a dataset needs of the place its objects come from. One of its three ways to name them is there."""

    @property
    def name(self) -> str:
        """What the log calls it."""
        ...

    @property
    def batch_size(self) -> int:
        """How many objects stay together in one reader where the program does not tell a batch size."""
        ...

    @property
    def table(self) -> ObjectTable | None:
        """The objects, where they are known from the start."""
        ...

    def prefix_listing(self, *, directory_markers: bool) -> PrefixListing | None:
        """Return what the native core lists."""
        ...

    def pages(self, client: Client) -> Generator[Page]:
        """Name the objects page by page, always the same ones in the same order."""
        ...


class _Named:
    """A source that names its objects one way only: what the others are."""

    batch_size = 1
    table: ObjectTable | None = None

    def prefix_listing(self, *, directory_markers: bool) -> PrefixListing | None:  # noqa: ARG002 - a prefix's
        return None

    def pages(self, client: Client) -> Generator[Page]:  # noqa: ARG002 - a manifest's
        yield from ()


@dataclass(frozen=True)
class PrefixSource(_Named):
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

    @property
    def name(self) -> str:
        """The prefix."""
        return f"oss://{self.bucket}/{self.prefix}"

    def prefix_listing(self, *, directory_markers: bool) -> PrefixListing:
        """Return the prefix."""
        return PrefixListing(self.bucket, self.prefix, directory_markers=directory_markers)


@dataclass(frozen=True)
class ManifestSource(_Named):
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

    @property
    def name(self) -> str:
        """The manifest."""
        return self.manifest

    def pages(self, client: Client) -> Generator[Page]:
        """Parse the manifest, reading it as far as it is asked."""
        yield from pages(labelled_uris(self.manifest, self.parser, self.base_uri, client))


class ObjectsSource(_Named):
    """The objects that were named, in the order in which they were named."""

    name = "the named objects"

    def __init__(self, objects: ObjectTable) -> None:
        """Hold the table."""
        self.table = objects

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
