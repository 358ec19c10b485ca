"""Where a dataset's objects come from. A source is plain data: it pickles and holds no connection."""

import os
import weakref
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from multiprocessing.context import get_spawning_popen
from multiprocessing.reduction import DupFd
from pathlib import Path
from tempfile import TemporaryFile, gettempdir
from typing import Any, Final, Protocol

from osstorchconnector._native import Client, ObjectTable, PrefixToList
from osstorchconnector.archive.members import archive_members
from osstorchconnector.connection.uri import split_local, split_object, split_prefix
from osstorchconnector.dataset.manifest import ManifestParser, default_manifest_parser, manifest_rows
from osstorchconnector.dataset.rows import Row, pages, quoted
from osstorchconnector.exceptions import OssConfigError

# Members of an archive that one reader takes in a row: enough for one request, few enough that all readers have some.
_MEMBERS: Final = 64


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

    def prefix_listing(self, *, directory_markers: bool) -> PrefixToList | None:
        """Return what the native core lists."""
        ...

    def pages(self, client: Client) -> Generator[list[Row]]:
        """Name the objects page by page, always the same ones in the same order."""
        ...


class _Named:
    """A source that names its objects one way only: what the others are."""

    batch_size = 1
    table: ObjectTable | None = None

    def prefix_listing(self, *, directory_markers: bool) -> PrefixToList | None:  # noqa: ARG002 - a prefix's
        return None

    def pages(self, client: Client) -> Generator[list[Row]]:  # noqa: ARG002 - a manifest's
        yield from ()


@dataclass(frozen=True)
class PrefixSource(_Named):
    """Every object under a prefix, in key order."""

    bucket: str
    prefix: str

    @classmethod
    def from_uri(cls, uri: str, *, local: bool = False) -> "PrefixSource":
        """Read the prefix from a URI.

        Args:
            uri: The URI, or the path where objects are files.
            local: Whether they are.

        Raises:
            OssConfigError: It is not ``oss://bucket/prefix`` or ``/bucket/prefix``.
        """
        return cls(*(split_local(uri) if local else split_prefix(uri)))

    @property
    def name(self) -> str:
        """The prefix."""
        return f"oss://{self.bucket}/{self.prefix}"

    def prefix_listing(self, *, directory_markers: bool) -> PrefixToList:
        """Return the prefix."""
        return PrefixToList(self.bucket, self.prefix, directory_markers=directory_markers)


@dataclass(frozen=True)
class ManifestSource(_Named):
    """The objects that a manifest names, in its order, with their labels."""

    manifest: str
    parser: ManifestParser
    base_uri: str

    @classmethod
    def from_file(
        cls, manifest: str, parser: ManifestParser | None, base_uri: str, *, local: bool = False
    ) -> "ManifestSource":
        """Check what can be checked without reading the manifest.

        Args:
            manifest: The local path or the URI of the manifest.
            parser: Parses it; None: the default parser.
            base_uri: What stands before each key.
            local: Whether objects are files.

        Raises:
            OssConfigError: There is no such local file, the parser cannot be called, or the base is no OSS URI.
        """
        if not isinstance(manifest, str) or not manifest:
            raise OssConfigError(f"manifest_file_path must be a local path or an oss:// URI as str, not {manifest!r}")
        if manifest.startswith("oss://"):
            (split_local if local else split_object)(manifest)
        elif not Path(manifest).is_file():
            raise OssConfigError(f"the manifest {manifest} does not exist or is no file")
        if parser is None:
            parser = default_manifest_parser
        if not callable(parser):
            raise OssConfigError(f"manifest_parser must be callable with a binary stream, not {parser!r}")
        if base_uri:
            (split_local if local else split_prefix)(base_uri)
        return cls(manifest, parser, base_uri)

    @property
    def name(self) -> str:
        """The manifest."""
        return self.manifest

    def pages(self, client: Client) -> Generator[list[Row]]:
        """Parse the manifest, reading it as far as it is asked."""
        yield from pages(manifest_rows(self.manifest, self.parser, self.base_uri, client))


