"""One pass over a model: fetches the blocks of tensors with many requests at a time, and puts them in their places."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import torch

from osstorchconnector.connection.client import OssClient
from osstorchconnector.connection.uri import split_object
from osstorchconnector.dcp.memory import bytes_of, empty_bytes, tensor_over
from osstorchconnector.exceptions import OssError, OssIntegrityError
from osstorchconnector.model.blocks import GAP, STAGE, Block, Index
from osstorchconnector.model.staging import Staging
from osstorchconnector.model.targets import Target
from osstorchconnector.safetensor.opened import OpenedFile

if TYPE_CHECKING:
    from osstorchconnector._native import FetchedRange, OssReader

# Smaller blocks are fetched together with their neighbours. At 1 MiB a request costs less processor time than
# receiving its bytes.
_SMALL: Final = 1 << 20


@dataclass(slots=True)
class _Part:
    """A block of a fetch, the tensor that needs it, and its places in both."""

    target: Target
    block: Block
    source: Index
    place: Index


@dataclass(slots=True)
class _Fetch:
    """A range of an object.

    Attributes:
        file: The object's URI.
        start: First byte.
        nbytes: How many.
        parts: What it is for; nothing if it is fetched for the checksum of the object alone.
        stage: The buffer that receives it; None if it is received in its place.
    """

    file: str
    start: int
    nbytes: int
    parts: list[_Part] = field(default_factory=list)
    stage: memoryview | None = None
    direct: bool = False


class Transfer:
    """Fetches tensors, and returns each when it is whole.

    Memory beyond the targets that the caller keeps stays within a budget: buffers for blocks that are copied, and
    targets that are not handed out yet. A target that is larger than the budget is fetched alone.
    """

    def __init__(
        self,
        client: OssClient,
        files: Mapping[str, OpenedFile],
        targets: Sequence[Target],
        staging: Staging,
        *,
        budget: int,
        concurrency: int,
        whole_files: frozenset[str] = frozenset(),
    ) -> None:
        """Plan the pass; nothing is fetched.

        Args:
            client: Fetches.
            files: The opened objects by URI.
            targets: The tensors, each once.
            staging: Buffers for blocks that cannot be received in their place.
            budget: Most bytes of targets that are not handed out, and of buffers.
            concurrency: Most requests at a time.
            whole_files: Objects of which every byte is needed, so that their checksums can be compared.
        """
        self._client = client
        self._readers: dict[str, OssReader] = {}
        self._files = files
        self._targets = targets
        self._parts = _parts_of(targets)
        self._staging = staging
        self._budget = budget
        self._concurrency = concurrency
        self._whole_files = whole_files
        self._in_flight = 0
        self._held = 0

    def run(self) -> Iterator[Target]:
        """Return the targets as they become whole.

        Raises:
            OssIntegrityError: An object was replaced since it was opened, or its bytes are not those that OSS stores.
            OssError: A range could not be fetched; the message names the tensor and the object.
            MemoryError: There is no memory for a tensor.
        """
        fetcher = self._client._native_client.range_fetcher(  # noqa: SLF001 - the package's own
            self._batches(), allocate=empty_bytes, gap=0, run_limit=1, concurrency=self._concurrency, budget=1
        )
        try:
            with fetcher:
                for target in self._targets:
                    if target.left == 0:
                        target.allocate()
                        yield target
                # No name here keeps the memory of a target that the caller has got.
                for arrived in map(self._arrived, fetcher):
                    for target in arrived:
                        self._held -= target.cost
                        yield target
                for target in self._staging.finish():
                    self._held -= target.cost
                    yield target
        finally:
            self._staging.close()
            for reader in self._readers.values():
                reader.close()

    def _batches(self) -> Iterator[list[tuple[_Fetch, str, str, "OssReader", int, int, None, memoryview]] | None]:
        for fetch in self._fetches():
            cost = sum(target.cost for target in _new_targets(fetch))
            while not self._has_room(cost, fetch):
                yield None
            self._held += cost
            self._in_flight += 1
            yield [(fetch, *split_object(fetch.file), *self._range(fetch), self._memory(fetch))]

    def _has_room(self, cost: int, fetch: _Fetch) -> bool:
        if not fetch.direct and not self._staging.has_free(wait=self._in_flight == 0):
            return False
        return self._in_flight == 0 or self._held + self._staging.nbytes + cost <= self._budget

    def _range(self, fetch: _Fetch) -> tuple["OssReader", int, int, None]:
        return self._reader(fetch.file), fetch.start, fetch.nbytes, None

    def _reader(self, file: str) -> "OssReader":
        reader = self._readers.get(file)
        if reader is None:
            # Nothing of a copy was received, so that each pass compares the checksum of what it has received itself.
            reader = self._readers[file] = self._files[file].reader.copy()
        return reader

    def _memory(self, fetch: _Fetch) -> memoryview:
        for target in _new_targets(fetch):
            target.allocate()
        if fetch.direct:
            (part,) = fetch.parts
            return bytes_of(part.target.part(part.place))
        fetch.stage = self._staging.take()
        return fetch.stage[: fetch.nbytes]

    def _arrived(self, fetched: "FetchedRange") -> list[Target]:
        fetch: _Fetch = fetched.tag
        self._in_flight -= 1
        check_fetched(fetch.parts[0].target.name if fetch.parts else None, fetch.file, fetched)
        if fetch.stage is None:
            return [part.target for part in fetch.parts if part.target.received()]
        whole = []
        for part in fetch.parts:
            offset = part.block.start - fetch.start
            data = fetch.stage[offset : offset + part.block.nbytes]
            stored = tensor_over(data, part.target.stored_dtype, torch.Size(part.block.shape))
            self._staging.copy(part.target, part.place, stored[part.source])
            if part.target.received():
                whole.append(part.target)
        return list(self._staging.give_back(fetch.stage, whole))

    def _fetches(self) -> Iterator[_Fetch]:
        """Return all ranges: those of one object in order, and in turn those of all objects."""
        waiting = deque(self._fetches_of(file, parts) for file, parts in self._parts.items())
        while waiting:
            fetches = waiting.popleft()
            fetch = next(fetches, None)
            if fetch is not None:
                yield fetch
                waiting.append(fetches)

    def _fetches_of(self, file: str, parts: Sequence[_Part]) -> Iterator[_Fetch]:
        group = _Fetch(file, 0, 0)
        if file in self._whole_files:
            length = self._files[file].length
            pieces = [_Fetch(file, at, min(STAGE, length - at)) for at in range(0, length, STAGE)]
            # A short header joins the first small tensors.
            group = pieces.pop()
            yield from pieces
        for part in parts:
            block = part.block
            direct = part.target.is_direct(block, part.source, part.place)
            if direct and block.nbytes >= _SMALL:
                yield _Fetch(file, block.start, block.nbytes, [part], direct=True)
                continue
            end = group.start + group.nbytes
            if group.nbytes and 0 <= block.start - end <= GAP and block.start + block.nbytes - group.start <= STAGE:
                group.parts.append(part)
                group.nbytes = block.start + block.nbytes - group.start
                continue
            if group.nbytes:
                yield group
            group = _Fetch(file, block.start, block.nbytes, [part])
        if group.nbytes:
            yield group


def check_fetched(name: str | None, file: str, fetched: "FetchedRange") -> None:
    """Raise if a range could not be fetched.

    Args:
        name: The first tensor that it is for; None if it is the header.
        file: The object's URI.
        fetched: What became of it.

    Raises:
        OssError: It could not be fetched; the message names the tensor and the object.
    """
    what = f"the header of {file}" if name is None else f"tensor {name!r} of {file}"
    error = fetched.error
    if isinstance(error, OssError):
        raise type(error)(f"{what} could not be read: {error}") from error
    if error is not None:
        raise error
    if not fetched.intact:
        raise OssIntegrityError(f"{what} is missing: the object has {fetched.object_size} bytes")


def _parts_of(targets: Sequence[Target]) -> dict[str, list[_Part]]:
    found: dict[str, list[_Part]] = {}
    for target in targets:
        for file, block, (source, place) in target.blocks():
            found.setdefault(file, []).append(_Part(target, block, source, place))
            target.left += 1
    for parts in found.values():
        parts.sort(key=lambda part: part.block.start)
    return found


def _new_targets(fetch: _Fetch) -> list[Target]:
    return [target for target in dict.fromkeys(part.target for part in fetch.parts) if not target.is_allocated]
