"""The sources of a dataset's objects. A source is plain data: it pickles, and holds no client."""

import os
import weakref
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile, gettempdir
from typing import Any, Final, Protocol

from osstorchconnector._native import Client, ObjectTable, PrefixToList
from osstorchconnector.archive.members import archive_members
from osstorchconnector.connection.uri import check_local, split_local, split_object, split_prefix
from osstorchconnector.dataset.manifest import ManifestParser, default_manifest_parser, manifest_rows
from osstorchconnector.dataset.rows import Row, pages, quoted
from osstorchconnector.dataset.snapshot import snapshot_parser, stated_count
from osstorchconnector.exceptions import OssConfigError, OssNotFoundError
from osstorchconnector.files.opening import open_binary
from osstorchconnector.process.inherited import Descriptor, Inherited
from osstorchconnector.process.starting import is_starting_process

# Consecutive members that one reader takes: enough for one request, and few enough that each reader gets some.
_MEMBERS: Final = 64


class Source(Protocol):
    """A source of objects. It names them in one of three ways: `table`, `prefix_to_list` or `pages`."""

    @property
    def name(self) -> str:
        """Its name in the log."""
        ...

    @property
    def batch_size(self) -> int:
        """How many consecutive objects one reader takes if the dataset has no batch size."""
        ...

    @property
    def table(self) -> ObjectTable | None:
        """The objects, if they are known from the start."""
        ...

    def prefix_to_list(self, *, directory_markers: bool) -> PrefixToList | None:
        """Return the prefix that the native core lists, if there is one."""
        ...

    @property
    def is_here(self) -> bool:
        """Whether what names the objects is a local file."""
        ...

    def stated_count(self, client: Client) -> int | None:
        """Return the number of objects, if the source states it somewhere."""
        ...

    def pages(self, client: Client) -> Generator[list[Row]]:
        """Yield the objects page by page: always the same objects in the same order."""
        ...


class _SourceDefaults:
    """What a source leaves out: two of the ways to name objects, and a number that it states."""

    batch_size = 1
    is_here = False
    table: ObjectTable | None = None

    def prefix_to_list(self, *, directory_markers: bool) -> PrefixToList | None:  # noqa: ARG002 - a prefix's
        return None

    def stated_count(self, client: Client) -> int | None:  # noqa: ARG002 - a snapshot's
        return None

    def pages(self, client: Client) -> Generator[list[Row]]:  # noqa: ARG002 - a manifest's
        yield from ()


@dataclass(frozen=True)
class PrefixSource(_SourceDefaults):
    """Every object under a prefix, in key order."""

    bucket: str
    prefix: str

    @classmethod
    def from_uri(cls, uri: str, *, local: bool = False) -> "PrefixSource":
        """Read the prefix from a URI.

        Args:
            uri: The URI, or the path if objects are files.
            local: Whether objects are files.

        Raises:
            OssConfigError: It is neither ``oss://bucket/prefix`` nor ``/bucket/prefix``.
        """
        return cls(*(split_local(uri) if local else split_prefix(uri)))

    @property
    def name(self) -> str:
        """The prefix."""
        return f"oss://{self.bucket}/{self.prefix}"

    def prefix_to_list(self, *, directory_markers: bool) -> PrefixToList:
        """Return the prefix."""
        return PrefixToList(self.bucket, self.prefix, directory_markers=directory_markers)


