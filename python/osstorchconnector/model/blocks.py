"""Cuts stored tensors into blocks: bytes that are contiguous in an object, and the part of a tensor that they fill."""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

#: A box of a tensor: the first index and the index after the last one, for each dimension.
Box = tuple[tuple[int, int], ...]
Index = tuple[slice, ...]

#: Most bytes of a block that is copied to its place, and the size of the buffers for that.
STAGE: Final = 8 << 20
#: Fewer bytes in one piece are fetched together with the bytes around them: with 20 ms to the first byte, reading
#: gaps of 128 KiB takes half as long as skipping them, and with 512 KiB it makes no difference.
LEAST_RUN: Final = 256 << 10
#: Most bytes between two small blocks that are fetched and dropped, to have both with one request.
GAP: Final = 256 << 10


@dataclass(frozen=True, slots=True)
class Block:
    """Bytes of a chunk that lie together.

    Attributes:
        start: The first byte, from the start of the object.
        nbytes: How many.
        begin: The first index of their elements in the tensor, for each dimension.
        shape: The shape of their elements: as many dimensions as the tensor has.
    """

    start: int
    nbytes: int
    begin: tuple[int, ...]
    shape: tuple[int, ...]

    def part(self, box: Box) -> tuple[Index, Index] | None:
        """Return what of the block lies in a box: its place in the block, and in a tensor of the box's shape."""
        source, target = [], []
        for first, length, (low, high) in zip(self.begin, self.shape, box, strict=True):
            begin, end = max(first, low), min(first + length, high)
            if begin >= end:
                return None
            source.append(slice(begin - first, end - first))
            target.append(slice(begin - low, end - low))
        return tuple(source), tuple(target)

    def is_whole(self, source: Index) -> bool:
        """Return whether a place in the block is all of it."""
        return all(place == slice(0, length) for place, length in zip(source, self.shape, strict=True))


@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of a tensor that is stored in one piece: usually all of it.

    Attributes:
        file: The object's URI.
        start: The first byte, from the start of the object.
        end: The byte after the last one.
        begin: The index of its first element in the tensor, for each dimension.
        shape: Its shape.
    """

    file: str
    start: int
    end: int
    begin: tuple[int, ...]
    shape: tuple[int, ...]

    @property
    def box(self) -> Box:
        """The part of the tensor."""
        return tuple((first, first + length) for first, length in zip(self.begin, self.shape, strict=True))

    def blocks(self, box: Box, itemsize: int, *, whole: bool) -> Iterator[Block]:
        """Cut what a box needs of the chunk into blocks.

        Args:
            box: The part of the tensor that is needed.
            itemsize: Bytes of an element.
            whole: What lies together may be one block of any size. Otherwise no block has more than `STAGE` bytes.
        """
        inner = intersection(self.box, box)
        if inner is None:
            return
        if not self.shape:
            yield Block(self.start, itemsize, (), ())
            return
        local = tuple((low - first, high - first) for (low, high), first in zip(inner, self.begin, strict=True))
        yield from self._cut(local, (), self.start, itemsize, whole=whole)

    def _cut(self, inner: Box, prefix: tuple[int, ...], start: int, itemsize: int, *, whole: bool) -> Iterator[Block]:
        depth = len(prefix)
        rest = self.shape[depth + 1 :]
        row = math.prod(rest) * itemsize
        first, last = inner[depth]
        together = all(place == (0, length) for place, length in zip(inner[depth + 1 :], rest, strict=True))
        is_last = not rest
        if is_last or (together and (whole or row <= STAGE)):
            step = last - first if whole else max(1, STAGE // row)
        elif row <= STAGE and _run(inner[depth + 1 :], rest) * itemsize < LEAST_RUN:
            step = max(1, STAGE // row)
        else:
            for index in range(first, last):
                yield from self._cut(inner, (*prefix, index), start + index * row, itemsize, whole=whole)
            return
        for at in range(first, last, step):
            rows = min(step, last - at)
            begin = tuple(
                origin + place for origin, place in zip(self.begin, (*prefix, at, *(0 for _ in rest)), strict=True)
            )
            shape = (*(1 for _ in prefix), rows, *rest)
            yield Block(start + at * row, rows * row, begin, shape)


def intersection(one: Box, other: Box) -> Box | None:
    """Return what two boxes have in common, or None."""
    both = tuple(
        (max(low, other_low), min(high, other_high))
        for (low, high), (other_low, other_high) in zip(one, other, strict=True)
    )
    return None if any(low >= high for low, high in both) else both


def whole_box(shape: Sequence[int]) -> Box:
    """Return the box that is all of a tensor."""
    return tuple((0, length) for length in shape)


def overlap(chunks: Sequence[Chunk]) -> bool:
    """Return whether two chunks of a tensor have elements in common."""
    boxes = sorted(chunk.box for chunk in chunks)
    for place, box in enumerate(boxes):
        for other in itertools.islice(boxes, place + 1, None):
            # Most tensors are cut into rows alone, and a thousand ranks make half a million pairs.
            if box and other[0][0] >= box[0][1]:
                break
            if intersection(box, other) is not None:
                return True
    return False


def _run(inner: Box, shape: Sequence[int]) -> int:
    """Return how many elements of a box lie together."""
    run = 1
    for (low, high), length in zip(reversed(inner), reversed(shape), strict=True):
        run *= high - low
        if (low, high) != (0, length):
            break
    return run
