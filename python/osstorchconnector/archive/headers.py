"""The members of a tar archive without an index: the header before each member is read."""

import logging
import tarfile
from collections.abc import Iterator
from typing import IO, Any, Final

from osstorchconnector.archive.index import TarMember
from osstorchconnector.exceptions import OssConfigError, OssIntegrityError

_logger: Final = logging.getLogger(__name__)

# Members that tarfile may keep: so many take little memory. They are not needed again.
_KEPT: Final = 1000


def members_of(reader: IO[bytes] | Any, name: str) -> Iterator[TarMember]:  # noqa: ANN401 - a DataObject is no IO
    """Yield the files of an uncompressed archive in its order, without reading their bytes.

    Directories, links and devices have no bytes and are left out. The log has the number of links and devices.

    Args:
        reader: The archive as a seekable binary stream.
        name: Its name in errors.

    Raises:
        OssConfigError: It is not a tar archive, is compressed, or has a sparse file.
        OssIntegrityError: It is damaged or cut short.
    """
    try:
        archive = tarfile.open(fileobj=reader, mode="r:")  # noqa: SIM115 - the reader is the caller's to close
    except tarfile.ReadError as error:
        raise OssConfigError(f"{name} is not an uncompressed tar archive: {error}") from error
    left_out = 0
    try:
        while (member := archive.next()) is not None:
            if len(archive.members) >= _KEPT:  # type: ignore[attr-defined]
                # It keeps every member that it has read; those of a large archive do not fit into memory.
                archive.members.clear()  # type: ignore[attr-defined]
            if member.issparse():
                raise OssConfigError(f"{name}: member {member.name!r} is a sparse file; write it without holes")
            if member.isreg():
                yield TarMember(member.offset_data, member.size, member.name)
            elif not member.isdir():
                left_out += 1
    except tarfile.ReadError as error:
        raise OssIntegrityError(f"{name} is damaged or cut short behind byte {archive.offset}: {error}") from error
    _check_end(reader, archive.offset, name)
    if left_out:
        _logger.warning("%s: %d links or special files are left out: they have no bytes", name, left_out)


def _check_end(reader: IO[bytes] | Any, offset: int, name: str) -> None:  # noqa: ANN401 - as above
    # For tarfile a damaged header is the end, unless it is the first one.
    reader.seek(offset)
    if reader.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
        raise OssIntegrityError(f"{name} is damaged or cut short: byte {offset} begins neither a header nor the end")