@dataclass(frozen=True)
class ManifestSource(_SourceDefaults):
    """The objects that a manifest names, in its order, with their labels."""

    manifest: str
    parser: ManifestParser
    base_uri: str

    @classmethod
    def from_file(
        cls, manifest: str, parser: ManifestParser | None, base_uri: str, *, local: bool = False
    ) -> "ManifestSource":
        """Check the arguments, without reading the manifest.

        Args:
            manifest: The local path or the URI of the manifest.
            parser: Parses it; None: the default parser.
            base_uri: The beginning of each URI; the key follows it.
            local: Whether objects are files.

        Raises:
            OssNotFoundError: There is no such local file.
            OssConfigError: It is no file, the parser is not callable, or the base is not an OSS URI.
        """
        if not isinstance(manifest, str) or not manifest:
            raise OssConfigError(f"manifest_file_path must be a local path or an oss:// URI as str, not {manifest!r}")
        if manifest.startswith("oss://"):
            (split_local if local else split_object)(manifest)
        elif not Path(check_local(manifest)).exists():
            raise OssNotFoundError(f"the manifest {manifest} does not exist")
        elif not Path(manifest).is_file():
            raise OssConfigError(f"the manifest {manifest} is not a file")
        if parser is None:
            parser = default_manifest_parser
        if not callable(parser):
            raise OssConfigError(f"manifest_parser must be a function that takes a binary stream, not {parser!r}")
        if base_uri:
            (split_local if local else split_prefix)(base_uri)
        return cls(manifest, parser, base_uri)

    @property
    def name(self) -> str:
        """The manifest."""
        return self.manifest

    @property
    def is_here(self) -> bool:  # type: ignore[override]
        """Whether the manifest is a local file."""
        return not self.manifest.startswith("oss://")

    def stated_count(self, client: Client) -> int | None:
        """Return what the last line of a snapshot says; None for any other manifest."""
        if self.parser not in {default_manifest_parser, snapshot_parser}:
            return None
        with open_binary(self.manifest, client) as reader:
            return stated_count(reader)

    def pages(self, client: Client) -> Generator[list[Row]]:
        """Parse the manifest, and read it only as far as pages are wanted."""
        yield from pages(manifest_rows(self.manifest, self.parser, self.base_uri, client))


class ObjectsSource(_SourceDefaults):
    """The objects that were named, in the order in which they were named.

    Started processes read the table from one file without a name. So the table neither goes through the pipe of each
    process nor takes memory in each process.
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
            uris: The URIs, or the paths if objects are files.
            local: Whether objects are files.

        Raises:
            OssConfigError: There is no URI, or one is neither ``oss://bucket/key`` nor ``/bucket/key``.
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
        """Return the file if a process is being started, else the table."""
        if not is_starting_process():
            return {"table": self.table}
        shared = self._share(_shared_file(self.table)) if self._shared is None else self._shared
        return {"shared": Inherited(Descriptor(shared))}

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
            f"the table of {len(table)} objects cannot be written to {gettempdir()} for started processes ({error}): "
            "set TMPDIR to a directory with free space that this user can write to"
        ) from error


def _path_of(descriptor: int) -> str:
    return f"/dev/fd/{descriptor}"


@dataclass(frozen=True)
class TarSource(_SourceDefaults):
    """The members of a tar archive, in its order."""

    bucket: str
    key: str
    index: str
    batch_size: int = _MEMBERS

    @classmethod
    def from_uris(cls, tar: str, index: str | None, *, local: bool = False, chunk: int | None = None) -> "TarSource":
        """Check the arguments, without reading the archive.

        Args:
            tar: The URI of the archive, or its path if objects are files.
            index: The URI or the local path of its index. Empty or None: there is none.
            local: Whether objects are files.
            chunk: How many members a shuffle mixes together; None: no shuffle.

        Raises:
            OssConfigError: One of them is not such a URI or path.
        """
        split = split_local if local else split_object
        index = index or ""
        if not isinstance(index, str):
            raise OssConfigError(f"tar_index_uri must be a URI or a local path as str, not {type(index).__name__}")
        if index.startswith("oss://"):
            split(index)
        elif index and not Path(check_local(index)).is_file():
            raise OssConfigError(f"the index {index} does not exist or is not a file")
        # A reader of whole chunks reads long runs; a reader of a part of a chunk would read scattered members.
        return cls(*split(tar), index, _MEMBERS if chunk is None else chunk)

    @property
    def name(self) -> str:
        """The archive."""
        return f"oss://{self.bucket}/{self.key}"

    def pages(self, client: Client) -> Generator[list[Row]]:
        """Read the index; without one, the archive's headers."""
        bucket, key = self.bucket, self.key
        yield from pages(
            (bucket, f"{key}/{member.name}", member.size, quoted(etag), member.label, (key, member.offset))
            for etag, member in archive_members(client, bucket, key, self.index)
        )
