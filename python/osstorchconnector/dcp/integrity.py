"""Checksums of a checkpoint's items, in an object beside ``.metadata``.

``.metadata`` holds torch's own classes only, so that torch alone can read it. This package's records are in an object
of their own, the sidecar. A record holds the CRC-64 of an item, where the bytes of its tensor are inside the item, and
a CRC-64 for each block of these bytes. So a reader can fetch a tensor, or a part of it, straight into its memory and
still check it.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from osstorchconnector._json import read_json
from osstorchconnector._native import crc64, crc64_combine
from osstorchconnector._torch.distributed import StorageInfo
from osstorchconnector.exceptions import OssIntegrityError

# Smaller blocks cost more checksums, larger blocks cost more bytes at both ends of a partial read. With 8 MiB, a
# checkpoint of 1 TB has 2.5 MB of checksums, and a request for one block reaches the full speed of a connection.
BLOCK: Final = 8 << 20

#: The largest metadata or sidecar that is read: 16 million items, as 4,000 ranks with 4,000 tensors each have them.
LARGEST_DESCRIPTION: Final = 4 << 30

_VERSION: Final = 1
# Lengths and checksums have 64 bits.
_LARGEST: Final = (1 << 64) - 1
# Far more than any job has; a message lists those that are missing.
_MOST_RANKS: Final = 1 << 20


@dataclass(frozen=True)
class ItemRecord:
    """The checksums of one item.

    Attributes:
        crc: CRC-64 of the whole item.
        data_start: Position of the tensor's elements inside the item; None if it is not known.
        data_length: Bytes of the elements.
        block_crcs: CRC-64 of each block of the elements.
    """

    crc: int
    data_start: int | None = None
    data_length: int = 0
    block_crcs: tuple[int, ...] = ()


@dataclass
class CheckedStorageInfo(StorageInfo):
    """torch's description of where an item is, with the item's record, as a rank sends it to the coordinator."""

    record: ItemRecord | None = None
    file_size: int = 0

    def plain(self) -> StorageInfo:
        """Return torch's description alone."""
        return StorageInfo(self.relative_path, self.offset, self.length, self.transform_descriptors)


def block_checksums(data: memoryview) -> tuple[tuple[int, ...], int]:
    """Return the CRC-64 of each block, and of all bytes."""
    blocks = []
    whole = 0
    for start in range(0, data.nbytes, BLOCK):
        block = data[start : start + BLOCK]
        blocks.append(crc64(block))
        whole = crc64_combine(whole, blocks[-1], block.nbytes)
    return tuple(blocks), whole


@dataclass
class Sidecar:
    """The records of a checkpoint's items.

    Attributes:
        save_id: The save that it belongs to.
        serialization_format: ``torch_save`` or ``safetensors``.
        files: Size of each file in bytes, by its path below the checkpoint.
        items: Record of each item, by its file, offset and length.
        ranks: The number of ranks if each saved by itself; None if they saved together.
    """

    save_id: str
    serialization_format: str
    files: dict[str, int] = field(default_factory=dict)
    items: dict[tuple[str, int, int], ItemRecord] = field(default_factory=dict)
    ranks: int | None = None

    @staticmethod
    def name(save_id: str) -> str:
        """Return the object's name below the checkpoint."""
        return f".items-{save_id}.json"

    @classmethod
    def of_results(cls, save_id: str, serialization_format: str, infos: Iterable[CheckedStorageInfo]) -> "Sidecar":
        """Collect the records that came with write results."""
        sidecar = cls(save_id, serialization_format)
        for info in infos:
            sidecar.files[info.relative_path] = info.file_size
            if info.record is not None:
                sidecar.items[info.relative_path, info.offset, info.length] = info.record
        return sidecar

    def record(self, info: StorageInfo) -> ItemRecord | None:
        """Return the record of an item."""
        return self.items.get((info.relative_path, info.offset, info.length))

    def to_bytes(self) -> bytes:
        """Return the object's content."""
        names = list(self.files)
        numbers = {name: number for number, name in enumerate(names)}
        rows = [
            [numbers[file], offset, length, record.crc, record.data_start, record.data_length, *record.block_crcs]
            for (file, offset, length), record in self.items.items()
        ]
        content = {
            "version": _VERSION,
            "save_id": self.save_id,
            "format": self.serialization_format,
            "block": BLOCK,
            "ranks": self.ranks,
            "files": [[name, self.files[name]] for name in names],
            "items": rows,
        }
        return json.dumps(content, separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, content: bytes, uri: str) -> "Sidecar":
        """Read the object's content.

        Raises:
            OssIntegrityError: The content is not a sidecar; the message names `uri`.
        """
        try:
            fields: dict[str, Any] = read_json(content)
            if fields["version"] != _VERSION or fields["block"] != BLOCK:
                raise OssIntegrityError(
                    f"{uri} was written by a version of this package that this one does not know: update the package"
                )
            names = [str(name) for name, _ in fields["files"]]
            sidecar = cls(
                str(fields["save_id"]), str(fields["format"]), {name: _number(size) for name, size in fields["files"]}
            )
            sidecar.ranks = fields.get("ranks")
            if sidecar.ranks is not None and _number(sidecar.ranks) > _MOST_RANKS:
                raise ValueError(f"no save has {sidecar.ranks} ranks")  # noqa: TRY301 - handled like a wrong type
            for file, offset, length, crc, data_start, data_length, *blocks in fields["items"]:
                for number in (
                    file,
                    offset,
                    length,
                    crc,
                    0 if data_start is None else data_start,
                    data_length,
                    *blocks,
                ):
                    _number(number)
                sidecar.items[names[file], offset, length] = ItemRecord(crc, data_start, data_length, tuple(blocks))
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise OssIntegrityError(f"{uri} does not hold the checksums of a checkpoint: {error}") from error
        return sidecar


def _number(value: object) -> int:
    if type(value) is not int or not 0 <= value <= _LARGEST:
        raise ValueError(f"{str(value)[:100]!r} is not a number of bytes or a checksum")
    return value


def check_file_size(uri: str, size: int, expected: int | None, end: int, items: Sequence[str]) -> None:
    """Compare a file's size with the recorded size, and with the end of its items.

    Raises:
        OssIntegrityError: The sizes differ; the message names the file and the items concerned.
    """
    if (expected is None or size == expected) and end <= size:
        return
    was = f"{expected} bytes when it was saved" if expected is not None else f"at least {end} bytes for its items"
    raise OssIntegrityError(
        f"{uri} has {size} bytes, but had {was}: the file was truncated, replaced or comes from another save; "
        f"needed for {describe(items)}"
    )


def describe(items: Sequence[str]) -> str:
    """Return the first names of a list, for a message."""
    # Enough to recognise the items.
    most = 3
    listed = ", ".join(repr(name) for name in items[:most])
    return listed if len(items) <= most else f"{listed} and {len(items) - most} more items"
