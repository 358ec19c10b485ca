"""What is stored of a checkpoint's items, and which bytes of it a load needs."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch.distributed.checkpoint.planner import LoadItemType, ReadItem

from osstorchconnector.dcp.integrity import BLOCK


@dataclass
class StoredItem:
    """One item of a checkpoint, and what a load wants of it.

    Attributes:
        name: The item's name in the state dict.
        file: Its file below the checkpoint.
        offset: Its first byte in the file.
        length: Number of its bytes.
        descriptors: The extensions that restore its bytes.
        crc: CRC-64 of all its bytes, if it is known.
        data_start: First byte of its tensor's elements inside it, if that is known.
        block_crcs: CRC-64 of each block of the elements, if they are known.
        dtype: Type of the elements.
        shape: Shape of the stored tensor.
        requests: What the load wants of it.
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
        """First byte behind it in the file."""
        return self.offset + self.length

    @property
    def data_length(self) -> int:
        """Number of bytes of the elements."""
        return 0 if self.dtype is None else math.prod(self.shape) * self.dtype.itemsize

    @property
    def data_offset(self) -> int:
        """First byte of the elements in the file."""
        return self.offset + (self.data_start or 0)

    def needed(self) -> int:
        """Return how many bytes the requests need."""
        if self.dtype is None or any(request.type == LoadItemType.BYTE_IO for request in self.requests):
            return self.length
        return sum(math.prod(request.lengths) * self.dtype.itemsize for request in self.requests)

    def interval(self, request: ReadItem) -> tuple[int, int, bool]:
        """Return first byte and end of the elements that a request needs, and whether it needs all between them."""
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


def blocks_of(start: int, end: int, length: int) -> Iterator[tuple[int, int, int]]:
    """Return number, first byte and end of each block that has bytes from `start` to before `end`.

    Args:
        start: First wanted byte.
        end: First byte behind the wanted ones.
        length: Number of bytes of all blocks.
    """
    if start < end:
        for number in range(start // BLOCK, (end - 1) // BLOCK + 1):
            yield number, number * BLOCK, min(length, (number + 1) * BLOCK)
