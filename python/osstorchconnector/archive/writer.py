"""Writes tar archives and their index."""

import logging
import os
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, Final

from osstorchconnector._native import DataObject, Order, crc64
from osstorchconnector.archive.headers import members_of
from osstorchconnector.archive.index import TarIndexHeader, TarMember, write_members
from osstorchconnector.archive.positions import PositionTable
from osstorchconnector.connection.client import LocalClient, OssClient, connect
from osstorchconnector.connection.config import MIB, OssConfig
from osstorchconnector.connection.uri import split_local, split_prefix
from osstorchconnector.credentials.shield import guarded
from osstorchconnector.dataset.listing import SharedListing
from osstorchconnector.dataset.manifest import label_below
from osstorchconnector.dataset.private_directory import PrivateDirectory
from osstorchconnector.dataset.sources import PrefixSource
from osstorchconnector.exceptions import OssConfigError, OssIntegrityError
from osstorchconnector.files.opening import open_binary
from osstorchconnector.files.writing import writing

if TYPE_CHECKING:
    from osstorchconnector._native import Writer

__all__ = ["generate_tar_archive"]

_logger: Final = logging.getLogger(__name__)

# A large member is copied in pieces of the size of an upload's part.
_PIECE: Final = 8 * MIB
# Until the archive is complete, an index of some ten thousand members stays in memory, a longer one in a file.
_INDEX_IN_MEMORY: Final = MIB


@guarded
def generate_tar_archive(
    endpoint: str,
    cred_path: str,
    config_path: str,
    tar_path: str,
    index_path: str,
    source_path: str,
    index_only: bool = False,  # noqa: FBT001, FBT002 - the original's argument
    cred_provider: object = None,
    region: str = "",
    *,
    config: OssConfig | None = None,
    labels_from_prefix: bool = False,
    progress: Callable[[int, int], object] | None = None,
) -> int:
    """Write the objects under a prefix, or the files in a directory, into a tar archive, and write its index.

    The archive is a POSIX tar file, which ``tar`` and webdataset can read. The same objects give the same bytes:
    members are sorted by name, have no owner, and have the date 1970. Memory does not grow with the archive or its
    members. Archive and index appear when they are complete.

    Args:
        endpoint, cred_path, cred_provider, config_path, region, config: The connection arguments, those of
            :class:`OssClient`. If the endpoint is empty, every path is local.
        tar_path: The archive: the URI of an object, or a local path.
        index_path: Its index: the URI of an object, or a local path.
        source_path: The objects: ``oss://bucket/prefix/`` or a local directory. Names in the archive are relative to
            it.
        index_only: Read an existing archive, and write only its index. ``source_path`` is not used.
        labels_from_prefix: Label each member with the first directory of its name.
        progress: Called after each member with the number of members and bytes so far.

    Returns:
        0: what fails raises.

    Raises:
        OssConfigError: An argument is wrong, a file is missing, or the existing archive is not a tar archive.
        OssError: Something could not be read or written. Neither archive nor index was written, with one exception: if
            the last request, which stores the index, failed, the archive exists. Then ``index_only`` makes its index.
    """
    client = connect(endpoint, cred_path, config_path, cred_provider, region, config)
    write_archive(
        client,
        tar_path,
        index_path,
        source_path,
        index_only=index_only,
        labels_from_prefix=labels_from_prefix,
        progress=progress,
    )
    return 0


def write_archive(
    client: OssClient,
    tar_path: str,
    index_path: str,
    source_path: str,
    *,
    index_only: bool = False,
    labels_from_prefix: bool = False,
    progress: Callable[[int, int], object] | None = None,
) -> None:
    """Write an archive and its index with a client. The arguments are those of :func:`generate_tar_archive`.

    Raises:
        OssConfigError: An argument is wrong, a file is missing, or the existing archive is not a tar archive.
        OssError: Something could not be read or written.
    """
    remote = client if client.endpoint else None
    local = LocalClient(config=client.config)
    for name, path in (("tar_path", tar_path), ("index_path", index_path)):
        if not isinstance(path, str) or not path or path.endswith("/"):
            raise OssConfigError(f"{name} must be the URI of an object or a local path, not {path!r}")
    if tar_path == index_path:
        raise OssConfigError(f"tar_path and index_path are the same, {tar_path!r}: give the index another name")
    tar_path, index_path = (_absolute(path, remote) for path in (tar_path, index_path))
    name = tar_path.rpartition("/")[2]
    with tempfile.SpooledTemporaryFile(_INDEX_IN_MEMORY) as rows:
        report = _Report(progress, labels_from_prefix)
        table = PositionTable()
        if index_only:
            with open_binary(tar_path, (remote or local)._native_client) as archive:  # noqa: SLF001
                size, checksum = _identity(archive)
                count = write_members(rows, table.of(report.of(members_of(archive, tar_path))))
            with writing(index_path, remote) as index:
                _write_index(index, table, TarIndexHeader(name, size, checksum, count), rows)
        else:
            source = _source(source_path, remote, (tar_path, index_path))
            reader = remote if remote is not None and source.startswith("oss://") else local
            # The archive appears first. By then the index is uploaded but for its last request.
            with writing(index_path, remote) as index, writing(tar_path, remote) as target:
                archive_writer = _ArchiveWriter(target)
                count = write_members(rows, table.of(report.of(_archive(reader, source, archive_writer))))
                archive_writer.finish()
                size, checksum = archive_writer.size, archive_writer.checksum
                _write_index(index, table, TarIndexHeader(name, size, checksum, count), rows)
    _logger.info("%s: %d members, %d bytes, index %s", tar_path, count, size, index_path)


