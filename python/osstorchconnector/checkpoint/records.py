"""The records of a zip file that ``torch.save`` wrote: received together, and compared with their checksums."""

import logging
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final

from osstorchconnector._native import OssReader
from osstorchconnector.exceptions import OssConfigError, OssError, OssIntegrityError

_logger: Final = logging.getLogger(__name__)

# The fixed part of the header before each file in a zip file.
_HEADER: Final = 30
_SIGNATURE: Final = b"PK\x03\x04"
# What torch writes besides storages.
_KNOWN: Final = frozenset(
    {"data.pkl", "byteorder", "version", ".format_version", ".storage_alignment", ".data/serialization_id"}
)
# torch's default.
_ALIGNMENT: Final = 64
_ZIP32_MOST: Final = 0xFFFF_FFFF
# Bytes that are read at once if all of the object is read.
_PIECE: Final = 16 << 20
# The checksum of this many bytes takes a quarter of a millisecond, ten times as long as handing it to a thread.
_WORTH_A_THREAD: Final = 1 << 20


class Records:
    """The records of one object, by their names without the directory that holds all of them.

    A record is what zip files call a file. Each is compared with its CRC-32. If it differs, the record is fetched once
    more. torch states a CRC-32 of 0 if it computed none, after ``torch.serialization.set_crc32_options(False)`` and
    inside ``skip_data``. Then all of the object is read, which compares its CRC-64, and the records are compared with
    what was read.
    """

    def __init__(self, reader: OssReader, reopen: Callable[[], OssReader]) -> None:
        """Read the directory of the zip file.

        Args:
            reader: The object.
            reopen: Opens the object once more.

        Raises:
            OssConfigError: ``torch.save`` did not write it as a zip file.
            zipfile.BadZipFile: The directory is damaged.
        """
        self._reader = reader
        self._reopen = reopen
        try:
            # It needs no closing: it does not own the reader.
            with damage():
                archive = zipfile.ZipFile(reader)
        except zipfile.BadZipFile:
            reader.seek(0)
            if reader.read(len(_SIGNATURE)) == _SIGNATURE:
                raise
            raise OssConfigError(
                f"{reader.uri} is not a zip file, and only the zip files of torch.save can be loaded by keys: load it "
                "without keys, or save it without _use_new_zipfile_serialization=False"
            ) from None
        names = archive.namelist()
        pickles = [name for name in names if name.partition("/")[2] == "data.pkl"]
        if len(pickles) != 1 or any(name.partition("/")[2] == "constants.pkl" for name in names):
            raise OssConfigError(f"{reader.uri} is a zip file, but torch.save did not write it")
        folder = pickles[0].removesuffix("data.pkl")
        self._infos = {info.filename.removeprefix(folder): info for info in archive.infolist()}
        if any(info.header_offset < 0 for info in self._infos.values()):
            raise zipfile.BadZipFile("the directory in it states a place before its start")
        self._alignment = _ALIGNMENT
        # The CRC-32 of records in an object whose CRC-64 fits, if the file states none.
        self._found: dict[str, int] = {}

    def size(self, name: str) -> int | None:
        """Return the bytes of a record. None: there is none of that name, or it is compressed, which torch does not."""
        info = self._infos.get(name)
        return None if info is None or info.compress_type != zipfile.ZIP_STORED else info.file_size

    def unknown_name(self) -> str | None:
        """Return the name of a record that torch does not write, if there is one."""
        return next((name for name in self._infos if name not in _KNOWN and not name.startswith("data/")), None)

    def read(self, names: Iterable[str]) -> dict[str, bytes]:
        """Return the small records that exist.

        Raises:
            OssIntegrityError: As :meth:`receive`.
            zipfile.BadZipFile: A record is compressed, or larger than the object.
        """
        read = {}
        for name in names:
            if name in self._infos:
                size = self.size(name)
                # A compressed file may be far larger than the object.
                if size is None or size > self._reader.size:
                    raise zipfile.BadZipFile(f"{name!r} in it is compressed, or larger than the whole")
                read[name] = bytearray(size)
        self.receive({name: memoryview(buffer) for name, buffer in read.items()})
        if ".storage_alignment" in read:
            with damage():
                self._alignment = max(1, int(read[".storage_alignment"]))
        return {name: bytes(buffer) for name, buffer in read.items()}

    def receive(self, wanted: Mapping[str, memoryview]) -> None:
        """Fill memory with records, each of its record's size.

        Raises:
            OssIntegrityError: The bytes of a record are not those that are stored, or the file contradicts itself.
        """
        wrong = self._attempt(self._reader, wanted)
        if not wrong:
            return
        with self._reopen() as again:
            if again.etag != self._reader.etag:
                raise OssIntegrityError(f"{self._reader.uri} was replaced while it was loaded; load it again")
            first = wrong
            wrong = self._attempt(again, {name: wanted[name] for name in first})
            if not wrong:
                _logger.warning(
                    "%s: %d of its records were corrupted on the way, and were fetched again: the first is %s",
                    self._reader.uri,
                    len(first),
                    next(iter(first)),
                )
            elif not self._found and all(self._is_unstated(name) for name in wrong):
                self._found = self._checksums(again, next(iter(wrong)))
                wrong = self._differing({name: wanted[name] for name in wrong})
        if wrong:
            name, problem = next(iter(wrong.items()))
            raise OssIntegrityError(problem.format(uri=self._reader.uri, name=name))

    def _attempt(self, reader: OssReader, wanted: Mapping[str, memoryview]) -> dict[str, str]:
        """Receive records straight into memory, and return what is wrong, by name.

        A header before each record says where its bytes start. It is read together with the bytes, which are expected
        where torch puts them. If another program put them elsewhere, they are read again.
        """
        ranges: list[tuple[int, Any]] = []
        headers: dict[str, tuple[bytearray, int]] = {}
        for name, memory in wanted.items():
            info = self._infos[name]
            named = len(_stored_name(info))
            start = _expected_start(info, named, self._alignment)
            header = bytearray(min(_HEADER + named, max(0, reader.size - info.header_offset)))
            headers[name] = header, start
            ranges.append((min(info.header_offset, reader.size), header))
            if start + len(memory) <= reader.size:
                ranges.append((start, memory))
        # They have checksums of their own, so they may be read again if they are wrong.
        reader.readinto_many(ranges, verify=False)
        wrong: dict[str, str] = {}
        misplaced: list[tuple[int, Any]] = []
        for name, (header, start) in headers.items():
            info = self._infos[name]
            if not header.startswith(_SIGNATURE) or header[_HEADER:] != _stored_name(info):
                wrong[name] = _NO_HEADER
                continue
            lengths = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
            found = info.header_offset + _HEADER + lengths
            if found + info.file_size > reader.size:
                wrong[name] = _CUT_OFF
            elif found != start:
                misplaced.append((found, wanted[name]))
        if misplaced:
            reader.readinto_many(misplaced, verify=False)
        return wrong | self._differing({name: wanted[name] for name in wanted if name not in wrong})

    def _is_unstated(self, name: str) -> bool:
        """Return whether the CRC-32 is the one that torch states if it computed none."""
        return self._infos[name].CRC == 0

    def _differing(self, received: Mapping[str, memoryview]) -> dict[str, str]:
        checksums = zip(received, _crc32s(list(received.values())), strict=True)
        return {name: _DIFFERS for name, crc in checksums if crc != (self._infos[name].CRC or self._found.get(name, 0))}

    def _checksums(self, reader: OssReader, differs: str) -> dict[str, int]:
        """Read all of the object, and return the CRC-32 of each record if the CRC-64 of the object fits."""
        _logger.warning(
            "%s states no CRC-32 for its record %s: reading all of it, to compare its CRC-64",
            reader.uri,
            differs,
        )
        found = {}
        at = 0
        try:
            for name, info in sorted(self._infos.items(), key=lambda one: one[1].header_offset):
                # Records that overlap could make this read without end.
                if self.size(name) is None or info.header_offset < at:
                    continue
                reader.seek(info.header_offset)
                header = reader.read(_HEADER)
                reader.seek(sum(struct.unpack("<HH", header[26:])), 1)
                crc, left = 0, info.file_size
                while left and (piece := reader.read(min(left, _PIECE))):
                    crc, left = zlib.crc32(piece, crc), left - len(piece)
                found[name] = crc
                at = reader.tell()
            for start, end in gaps(reader.received(), reader.size):
                for _ in pieces(reader, start, end):
                    pass
            # Now that all has been received, each read compares the checksum.
            reader.readinto_many([(0, bytearray(1))])
        except (OssIntegrityError, struct.error) as error:
            raise OssIntegrityError(_DIFFERS.format(uri=reader.uri, name=differs)) from error
        return found


