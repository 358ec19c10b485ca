r"""The table of positions at the head of an index, in the format of osstorchconnector 1.2.3, which reads nothing else.

A header of 512 bytes, then the table, compressed with zlib. Integers are little endian::

    0    8 bytes   b"TarIdx\0\0"
    8    4 bytes   1, 0: the version; 1, 6: zlib and its level
    12   8 bytes   0
    20   8 bytes   the length of the compressed table
    28   8 bytes   the number of its entries
    36   4 bytes   checksum of the compressed table
    508  4 bytes   checksum of the header, with zeros in this place

An entry has 4 bytes: how many blocks of 512 bytes lie between the header of a member and that of the one before it, or
the start of the archive. The last entry leads to the end of the last member. The checksum is CRC-32C without its
inversions. Names and sizes are not in the table: they come from the headers in the archive.
"""

import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from tarfile import BLOCKSIZE
from typing import IO, TYPE_CHECKING, Any, Final

from osstorchconnector.archive.index import TarMember
from osstorchconnector.exceptions import OssIntegrityError

if TYPE_CHECKING:
    from osstorchconnector._native import DataObject

_MAGIC: Final = b"TarIdx\0\0"
_HEADER: Final = struct.Struct("<8s4B3QI468x")
_KIND: Final = (1, 0, 1, 6)
_ENTRY: Final = struct.Struct("<I")
_MOST_BLOCKS: Final = (1 << 32) - 1
# zlib makes at most a thousand times as many bytes of it.
_PIECE: Final = 4096


def _checksums() -> Iterator[int]:
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        yield value


_CHECKSUMS: Final = tuple(_checksums())


def _checksum(data: bytes | bytearray, value: int = 0) -> int:
    for byte in data:
        value = (value >> 8) ^ _CHECKSUMS[(value ^ byte) & 0xFF]
    return value


class PositionTable:
    """Collects the positions of the members of an archive. The memory that it takes is that of the compressed table."""

    def __init__(self) -> None:
        """Start an empty table."""
        self._packer = zlib.compressobj(6)
        self._body = bytearray()
        self._last = 0
        self._end = 0
        self._count = 0
        self._fits = True

    def of(self, members: Iterable[TarMember]) -> Iterator[TarMember]:
        """Yield the members, and keep where they are."""
        for member in members:
            self._add(member.header)
            self._end = member.offset + member.size + -member.size % BLOCKSIZE
            yield member

    def content(self) -> bytes:
        """Return header and table; nothing if a gap is too large for the format."""
        self._add(self._end)
        self._body += self._packer.flush()
        if not self._fits:
            return b""
        header = _HEADER.pack(_MAGIC, *_KIND, 0, len(self._body), self._count, _checksum(self._body))
        return header + _ENTRY.pack(_checksum(header + bytes(_ENTRY.size))) + self._body

    def _add(self, position: int) -> None:
        blocks = (position - self._last) // BLOCKSIZE
        self._fits = self._fits and blocks <= _MOST_BLOCKS
        self._body += self._packer.compress(_ENTRY.pack(min(blocks, _MOST_BLOCKS)))
        self._last = position
        self._count += 1


class StoredPositions:
    """The table of an index that was written before."""

    def __init__(self, reader: "IO[bytes] | DataObject", name: str) -> None:
        """Look for a table at the start of an index, and go to what follows it, or back to the start.

        Raises:
            OssIntegrityError: There is one, and it is damaged.
        """
        self._reader: Any = reader
        self._name = name
        header = self._reader.read(BLOCKSIZE)
        self.found = header.startswith(_MAGIC)
        self._length = self._count = self._sum = 0
        if self.found:
            if len(header) < BLOCKSIZE or _checksum(header[:-4] + bytes(4)) != _ENTRY.unpack(header[-4:])[0]:
                raise OssIntegrityError(f"{name} is damaged: its first {BLOCKSIZE} bytes have another checksum")
            *_, self._length, self._count, self._sum = _HEADER.unpack(header[:-4])
        end = BLOCKSIZE + self._length if self.found else 0
        size = self._reader.seek(0, os.SEEK_END)
        if end > size:
            raise OssIntegrityError(f"{name} was cut short: it has {size} bytes, and its table ends at byte {end}")
        # What osstorchconnector 1.2.3 wrote has nothing but the table.
        self.alone = self.found and end == size
        self._reader.seek(end)

    def check(self, members: Iterable[TarMember], size: int, archive: str) -> Iterator[TarMember]:
        """Yield the members of an archive whose headers are where the table says.

        Raises:
            OssIntegrityError: The table was made for another archive.
        """
        stale = OssIntegrityError(
            f"{self._name} is stale: its positions are not those of the members of {archive}; make the index again, "
            "with generate_tar_archive(index_only=True)"
        )
        positions = self._positions()
        position, end = -1, 0
        for member in members:
            while position < end:
                position = next(positions, size)
            if position >= member.offset:
                raise stale
            end = member.offset + member.size
            yield member
        # The end of the last member is the last entry; an empty archive has only that.
        if sum(1 for _ in positions) != (position >= 0):
            raise stale

    def _positions(self) -> Iterator[int]:
        damaged = OssIntegrityError(f"{self._name} is damaged: its table of positions cannot be read")
        self._reader.seek(BLOCKSIZE)
        unpacker, rest, left, checksum, position, count = zlib.decompressobj(), b"", self._length, 0, 0, 0
        while left > 0:
            piece = self._reader.read(min(left, _PIECE))
            if not piece:
                raise damaged
            left -= len(piece)
            checksum = _checksum(piece, checksum)
            try:
                rest += unpacker.decompress(piece)
            except zlib.error as error:
                raise damaged from error
            whole = len(rest) - len(rest) % _ENTRY.size
            for (blocks,) in _ENTRY.iter_unpack(rest[:whole]):
                position += blocks * BLOCKSIZE
                count += 1
                yield position
            rest = rest[whole:]
        if checksum != self._sum or count != self._count:
            raise damaged