class ObjectsSource(_Named):
    """The objects that were named, in the order in which they were named.

    Processes that are started read the table from one file without a name, so that it neither goes through the pipe of
    each nor lies in the memory of each.
    """

    name = "the named objects"
    table: ObjectTable

    def __init__(self, objects: ObjectTable) -> None:
        """Hold the table."""
        self.table = objects
        self._shared: int | None = None

    @classmethod
    def from_uris(cls, uris: str | Iterable[str], *, local: bool = False) -> "ObjectsSource":
        """Read the URIs into a table; an iterator is read to its end.

        Args:
            uris: The URIs, or the paths where objects are files.
            local: Whether they are.

        Raises:
            OssConfigError: There is none, or one is not ``oss://bucket/key`` or ``/bucket/key``.
        """
        named = [uris] if isinstance(uris, str) else uris
        if local:
            objects = ObjectTable.from_objects((*split_local(path), None, None, "", None) for path in named)
        else:
            objects = ObjectTable.from_uris(named)
        if not len(objects):
            raise OssConfigError("object_uris is empty: give at least one URI like 'oss://bucket/key'")
        return cls(objects)

    def __getstate__(self) -> dict[str, Any]:
        """Return the file for a process that is being started, else the table."""
        if get_spawning_popen() is None:
            return {"table": self.table}
        shared = self._share(_shared_file(self.table)) if self._shared is None else self._shared
        return {"shared": DupFd(shared)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the table, or read it from the file."""
        if "table" in state:
            self.__init__(state["table"])  # type: ignore[misc]
        else:
            self.table = ObjectTable.from_file(_path_of(self._share(state["shared"].detach())))

    def _share(self, descriptor: int) -> int:
        self._shared = descriptor
        weakref.finalize(self, os.close, descriptor)
        return descriptor


def _shared_file(table: ObjectTable) -> int:
    try:
        with TemporaryFile() as file:
            table.write_to(_path_of(file.fileno()))
            return os.dup(file.fileno())
    except OSError as error:
        raise OssConfigError(
            f"the table of {len(table)} objects cannot be written to {gettempdir()} for the processes that are started "
            f"({error}): let TMPDIR name a directory with room that this user can write to"
        ) from error


def _path_of(descriptor: int) -> str:
    return f"/dev/fd/{descriptor}"


@dataclass(frozen=True)
class TarSource(_Named):
    """The members of a tar archive, in its order."""

    bucket: str
    key: str
    index: str
    batch_size: int = _MEMBERS

    @classmethod
    def from_uris(cls, tar: str, index: str | None, *, local: bool = False, chunk: int | None = None) -> "TarSource":
        """Check what can be checked without reading.

        Args:
            tar: The URI of the archive, or its path where objects are files.
            index: The URI or the local path of its index. Empty or None: there is none.
            local: Whether objects are files.
            chunk: How many members are mixed with each other; None: they are not.

        Raises:
            OssConfigError: One is no such URI or path.
        """
        split = split_local if local else split_object
        index = index or ""
        if not isinstance(index, str):
            raise OssConfigError(f"tar_index_uri must be a URI or a local path as str, not {type(index).__name__}")
        if index.startswith("oss://"):
            split(index)
        elif index and not Path(index).is_file():
            raise OssConfigError(f"the index {index} does not exist or is no file")
        # A reader that has whole chunks reads them in long runs; of a part of one it would read scattered members.
        return cls(*split(tar), index, _MEMBERS if chunk is None else chunk)

    @property
    def name(self) -> str:
        """The archive."""
        return f"oss://{self.bucket}/{self.key}"

    def pages(self, client: Client) -> Generator[list[Row]]:
        """Read the index, or else the archive's headers."""
        bucket, key = self.bucket, self.key
        yield from pages(
            (bucket, f"{key}/{member.name}", member.size, quoted(etag), member.label, (key, member.offset))
            for etag, member in archive_members(client, bucket, key, self.index)
        )
