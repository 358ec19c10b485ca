"""The members of a tar archive without an index: the header before each member is read."""

import logging
import tarfile
from collections.abc import Iterator
from typing import IO, Any, Final

from osstorchconnector.archive.index import TarMember
from osstorchconnector.exceptions import OssConfigError, OssError, OssIntegrityError

_logger: Final = logging.getLogger(__name__)

# Members that tarfile may keep: so many take little memory. They are not needed again.
_KEPT: Final = 1000
# A header states how many bytes of long names and attributes follow it, and tarfile reads them at once.
_LONGEST_HEADER: Final = 16 << 20
# Files have no more bytes: positions are 63 bits long.
_LARGEST: Final = (1 << 63) - 1
# What tarfile raises for headers that make no sense; RecursionError for long names without end.
_DAMAGE: Final = (tarfile.TarError, ArithmeticError, LookupError, RecursionError, ValueError)


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
    archive = _opened(reader, name)
    left_out = 0
    at = -1
    try:
        while (member := archive.next()) is not None:
            _check_member(member, archive.offset > at, name)
            at = archive.offset
            if len(archive.members) >= _KEPT:  # type: ignore[attr-defined]
                # It keeps every member that it has read; those of a large archive do not fit into memory.
                archive.members.clear()  # type: ignore[attr-defined]
            if member.issparse():
                raise OssConfigError(f"{name}: member {member.name!r} is a sparse file; write it without holes")
            if member.isreg():
                yield TarMember(member.offset_data, member.size, member.name, header=member.offset)
            elif not member.isdir():
                left_out += 1
    except OssError:
        raise
    except _DAMAGE as error:
        raise OssIntegrityError(f"{name} is damaged or cut short after byte {archive.offset}: {error}") from error
    _check_end(reader, archive.offset, name)
    if left_out:
        _logger.warning("%s: %d links or special files are left out: they have no bytes", name, left_out)


def _opened(reader: IO[bytes] | Any, name: str) -> tarfile.TarFile:  # noqa: ANN401 - as above
    headers: Any = _HeaderReader(reader, name)
    try:
        return tarfile.open(fileobj=headers, mode="r:")
    except OssError:
        raise
    except _DAMAGE as error:
        raise OssConfigError(f"{name} is not an uncompressed tar archive: {error}") from error


def _check_member(member: tarfile.TarInfo, forward: bool, name: str) -> None:  # noqa: FBT001 - whether it led forward
    # A negative size leads back to the header, or to one before it.
    if not 0 <= member.size <= _LARGEST or not forward:
        raise OssIntegrityError(f"{name} is damaged: member {member.name!r} states the size {member.size}")
    try:
        valid = bool(member.name.encode())
    except UnicodeEncodeError:
        valid = False
    if not valid:
        raise OssConfigError(f"{name}: member {member.name!r} needs a name in UTF-8; rename it in the archive")


class _HeaderReader:
    """A stream that reads no more than a header at once, however long the archive states that it is."""

    def __init__(self, reader: IO[bytes] | Any, name: str) -> None:  # noqa: ANN401 - as above
        self._reader = reader
        self._name = name

    def read(self, size: int) -> bytes:
        if not 0 <= size <= _LONGEST_HEADER:
            raise OssIntegrityError(
                f"{self._name} is damaged: a header at byte {self.tell()} states that {size} bytes belong to it"
            )
        data: bytes = self._reader.read(size)
        return data

    def seek(self, offset: int) -> int:
        position: int = self._reader.seek(offset)
        return position

    def tell(self) -> int:
        position: int = self._reader.tell()
        return position


def _check_end(reader: IO[bytes] | Any, offset: int, name: str) -> None:  # noqa: ANN401 - as above
    # For tarfile a damaged header is the end, unless it is the first one.
    reader.seek(offset)
    if reader.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
        raise OssIntegrityError(f"{name} is damaged or cut short: byte {offset} begins neither a header nor the end")