_DIFFERS: Final = (
    "the bytes of the record {name} in {uri} are not those that were stored: they do not have their CRC-32, and were "
    "fetched twice; load it again, or another checkpoint"
)
_NO_HEADER: Final = "{uri} has no header where its record {name} starts"
_CUT_OFF: Final = "{uri} ends inside its record {name}"


@contextmanager
def damage() -> Iterator[None]:
    """Raise one class of error for everything that the module zipfile raises for a damaged directory."""
    try:
        yield
    except OssError:
        raise
    except (
        ArithmeticError,
        EOFError,
        LookupError,
        MemoryError,
        NotImplementedError,
        RuntimeError,
        ValueError,
        struct.error,
    ) as error:
        raise zipfile.BadZipFile(str(error) or type(error).__name__) from error


def pieces(reader: OssReader, start: int, end: int) -> Iterator[memoryview]:
    """Read a range, and yield it in pieces."""
    buffer = memoryview(bytearray(min(end - start, _PIECE)))
    for at in range(start, end, _PIECE):
        piece = buffer[: end - at]
        reader.readinto_many([(at, piece)])
        yield piece


def gaps(ranges: list[tuple[int, int, int]], size: int) -> Iterator[tuple[int, int]]:
    """Return the ranges of an object that :meth:`OssReader.received` does not name."""
    at = 0
    for start, end, _ in [*ranges, (size, size, 0)]:
        if start > at:
            yield at, start
        at = end


def _crc32s(memories: list[memoryview]) -> list[int]:
    if len(memories) < 2 or sum(map(len, memories)) < len(memories) * _WORTH_A_THREAD:  # noqa: PLR2004 - one of many
        return list(map(zlib.crc32, memories))
    # zlib leaves the interpreter meanwhile.
    with ThreadPoolExecutor() as pool:
        return list(pool.map(zlib.crc32, memories))


def _stored_name(info: zipfile.ZipInfo) -> bytes:
    # As zipfile decoded it; the flag says that it is UTF-8.
    return info.orig_filename.encode("utf-8" if info.flag_bits & 0x800 else "cp437")


def _expected_start(info: zipfile.ZipInfo, named: int, alignment: int) -> int:
    extra = 4
    if info.file_size >= _ZIP32_MOST or info.header_offset >= _ZIP32_MOST:
        extra += 4 + 16 * (info.file_size >= _ZIP32_MOST) + 8 * (info.header_offset >= _ZIP32_MOST)
    start = info.header_offset + _HEADER + named + extra
    return -(-start // alignment) * alignment
