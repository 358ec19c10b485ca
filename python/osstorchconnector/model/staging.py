"""Buffers for blocks that are copied to their places: to another type, to parts of a row, or to an accelerator."""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, Final

import torch

from osstorchconnector.dcp.memory import bytes_of
from osstorchconnector.model.blocks import STAGE, Index
from osstorchconnector.model.targets import Target

# Elements of the same type are copied as whole numbers of their size: not every type of torch can be copied.
_RAW: Final = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class Staging:
    """Buffers that are used again and again. Copies are made at once."""

    def __init__(self, limit: int) -> None:
        """Allocate nothing yet.

        Args:
            limit: Most buffers.
        """
        self._limit = max(1, limit)
        self._count = 0
        self._free: list[memoryview] = []

    @property
    def nbytes(self) -> int:
        """Bytes of all buffers."""
        return self._count * STAGE

    @property
    def next_nbytes(self) -> int:
        """Bytes of all buffers when one more is taken."""
        return self.nbytes if self._free or self._count == self._limit else self.nbytes + STAGE

    @property
    def most_nbytes(self) -> int:
        """Bytes of as many buffers as there may be."""
        return self._limit * STAGE

    def has_free(self) -> bool:
        """Return whether a buffer is free."""
        return bool(self._free) or self._count < self._limit

    def take(self) -> memoryview:
        """Return a buffer."""
        if self._free:
            return self._free.pop()
        self._count += 1
        return self._allocate()

    def copy(self, target: Target, place: Index, stored: torch.Tensor) -> None:
        """Copy elements to their place."""
        part = target.part(place)
        if part.dtype == stored.dtype and not part.is_conj() and not part.is_neg() and not part.is_quantized:
            raw = _RAW[stored.dtype.itemsize]
            part, stored = part.view(raw), stored.view(raw)
        self._copy(part, stored)

    def give_back(self, stage: memoryview, whole: Sequence[Target]) -> Iterator[Target]:
        """Take a buffer back whose copies were all begun, and return the targets that are whole by now."""
        self._free.append(stage)
        yield from whole

    def finish(self) -> Iterator[Target]:
        """Wait for all copies, and return the targets that became whole by them."""
        yield from ()

    def close(self) -> None:
        """Wait until nothing reads from the buffers."""

    def _allocate(self) -> memoryview:
        # The program may have set another default device.
        return bytes_of(torch.empty(STAGE, dtype=torch.uint8, device="cpu"))

    def _copy(self, part: torch.Tensor, stored: torch.Tensor) -> None:
        part.copy_(stored)


class CudaStaging(Staging):
    """Pinned buffers. Copies to each CUDA device run beside the receiving, on a stream of their own."""

    def __init__(self, limit: int) -> None:
        """Make no stream yet.

        Args:
            limit: Most buffers, at least 2 are taken.
        """
        super().__init__(max(2, limit))
        self._streams: dict[torch.device, Any] = {}
        # Copies to a device since a buffer was given back last.
        self._touched: set[torch.device] = set()
        self._under_way: deque[tuple[list[Any], memoryview, list[Target]]] = deque()

    def has_free(self) -> bool:
        """Return whether a buffer is free, or its copies have ended."""
        if super().has_free():
            return True
        oldest = self._oldest()
        return oldest is not None and _have_ended(self._under_way[oldest][0])

    def take(self) -> memoryview:
        """Return a buffer; the oldest one whose copies are under way, if none is free."""
        oldest = None if super().has_free() else self._oldest()
        if oldest is not None:
            events, stage, whole = self._under_way[oldest]
            _wait_for(events)
            self._free.append(stage)
            self._under_way[oldest] = [], memoryview(b""), whole
        return super().take()

    def _oldest(self) -> int | None:
        """Return the place of the oldest buffer whose copies are under way; None if all others wait for bytes."""
        return next((place for place, (_, stage, _) in enumerate(self._under_way) if stage), None)

    def give_back(self, stage: memoryview, whole: Sequence[Target]) -> Iterator[Target]:
        """Note which copies the buffer waits for, and return the targets whose copies have ended."""
        events = []
        for device in self._touched:
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record(self._streams[device])
            events.append(event)
        self._touched.clear()
        self._under_way.append((events, stage, list(whole)))
        while self._under_way and _have_ended(self._under_way[0][0]):
            yield from self._ended()

    def finish(self) -> Iterator[Target]:
        """Wait for all copies, and return the targets that became whole by them."""
        while self._under_way:
            _wait_for(self._under_way[0][0])
            yield from self._ended()

    def close(self) -> None:
        """Wait until nothing reads from the buffers."""
        for stream in self._streams.values():
            stream.synchronize()

    def _ended(self) -> list[Target]:
        _, stage, whole = self._under_way.popleft()
        if stage:
            self._free.append(stage)
        return whole

    def _allocate(self) -> memoryview:
        return bytes_of(torch.empty(STAGE, dtype=torch.uint8, device="cpu", pin_memory=True))

    def _copy(self, part: torch.Tensor, stored: torch.Tensor) -> None:
        if part.device.type != "cuda":
            part.copy_(stored)
            return
        stream = self._streams.get(part.device)
        if stream is None:
            stream = self._streams[part.device] = torch.cuda.Stream(part.device)  # type: ignore[no-untyped-call]
        # The memory of a new target may still be read by what the current stream has begun.
        stream.wait_stream(torch.cuda.current_stream(part.device))
        with torch.cuda.stream(stream):
            part.copy_(stored, non_blocking=True)
        # Otherwise the memory could be given to another tensor before the copy has ended.
        part.record_stream(stream)
        self._touched.add(part.device)


def staging_for(targets: Sequence[Target], limit: int) -> Staging:
    """Return at most so many buffers for targets."""
    return CudaStaging(limit) if any(target.device.type == "cuda" for target in targets) else Staging(limit)


def _have_ended(events: list[Any]) -> bool:
    return all(event.query() for event in events)


def _wait_for(events: list[Any]) -> None:
    for event in events:
        event.synchronize()
