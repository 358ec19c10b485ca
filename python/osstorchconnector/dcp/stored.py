"""What is stored of a checkpoint's items, and how to fetch it with few requests."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch.distributed.checkpoint.planner import LoadItemType, ReadItem

from osstorchconnector.dcp.integrity import BLOCK


@dataclass
class StoredItem:
    """One item of a checkpoint, and what is wanted of it.

    Attributes:
        name: The item's name in the state dict.
        file: Its file below the checkpoint.
        offset: Where it begins in the file.
        length: Its bytes.
        descriptors: The extensions that its bytes have to go through.
        crc: CRC-64 of all its bytes, where it is known.
        data_start: Where its tensor's elements begin inside it, where that is known.
        block_crcs: CRC-64 of each block of the elements, where they are known.
        dtype: Type of the elements.
        shape: Shape of the stored tensor.
        requests: What is wanted of it.
    """

    name: str
    file: str
    offset: int
    length: int
    descriptors: Sequence[str] = ()
    crc: int | None = None
    data_start: int | None = None
    block_crcs: Sequence[int] = ()
    dtype: torch.dtype | None = None
    shape: torch.Size = field(default_factory=torch.Size)
    requests: list[ReadItem] = field(default_factory=list)

    @property
    def end(self) -> int:
        """Where it ends in the file."""
        return self.offset + self.length

    @property
    def data_length(self) -> int:
        """Bytes of the elements."""
        return 0 if self.dtype is None else math.prod(self.shape) * self.dtype.itemsize

    @property
    def data_offset(self) -> int:
        """Where the elements begin in the file."""
        return self.offset + (self.data_start or 0)

    def needed(self) -> int:
        """Return how many bytes the requests are about."""
        if self.dtype is None or any(request.type == LoadItemType.BYTE_IO for request in self.requests):
            return self.length
        return sum(math.prod(request.lengths) * self.dtype.itemsize for request in self.requests)

    def interval(self, request: ReadItem) -> tuple[int, int, bool]:
        """Return the first and the end of the elements' bytes that a request is about, and whether it is about all."""
        itemsize = 1 if self.dtype is None else self.dtype.itemsize
        if math.prod(request.lengths) == 0:
            return 0, 0, True
        stride = 1
        first = last = 0
        for size, offset, length in zip(
            reversed(self.shape), reversed(request.storage_offsets), reversed(request.lengths), strict=True
        ):
            first += offset * stride
            last += (offset + length - 1) * stride
            stride *= size
        return first * itemsize, (last + 1) * itemsize, last + 1 - first == math.prod(request.lengths)


def coalesced(items: Iterable[StoredItem], gap: int, limit: int) -> Iterator[list[StoredItem]]:
    """Group items, sorted by file and offset, into runs that are each fetched with one request.

    Args:
        items: The items.
        gap: Most bytes between two items that are fetched for nothing rather than with a request of their own.
        limit: Most bytes of a run, unless it is a single item.
    """
    run: list[StoredItem] = []
    end = 0
    for item in items:
        new_end = max(end, item.end)
        if run and (item.file != run[0].file or item.offset - end > gap or new_end - run[0].offset > limit):
            yield run
            run, new_end = [], item.end
        run.append(item)
        end = new_end
    if run:
        yield run


def blocks_of(start: int, end: int, length: int) -> Iterator[tuple[int, int, int]]:
    """Return number, first byte and end of each block that has bytes from `start` to before `end`.

    Args:
        start: First byte wanted.
        end: First byte no longer wanted.
        length: Bytes of all blocks.
    """
    if start < end:
        for number in range(start // BLOCK, (end - 1) // BLOCK + 1):
            yield number, number * BLOCK, min(length, (number + 1) * BLOCK)
