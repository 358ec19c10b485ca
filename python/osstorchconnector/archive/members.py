"""The members of an archive in OSS, from its index or from its headers."""

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from osstorchconnector.archive.headers import members_of
from osstorchconnector.archive.index import TarIndexHeader, TarMember, read_members
from osstorchconnector.archive.positions import StoredPositions
from osstorchconnector.files.opening import open_binary

if TYPE_CHECKING:
    from osstorchconnector._native import Client, DataObject

_logger: Final = logging.getLogger(__name__)


def archive_members(client: "Client", bucket: str, key: str, index: str) -> Iterator[tuple[str, TarMember]]:
    """Yield the archive's ETag with each of its members, in the archive's order.

    Args:
        client: Reads both.
        bucket: The archive's bucket.
        key: The archive's key.
        index: Local path of the index, or its URI. Empty: the archive's headers are read instead.

    Raises:
        OssConfigError: The archive is not a tar archive, or the index is not an index.
        OssIntegrityError: One of them is damaged, or the index belongs to another archive.
        OssError: One of them cannot be read.
    """
    with client.open(bucket, key) as archive:
        etag = archive.etag or ""
        members = _indexed(client, archive, index) if index else members_of(archive, archive.uri)
        for member in members:
            yield etag, member


def _indexed(client: "Client", archive: "DataObject", index: str) -> Iterator[TarMember]:
    with open_binary(index, client) as reader:
        positions = StoredPositions(reader, index)
        if positions.alone:
            _logger.info(
                "%s has no names: the headers in %s are read. With generate_tar_archive(index_only=True) you get an "
                "index that is faster to read",
                index,
                archive.uri,
            )
            yield from positions.check(members_of(archive, archive.uri), archive.size, archive.uri)
            return
        header = TarIndexHeader.read(reader, index)
        header.check(archive.size, archive.crc64, index, archive.uri)
        yield from read_members(reader, header, index)
