"""The members of a tar archive that has no index: found by reading the header in front of each."""

import logging
import tarfile
from collections.abc import Iterator
from typing import IO, Any, Final

from osstorchconnector.archive.index import TarMember
from osstorchconnector.exceptions import OssConfigError, OssIntegrityError

_logger: Final = logging.getLogger(__name__)

# A member that is let go of is found again nowhere; so many at a time cost nothing.
_KEPT: Final = 1000


def members_of(reader: IO[bytes] | Any, name: str) -> Iterator[TarMember]:  # noqa: ANN401 - a DataObject is no IO
    """Yield the files of an uncompressed archive in its order, hopping over their bytes.

    Directories are no samples and left out. Links and devices have no bytes of their own: they are left out too, and
    their number is logged.

    Args:
        reader: The archive as a seekable binary stream.
        name: What to call it in errors.

    Raises:
        OssConfigError: It is no tar archive, a compressed one, or has a sparse file.
        OssIntegrityError: It is damaged or cut short.
    """
    try:
        archive = tarfile.open(fileobj=reader, mode="r:")  # noqa: SIM115 - the reader is the caller's to close
    except tarfile.ReadError as error:
        raise OssConfigError(f"{name} is no uncompressed tar archive: {error}") from error
    left_out = 0
    try:
        while (member := archive.next()) is not None:
            if len(archive.members) >= _KEPT:  # type: ignore[attr-defined]
                # It keeps every member it has read, which is more than memory holds of a large archive.
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
        _logger.warning("%s: %d links or special files are left out: they have no bytes of their own", name, left_out)


def _check_end(reader: IO[bytes] | Any, offset: int, name: str) -> None:  # noqa: ANN401 - as above
    # tarfile takes a damaged header for the end, except the first.
    reader.seek(offset)
    if reader.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
        raise OssIntegrityError(
            f"{name} is damaged or cut short: at byte {offset} there is neither a header nor the end"
        )