def _write_index(target: "BinaryIO | Writer", table: PositionTable, header: TarIndexHeader, rows: IO[bytes]) -> None:
    target.write(table.content() + header.line())
    rows.seek(0)
    while piece := rows.read(_PIECE):
        target.write(piece)


def _absolute(path: str, remote: OssClient | None) -> str:
    """Return a URI as it is, and a local path as an absolute one."""
    if path.startswith("oss://"):
        return path if remote is not None else "/" + "/".join(split_local(path))
    return os.path.abspath(path)  # noqa: PTH100 - text that may end in a slash


def _source(path: str, remote: OssClient | None, targets: tuple[str, ...]) -> str:
    if not isinstance(path, str) or not path:
        raise OssConfigError(f"source_path must be a prefix like 'oss://bucket/prefix/' or a directory, not {path!r}")
    source = _absolute(path, remote)
    if not source.startswith("oss://"):
        if not Path(source).is_dir():
            raise OssConfigError(f"source_path {path!r} is not a directory")
        source += "/"
    inside = [target for target in targets if target.startswith(source)]
    if inside:
        raise OssConfigError(
            f"{inside[0]} is inside source_path, so the next archive would contain it: write it elsewhere"
        )
    return source


def _identity(archive: DataObject | BinaryIO) -> tuple[int, int | None]:
    """Return size and CRC-64 of an archive. A local one is read for that."""
    if isinstance(archive, DataObject) and archive.crc64 is not None:
        return archive.size, archive.crc64
    checksum, size = 0, 0
    archive.seek(0)
    while piece := archive.read(_PIECE):
        checksum = crc64(piece, checksum)
        size += len(piece)
    archive.seek(0)
    return size, checksum


class _Report:
    def __init__(self, progress: Callable[[int, int], object] | None, labels: bool) -> None:  # noqa: FBT001
        self._progress = progress
        self._labels = labels

    def of(self, members: Iterator[TarMember]) -> Iterator[TarMember]:
        """Yield the members with their labels, and report each of them."""
        total = 0
        for count, member in enumerate(members, start=1):
            label = label_below(member.name, "") if self._labels else ""
            yield replace(member, label=label)
            total += member.size
            if self._progress is not None:
                self._progress(count, total)


def _archive(client: OssClient, source: str, archive: "_ArchiveWriter") -> Iterator[TarMember]:
    bucket, prefix = split_prefix(source) if source.startswith("oss://") else split_local(source)
    directory = prefix[: prefix.rfind("/") + 1]
    objects = SharedListing(PrefixSource(bucket, prefix), client, PrivateDirectory(), directory_markers=False)
    for item in objects.stream(Order()):
        name = item.name.removeprefix(directory)
        if not name or name.endswith("/"):
            raise OssConfigError(
                f"{item.uri} has {item.size} bytes, and tar takes its name {name!r} in the archive for a directory: "
                "delete or rename it"
            )
        with item:
            yield archive.add(name, item)
    objects.warn_if_empty()


class _ArchiveWriter:
    """Writes members one after the other, and returns the offset of each."""

    def __init__(self, target: "BinaryIO | Writer") -> None:
        self._target = target
        self.size = 0
        self.checksum = 0

    def add(self, name: str, item: DataObject) -> TarMember:
        member = tarfile.TarInfo(name)
        member.size = item.size
        member.mode = 0o644
        header = self.size
        self._write(member.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict"))
        offset = self.size
        while piece := item.read(_PIECE):
            self._write(piece)
        if self.size != offset + member.size:
            raise OssIntegrityError(
                f"{item.uri} changed while it was archived: it had {member.size} bytes and has "
                f"{self.size - offset} now; make the archive again"
            )
        self._write(bytes(-self.size % tarfile.BLOCKSIZE))
        return TarMember(offset, member.size, name, header=header)

    def finish(self) -> None:
        self._write(bytes(2 * tarfile.BLOCKSIZE))
        self._write(bytes(-self.size % tarfile.RECORDSIZE))

    def _write(self, data: bytes | Any) -> None:  # noqa: ANN401
        self._target.write(data)
        self.checksum = crc64(data, self.checksum)
        self.size += len(data)
