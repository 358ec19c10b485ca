"""One pass over a model: fetches the blocks of tensors with many requests at a time, and puts them in their places."""

import itertools
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

    @property
    def is_copied(self) -> bool:
        """Whether it is received in a buffer."""
        return not self.target.is_direct(self.block, self.source, self.place)


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

    Memory beyond the targets that the caller keeps stays within a budget: buffers for blocks that are copied, at most
    half of it, and targets that are not handed out yet. A target that finds no room in it is fetched alone.
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
        self._order = {target: number for number, target in enumerate(targets)}
        self._parts = _parts_of(targets)
        self._staging = staging
        self._budget = budget
        self._concurrency = concurrency
        self._whole_files = whole_files
        # A large target that is copied needs buffers until it is whole, so that room for them is kept from the start.
        parts = itertools.chain.from_iterable(self._parts.values())
        self._buffers = staging.most_nbytes if any(_is_large(part.target) and part.is_copied for part in parts) else 0
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
                # A tensor of which a part was never asked for would hold anything.
                if any(target.left for target in self._targets):
                    raise AssertionError("some blocks were not fetched")
        finally:
            self._staging.close()
            for reader in self._readers.values():
                reader.close()

    def _batches(self) -> Iterator[list[tuple[_Fetch, str, str, "OssReader", int, int, None, memoryview]] | None]:
        """Return the ranges of each object in order, and in turn those of all objects, as there is room for them."""
        heads: deque[tuple[_Fetch, Iterator[_Fetch]]] = deque()
        for file, parts in self._parts.items():
            fetches = self._fetches_of(file, parts)
            heads.extend((fetch, fetches) for fetch in itertools.islice(fetches, 1))
        while heads:
            place = self._next_of([fetch for fetch, _ in heads])
            if place is None:
                yield None
                continue
            fetch, rest = heads[place]
            del heads[place]
            heads.extend((following, rest) for following in itertools.islice(rest, 1))
            self._held += _cost(fetch)
            self._in_flight += 1
            yield [(fetch, *split_object(fetch.file), *self._range(fetch), self._memory(fetch))]

    def _next_of(self, heads: Sequence[_Fetch]) -> int | None:
        """Return the place of the first range that there is room for."""
        for place, fetch in enumerate(heads):
            if self._has_room(fetch):
                return place
        if self._in_flight > 0:
            return None
        # The objects hold the targets in the same order, so all before this one are whole.
        return min(range(len(heads)), key=lambda place: self._number(heads[place]))

    def _has_room(self, fetch: _Fetch) -> bool:
        if not fetch.direct and not self._staging.has_free():
            return False
        cost = _cost(fetch)
        buffers = max(self._buffers, self._staging.nbytes if fetch.direct else self._staging.next_nbytes)
        # What a target still lacks needs no more memory than a buffer.
        return cost == 0 or self._held + cost + buffers <= self._budget

    def _number(self, fetch: _Fetch) -> int:
        return min((self._order[part.target] for part in fetch.parts), default=-1)

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
        whole = self._copied(fetch)
        # Nothing is received meanwhile, and the next target may need the memory of these.
        return whole if self._in_flight > 0 else [*whole, *self._staging.finish()]

    def _copied(self, fetch: _Fetch) -> list[Target]:
        """Copy what has arrived to its places, and return the targets that are whole by now."""
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
            if block.nbytes >= _SMALL and not part.is_copied:
                if group.nbytes:
                    yield group
                    group = _Fetch(file, 0, 0)
                yield _Fetch(file, block.start, block.nbytes, [part], direct=True)
                continue
            end = group.start + group.nbytes
            near = group.nbytes and 0 <= block.start - end <= GAP and block.start + block.nbytes - group.start <= STAGE
            if near and _may_join(group, part.target):
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
    return found


def _may_join(group: _Fetch, target: Target) -> bool:
    # The end of one large target must not wait until there is room for the next one.
    last = group.parts[-1].target if group.parts else target
    return last is target or not (_is_large(last) or _is_large(target))


def _is_large(target: Target) -> bool:
    return target.cost > STAGE


def _cost(fetch: _Fetch) -> int:
    return sum(target.cost for target in _new_targets(fetch))


def _new_targets(fetch: _Fetch) -> list[Target]:
    return [target for target in dict.fromkeys(part.target for part in fetch.parts) if not target.is_allocated]
