"""Connects stored items with the values that a load asks for: which ranges to fetch, and where their bytes go."""

import io
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final, cast

import torch
from torch import Tensor
from torch.distributed.checkpoint.planner import LoadItemType, LoadPlanner, ReadItem

from osstorchconnector._torch.distributed import StorageReaderTransforms as Transforms
from osstorchconnector._torch.distributed import narrow_tensor_by_index
from osstorchconnector.dcp.fetch import Job
from osstorchconnector.dcp.memory import bytes_of, empty_bytes, is_plain, tensor_over
from osstorchconnector.dcp.stored import StoredItem, blocks_of
from osstorchconnector.exceptions import OssIntegrityError

# Smaller tensors are fetched together with their neighbours. At 1 MiB a request costs less processor time than
# receiving its bytes.
_LARGE: Final = 1 << 20


class Delivery:
    """Makes the jobs of one load, and hands what arrives to the planner, in the thread that runs the jobs."""

    run_limit: Final = 8 << 20
    """Most bytes of a request for several items. At this size a connection's speed matters more than its latency."""

    def __init__(self, planner: LoadPlanner, transforms: Transforms) -> None:
        """Remember who gets the items."""
        self._planner = planner
        self._transforms = transforms

    def jobs(self, items: Sequence[StoredItem]) -> Iterator[list[Job]]:
        """Return jobs for items that are sorted by file and offset: the blocks of large tensors, then all other items.

        The planner says where a tensor goes, and may allocate it. So it is asked only when the tensor's first job is
        returned.
        """
        small: list[Job] = []
        for item in items:
            if item.length == 0:
                self.deliver(item, memoryview(b""))
            elif _is_direct(item):
                for job in self._direct(item):
                    yield [job]
            else:
                small.append(
                    Job(item.file, item.offset, item.length, item.name, partial(self.deliver, item), crc=item.crc)
                )
        yield small

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
            # The memory is used again after this call, so the planner gets a copy.
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
        """Fetch the blocks of a large tensor: into its target if that is possible, otherwise into memory in between."""
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
        # Pages that are not fetched are never touched, and take no memory.
        whole = empty_bytes(item.data_length)
        stored = tensor_over(whole, cast("torch.dtype", item.dtype), item.shape)
        yield from _blocks(item, start, end, whole[start:end], partial(self._deliver_tensor, item, stored))

    def _commit(self, request: ReadItem, target: Tensor) -> None:
        # The bytes were written past autograd, which counts changes to notice that a tensor it has kept is out of date.
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
        start: First wanted byte of the elements.
        end: First byte behind the wanted ones.
        memory: Receives the wanted bytes.
        finish: Called after the last block.
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
            # There is nothing to compare, so only the wanted bytes of the block are fetched.
            first, last = inner_start, inner_end  # noqa: PLW2901
        crc = item.block_crcs[number] if has_crc else None
        whole = (first, last) == (inner_start, inner_end)
        deliver: Callable[[memoryview], None] = partial(arrived, None if whole else piece)
        if not whole:
            deliver = _part(deliver, inner_start - first, inner_end - first)
        yield Job(item.file, item.data_offset + first, last - first, item.name, deliver, piece if whole else None, crc)


def _part(deliver: Callable[[memoryview], None], start: int, end: int) -> Callable[[memoryview], None]:
    return lambda memory: deliver(memory[start:end])


def _check_size(item: StoredItem, target: Tensor, part: Tensor) -> None:
    if target.size() != part.size():
        raise OssIntegrityError(
            f"item {item.name!r} of {item.file} is stored as {tuple(part.shape)}, where {tuple(target.shape)} is needed"
        )
