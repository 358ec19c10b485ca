"""The distributed checkpoints below a prefix: which are complete, and what failed saves left behind."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from torch.distributed.checkpoint.metadata import Metadata

from osstorchconnector.connection.client import OssClient, get_bounded
from osstorchconnector.credentials.shield import guarded
from osstorchconnector.dcp.fetch import Fetcher, Files, WantedRange
from osstorchconnector.dcp.integrity import BLOCK, LARGEST_DESCRIPTION, Sidecar
from osstorchconnector.dcp.metadata import files_of, items_of, metadata_name, read_metadata, save_id_of, span_of
from osstorchconnector.dcp.paths import join, name_below
from osstorchconnector.exceptions import OssError, OssIntegrityError, OssNotFoundError

# The names of a save's objects: metadata, checksums, and files, which may be in a directory of their rank. Files that
# torch's own writer saved have no save id in their names.
_METADATA: Final = re.compile(r"(?:__\d+)?\.metadata")
_SIDECAR: Final = re.compile(r"\.items-oss-[0-9a-f]{32}\.json")
_FILE: Final = re.compile(rf"__\d+_(?:oss-[0-9a-f]{{32}}_)?\d+\.(?:distcp|safetensors)|{_SIDECAR.pattern}")

# As in the reader.
_CONCURRENCY: Final = 16


@dataclass
class Checkpoint:
    """A checkpoint, or the leftovers of one.

    Attributes:
        uri: Its URI.
        sizes: Size in bytes of each of its objects, by the name below the URI.
        files: The files that it consists of; empty if it has no metadata.
        problems: The reasons why it cannot be loaded.
        leftovers: Objects that belong to no checkpoint: of saves that failed, or that are not finished yet.
    """

    uri: str
    sizes: dict[str, int] = field(default_factory=dict)
    files: set[str] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)
    leftovers: set[str] = field(default_factory=set)

    @property
    def complete(self) -> bool:
        """Whether all files that its metadata names exist, with their sizes."""
        return not self.problems

    @property
    def size(self) -> int:
        """Bytes of its objects, without leftovers."""
        return sum(size for name, size in self.sizes.items() if name not in self.leftovers)

    @property
    def metadata_names(self) -> list[str]:
        """The names of its metadata: one, or one of each rank if each rank saved by itself."""
        return [name for name in self.sizes if _METADATA.fullmatch(name)]


def checkpoints(client: OssClient, uri: str) -> Iterator[Checkpoint]:
    """Yield the checkpoints at a URI and below it, sorted by name.

    Args:
        client: The client.
        uri: A checkpoint, or a prefix with checkpoints.
    """
    found: dict[str, Checkpoint] = {}
    objects = {listed.uri: listed.size for listed in client.list(f"{uri}/" if uri.count("/") > 2 else uri)}  # noqa: PLR2004 - oss://b
    roots = {directory for directory, _, name in (other.rpartition("/") for other in objects) if _is_at_root(name)}
    for other, size in objects.items():
        directory, _, name = other.rpartition("/")
        root = _root_of(directory, roots)
        if root is None and not _FILE.fullmatch(name):
            continue
        # Without metadata and checksums, the checkpoint's own directory is unknown: ranks may have directories in it.
        root = root or directory
        found.setdefault(root, Checkpoint(root)).sizes[name_below(root, other)] = size
    for root in sorted(found):
        _examine(client, found[root])
        yield found[root]


@guarded
def verify(client: OssClient, checkpoint: Checkpoint) -> int:
    """Read every item of a complete checkpoint; return how many items had a checksum to compare.

    Raises:
        OssIntegrityError: An item is damaged; the message names the item and its file.
        OssError: A file could not be read.
    """
    checked = 0
    for name in checkpoint.metadata_names:
        metadata = read_metadata(client, join(checkpoint.uri, name))
        sidecar = _sidecar(client, checkpoint.uri, metadata)
        files = Files(client, checkpoint.uri, {} if sidecar is None else sidecar.files)
        ranges = list(_wanted_ranges(metadata, sidecar))
        checked += sum(wanted.crc is not None for wanted in ranges)
        Fetcher(files, _CONCURRENCY, _CONCURRENCY * BLOCK, BLOCK).run([ranges])
    return checked


@guarded
def remove(client: OssClient, checkpoint: Checkpoint) -> list[str]:
    """Delete a checkpoint with its leftovers; return the deleted URIs. Other objects stay.

    Its metadata is deleted first, so that it no longer looks complete.
    """
    metadata = [join(checkpoint.uri, name) for name in checkpoint.metadata_names]
    client.delete_many(metadata)
    names = sorted((checkpoint.files & checkpoint.sizes.keys()) | checkpoint.leftovers)
    uris = [join(checkpoint.uri, name) for name in names]
    client.delete_many(uris)
    return metadata + uris


@guarded
def remove_leftovers(client: OssClient, checkpoint: Checkpoint) -> list[str]:
    """Delete the leftovers; return the deleted URIs. No save may be running meanwhile."""
    uris = [join(checkpoint.uri, name) for name in sorted(checkpoint.leftovers)]
    client.delete_many(uris)
    return uris


def _is_at_root(name: str) -> bool:
    return bool(_METADATA.fullmatch(name) or _SIDECAR.fullmatch(name))


def _root_of(directory: str, roots: set[str]) -> str | None:
    while directory.count("/") > 1:
        if directory in roots:
            return directory
        directory = directory.rpartition("/")[0]
    return None


def _examine(client: OssClient, checkpoint: Checkpoint) -> None:
    names = checkpoint.metadata_names
    if not names:
        checkpoint.problems.append("no .metadata, which a save writes last: the save failed, or is still running")
    ranks = 0
    for name in names:
        try:
            metadata = read_metadata(client, join(checkpoint.uri, name))
            checkpoint.files |= files_of(metadata)
            sidecar = _sidecar(client, checkpoint.uri, metadata)
            checkpoint.problems += _problems(checkpoint, metadata, sidecar)
            ranks = max(ranks, (sidecar and sidecar.ranks) or 0)
        except OssError as error:
            checkpoint.problems.append(str(error))
    missing = (
        [] if metadata_name(None) in names else [rank for rank in range(ranks) if metadata_name(rank) not in names]
    )
    if missing:
        checkpoint.problems.append(f"of {ranks} ranks that save each by itself, {missing} have not finished")
    if not names or checkpoint.files:
        # If the metadata cannot be read, any file may belong to the checkpoint.
        ours = {name for name in checkpoint.sizes if _FILE.fullmatch(name.rpartition("/")[2])}
        checkpoint.leftovers = ours - checkpoint.files


def _problems(checkpoint: Checkpoint, metadata: Metadata, sidecar: Sidecar | None) -> Iterator[str]:
    ends: dict[str, int] = {}
    for info in items_of(metadata):
        ends[info.relative_path] = max(ends.get(info.relative_path, 0), sum(span_of(info)))
    for file, end in sorted(ends.items()):
        size = checkpoint.sizes.get(file)
        recorded = None if sidecar is None else sidecar.files.get(file)
        if size is None:
            yield f"{file} is missing"
        elif size < end or (recorded is not None and size != recorded):
            yield f"{file} has {size} bytes instead of {end if recorded is None else recorded}"


def _sidecar(client: OssClient, uri: str, metadata: Metadata) -> Sidecar | None:
    save_id = save_id_of(metadata)
    if save_id is None:
        return None
    sidecar_uri = join(uri, Sidecar.name(save_id))
    try:
        return Sidecar.from_bytes(get_bounded(client, sidecar_uri, LARGEST_DESCRIPTION), sidecar_uri)
    except OssNotFoundError as error:
        raise OssIntegrityError(f"{Sidecar.name(save_id)}, which holds the checksums, is missing") from error


def _wanted_ranges(metadata: Metadata, sidecar: Sidecar | None) -> Iterable[WantedRange]:
    places = sorted(
        (info.relative_path, *span_of(info), index.fqn)
        for index, info in (metadata.storage_data or {}).items()
        if span_of(info)[1]
    )
    for file, offset, length, name in places:
        record = None if sidecar is None else sidecar.items.get((file, offset, length))
        yield WantedRange(file, offset, length, name, lambda _: None, crc=None if record is None else record.crc)
