r"""The index of a tar archive: offset and size of each member.

A text, after a table that :mod:`osstorchconnector.archive.positions` describes. Older indexes are the text alone. Its
first line is a JSON object::

    {"format": "osst-tar-index", "version": 1, "archive": "train.tar", "size": 30720, "crc64": 123, "members": 2}

``size`` and ``crc64`` (CRC-64/XZ, as in OSS) are those of the archive that the index was made for. Each line after it
is one member, in the archive's order: offset and size of its bytes, its name, and its label if there is one, separated
by tabs. In names and labels ``\\``, ``\t``, ``\n`` and ``\r`` stand for a backslash, a tab and line breaks.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import IO, Any, Final, Protocol, Self

from osstorchconnector._json import read_json
from osstorchconnector.exceptions import OssConfigError, OssIntegrityError
from osstorchconnector.files.fields import join_fields, split_fields
from osstorchconnector.files.lines import bounded_lines

FORMAT: Final = "osst-tar-index"
VERSION: Final = 1

# A header has a hundred bytes and the archive's name. The limit keeps a file without line feeds out of memory.
_LONGEST_HEADER: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class TarMember:
    """One file in an archive.

    Attributes:
        offset: The position of its first byte in the archive.
        size: The number of its bytes.
        name: Its path in the archive.
        label: Its label in the index, or an empty string.
        header: The position of its header, if that was read or written; an index does not have it.
    """

    offset: int
    size: int
    name: str
    label: str = ""
    header: int = field(default=-1, compare=False)


class LineReader(Protocol):
    """A binary stream to be read line by line."""

    def readline(self, limit: int, /) -> bytes:
        """Return the next line, or as much of it as the limit allows."""
        ...

    def __iter__(self) -> Iterator[bytes]:
        """Iterate over the lines that are left."""
        ...


@dataclass(frozen=True, slots=True)
class TarIndexHeader:
    """The first line of an index: which archive it belongs to.

    Attributes:
        archive: The last part of the archive's name.
        size: The archive's size.
        crc64: Its CRC-64/XZ; None if it was not known.
        members: The number of lines that follow.
    """

    archive: str
    size: int
    crc64: int | None
    members: int

    def line(self) -> bytes:
        """Return the first line of the index."""
        document = {
            "format": FORMAT,
            "version": VERSION,
            "archive": self.archive,
            "size": self.size,
            "crc64": self.crc64,
            "members": self.members,
        }
        return json.dumps(document, ensure_ascii=False).encode() + b"\n"

    @classmethod
    def read(cls, reader: LineReader, name: str) -> Self:
        """Read the first line of an index.

        Raises:
            OssConfigError: This is not an index, or an index of a later version.
        """
        line = reader.readline(_LONGEST_HEADER)
        try:
            document: Any = read_json(line)
            format_, version = document["format"], document["version"]
        except (ValueError, TypeError, KeyError):
            format_, version = None, None
        if format_ != FORMAT:
            raise OssConfigError(f"{name} is not a tar index: its first line must name the format {FORMAT!r}")
        if version != VERSION:
            raise OssConfigError(f"{name} is a tar index of version {version!r}; this release reads version {VERSION}")
        match document:
            case {"archive": str(archive), "size": int(size), "crc64": int() | None as crc64, "members": int(members)}:
                return cls(archive, size, crc64, members)
        raise OssConfigError(f"{name}: the first line of this tar index lacks a field or has one of another type")

    def check(self, size: int, crc64: int | None, name: str, archive: str) -> None:
        """Compare the index with the archive.

        Raises:
            OssIntegrityError: The index was made for another archive.
        """
        same = self.size == size and (None in {self.crc64, crc64} or self.crc64 == crc64)
        if not same:
            raise OssIntegrityError(
                f"{name} is stale: it was made for {self.size} bytes with CRC-64 {self.crc64}, and {archive} has "
                f"{size} bytes with CRC-64 {crc64}; make the index again, with generate_tar_archive(index_only=True)"
            )


def write_members(target: IO[bytes], members: Iterable[TarMember]) -> int:
    """Write the lines of an index after its header and return their number."""
    count = 0
    for count, member in enumerate(members, start=1):  # noqa: B007 - the last number is the count
        label = (member.label,) if member.label else ()
        target.write(join_fields(member.offset, member.size, member.name, *label))
    return count


def read_members(reader: LineReader, header: TarIndexHeader, name: str) -> Iterator[TarMember]:
    """Yield the members of an index whose header has been read.

    Raises:
        OssIntegrityError: A line cannot be read or describes a member outside the archive, or lines are missing.
    """
    number = 0
    for number, line in enumerate(bounded_lines(reader), start=1):
        if number > header.members:
            break
        try:
            offset, size, member, *label = split_fields(line)
            found = TarMember(int(offset), int(size), member, "".join(label))
            valid = len(label) <= 1 and found.offset >= 0 and found.size >= 0 and member
        except ValueError:
            valid = False
        if not valid or found.offset + found.size > header.size:
            raise OssIntegrityError(
                f"line {number + 1} of {name} is not a member of an archive of {header.size} bytes: {line[:200]!r}"
            )
        yield found
    if number != header.members:
        found_lines = "more" if number > header.members else str(number)
        raise OssIntegrityError(
            f"{name} was cut short or extended: its header has {header.members} members, but {found_lines} follow"
        )
