"""From what is stored to what was asked for: which ranges to fetch, and where their bytes go."""

import io
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final, cast

import torch
from torch import Tensor
from torch.distributed.checkpoint.planner import LoadItemType, LoadPlanner, ReadItem

from osstorchconnector._torch.distributed import StorageReaderTransforms as Transforms
from osstorchconnector._torch.distributed import narrow_tensor_by_index
from osstorchconnector.dcp.fetch import Check, Job
from osstorchconnector.dcp.memory import bytes_of, empty_bytes, is_plain, tensor_over
from osstorchconnector.dcp.stored import StoredItem, blocks_of, coalesced
from osstorchconnector.exceptions import OssIntegrityError

# Smaller tensors are fetched together with their neighbours. At 1 MiB a request costs less CPU than receiving its
# bytes.
_LARGE: Final = 1 << 20


class Delivery:
    """Makes the jobs of one load, and hands what they bring to the planner, in the thread that runs them."""

    run_limit: Final = 8 << 20
    """Most bytes of a request for several items: so many make a connection's speed matter more than its latency."""

    def __init__(self, planner: LoadPlanner, transforms: Transforms, gap: int) -> None:
        """Remember whom to deliver to."""
        self._planner = planner
        self._transforms = transforms
        self._gap = gap

    def jobs(self, items: Sequence[StoredItem]) -> Iterator[Job]:
        """Return what to fetch for items that are sorted by file and offset.

        Where a tensor goes is asked of the planner only when its first job is returned.
        """
        small: list[StoredItem] = []
        for item in items:
            if item.length == 0:
                self.deliver(item, memoryview(b""))
            elif _is_direct(item):
                yield from self._direct(item)
            else:
                small.append(item)
        for run in coalesced(small, self._gap, self.run_limit):
            yield self._run(run)

    def _run(self, items: Sequence[StoredItem]) -> Job:
        start = items[0].offset

        def deliver(memory: memoryview) -> None:
            for item in items:
                self.deliver(item, memory[item.offset - start : item.end - start])

        checks = [
            Check(item.offset - start, item.end - start, item.crc, item.name) for item in items if item.crc is not None
        ]
        return Job(
            items[0].file,
            start,
            max(item.end for item in items) - start,
            tuple(item.name for item in items),
            deliver,
            checks=tuple(checks),
        )

    def deliver(self, item: StoredItem, memory: memoryview) -> None:
        """Hand a whole item to the planner.

        Raises:
            OssIntegrityError: It is not what its description says.
        """
        if item.data_start is not None and item.dtype is not None and not item.descriptors:
            data = memory[item.data_start : item.data_start + item.data_length]
            self._deliver_tensor(item, tensor_over(data, item.dtype, item.shape))
            return
        for request in item.requests:
            # The memory is used again after this, so what the planner gets is its own.
            stream: io.IOBase = io.BytesIO(memory)
            if item.descriptors:
                binary = cast("io.BytesIO", stream)
                stream = cast("io.IOBase", self._transforms.transform_load_stream(request, item.descriptors, binary))
            content = stream if isinstance(stream, io.BytesIO) else io.BytesIO(cast("io.BytesIO", stream).read(-1))
            if request.type == LoadItemType.BYTE_IO:
                self._planner.load_bytes(request, content)
                continue
            try:
                stored = torch.load(content, map_location="cpu", weights_only=True)
            except Exception as error:
                raise OssIntegrityError(
                    f"item {item.name!r} at byte {item.offset} of {item.file} cannot be read: {error}"
                ) from error
            self._deliver_request(item, request, stored)

    def _deliver_tensor(self, item: StoredItem, stored: Tensor) -> None:
        for request in item.requests:
            self._deliver_request(item, request, stored)

    def _deliver_request(self, item: StoredItem, request: ReadItem, stored: Tensor) -> None:
        part = narrow_tensor_by_index(stored, request.storage_offsets, request.lengths)
        target = self._planner.resolve_tensor(request).detach()
        _check_size(item, target, part)
        target.copy_(part)
        self._planner.commit_tensor(request, target)

    def _direct(self, item: StoredItem) -> Iterator[Job]:
        """Fetch the blocks of a large tensor: into the target where that is possible, else into memory in between."""
        (request, *others) = item.requests
        start, end, in_one_piece = item.interval(request)
        if not others and in_one_piece:
            target = self._planner.resolve_tensor(request).detach()
            if is_plain(target) and target.dtype == item.dtype and target.size() == torch.Size(request.lengths):
                finish = partial(self._commit, request, target)
                yield from _blocks(item, start, end, bytes_of(target), finish)
                return
        for other in others:
            other_start, other_end, _ = item.interval(other)
            start, end = min(start, other_start), max(end, other_end)
        # What is not fetched of it is never touched, and takes no memory.
        whole = empty_bytes(item.data_length)
        stored = tensor_over(whole, cast("torch.dtype", item.dtype), item.shape)
        yield from _blocks(item, start, end, whole[start:end], partial(self._deliver_tensor, item, stored))

    def _commit(self, request: ReadItem, target: Tensor) -> None:
        # Written past autograd, which counts changes to notice that what it has kept is no longer right.
        torch.autograd.graph.increment_version(target)
        self._planner.commit_tensor(request, target)


def _is_direct(item: StoredItem) -> bool:
    return (
        item.data_start is not None
        and item.dtype is not None
        and not item.descriptors
        and item.data_length >= _LARGE
        and all(request.type == LoadItemType.TENSOR for request in item.requests)
    )


def _blocks(item: StoredItem, start: int, end: int, memory: memoryview, finish: Callable[[], None]) -> Iterator[Job]:
    """Return a job for each block that has elements from byte `start` to before `end`.

    Args:
        item: The item.
        start: First byte of the elements that is wanted.
        end: First byte no longer wanted.
        memory: Where these go.
        finish: Called after the last.
    """
    blocks = list(blocks_of(start, end, item.data_length))
    left = len(blocks)

    def arrived(piece: memoryview | None, received: memoryview) -> None:
        nonlocal left
        if piece is not None:
            piece[:] = received
        left -= 1
        if left == 0:
            finish()

    for number, first, last in blocks:
        inner_start, inner_end = max(first, start), min(last, end)
        piece = memory[inner_start - start : inner_end - start]
        has_crc = number < len(item.block_crcs)
        if not has_crc:
            # Nothing to check: what is not wanted of the block is not fetched.
            first, last = inner_start, inner_end  # noqa: PLW2901
        checks = (Check(0, last - first, item.block_crcs[number], item.name),) if has_crc else ()
        whole = (first, last) == (inner_start, inner_end)
        if whole:
            yield Job(
                item.file, item.data_offset + first, last - first, (item.name,), partial(arrived, None), piece, checks
            )
        else:
            yield Job(
                item.file,
                item.data_offset + first,
                last - first,
                (item.name,),
                _part(partial(arrived, piece), inner_start - first, inner_end - first),
                checks=checks,
            )


def _part(deliver: Callable[[memoryview], None], start: int, end: int) -> Callable[[memoryview], None]:
    return lambda memory: deliver(memory[start:end])


def _check_size(item: StoredItem, target: Tensor, part: Tensor) -> None:
    if target.size() != part.size():
        raise OssIntegrityError(
            f"item {item.name!r} of {item.file} is stored as {tuple(part.shape)}, where {tuple(target.shape)} is needed"
        )
