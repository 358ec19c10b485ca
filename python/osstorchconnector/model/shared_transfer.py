"""One pass over a model by several ranks: each byte is fetched by one of them, and handed on to the others.

The bytes are divided into rounds, and each round into one region for each rank. While the ranks copy what they need of
one round out of shared memory, the next two rounds are being received.
"""

import contextlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import torch
import torch.distributed as dist

from osstorchconnector._native import crc64_combine
from osstorchconnector.connection.client import OssClient
from osstorchconnector.connection.uri import split_object
from osstorchconnector.dcp.memory import empty_bytes, tensor_over
from osstorchconnector.exceptions import OssConfigError, OssError, OssIntegrityError
from osstorchconnector.model.blocks import GAP, STAGE, Block, whole_box
from osstorchconnector.model.machine import Ranks, gathered, shared_memory
from osstorchconnector.model.staging import Staging
from osstorchconnector.model.targets import Target
from osstorchconnector.model.tensors import TensorInfo
from osstorchconnector.model.transfer import check_fetched
from osstorchconnector.safetensor.opened import OpenedFile

if TYPE_CHECKING:
    from osstorchconnector._native import OssReader, RangeFetcher

# Rounds in memory: one is copied from, and two are received.
_ROUNDS: Final = 3


@dataclass(slots=True)
class _Unit:
    """A range of an object, the blocks of tensors in it, its round, and its place in the region of its rank."""

    file: str
    start: int
    nbytes: int
    blocks: list[tuple[str, Block]] = field(default_factory=list)
    number: int = 0
    place: int = 0


class SharedTransfer:
    """Fetches tensors together with the other ranks, and returns each when it is whole."""

    def __init__(
        self,
        client: OssClient,
        files: Mapping[str, OpenedFile],
        infos: Sequence[TensorInfo],
        targets: Sequence[Target],
        ranks: Ranks,
        *,
        budget: int,
        concurrency: int,
        whole_files: frozenset[str],
    ) -> None:
        """Plan the pass; nothing is fetched.

        Args:
            client: Fetches.
            files: The opened objects by URI.
            infos: The tensors that are fetched, the same on all ranks.
            targets: The places of the parts that this rank needs of them.
            ranks: The ranks.
            budget: Most bytes of shared memory for each rank of this machine; at least 24 MiB for each rank whose
                bytes come through it.
            concurrency: Most requests of this rank at a time.
            whole_files: Objects of which every byte is needed.
        """
        self._client = client
        self._files = files
        self._targets = {target.name: target for target in targets}
        self._ranks = ranks
        self._budget = budget
        self._concurrency = concurrency
        self._whole_files = whole_files
        self._fetchers = ranks.local if len(ranks.leaders) == 1 else list(range(ranks.size))
        # The same on all ranks of it, since they divide the bytes alike.
        region = budget * (len(ranks.local) if len(ranks.leaders) == 1 else min(ranks.counts))
        self._region = max(STAGE, region // len(self._fetchers) // _ROUNDS // STAGE * STAGE)
        self._size = len(self._fetchers) * _ROUNDS * self._region
        self._rounds = _rounds(_units(files, infos, whole_files), self._fetchers, self._region)
        # All ranks wait for each other in each step, and machines with other numbers of ranks may need more.
        self._steps = (
            max(len(_rounds(_units(files, infos, whole_files), range(count), self._region)) for count in ranks.counts)
            if len(ranks.leaders) == 1
            else len(self._rounds)
        )
        self._own = [shares.get(ranks.rank, []) for shares in self._rounds]
        self._left = [len(units) for units in self._own]
        self._allowed = 0
        self._readers: dict[str, OssReader] = {}
        self._ended = False

    def run(self) -> Iterator[Target]:
        """Return this rank's targets as they become whole. All ranks call this, and read to the end.

        Raises:
            OssError: This rank or another one could not fetch its share.
            OssIntegrityError: An object has another checksum, or the ranks have opened different versions of it.
            MemoryError: This rank has no memory for a tensor.
        """
        self._compare_versions()
        memory = shared_memory(self._size, self._ranks)
        view = memoryview(memory)
        fetcher = self._client._native_client.range_fetcher(  # noqa: SLF001 - the package's own
            self._batches(view), allocate=empty_bytes, gap=0, run_limit=1, concurrency=self._concurrency, budget=1
        )
        try:
            with fetcher:
                yield from self._together(fetcher, view)
        finally:
            if not self._ended:
                # The caller has left the loop: the others must not wait for this rank.
                with contextlib.suppress(OssError):
                    self._agree(OssError(f"rank {self._ranks.rank} has not read to the end"))
            for reader in self._readers.values():
                reader.close()
            with contextlib.suppress(BufferError):
                view.release()
                memory.close()

    def _together(self, fetcher: "RangeFetcher", view: memoryview) -> Iterator[Target]:
        """Take part in all rounds.

        In each step this rank receives its share of one round, copies what it needs of the round before, and waits for
        the others. So the memory that the share of the next round is received in was read by all ranks.
        """
        self._count_blocks()
        staging = Staging(1)
        whole = [target for target in self._targets.values() if target.left == 0]
        for number in range(self._steps + 1):
            failure: BaseException | None = None
            try:
                for target in whole:
                    target.allocate()
                self._receive(fetcher, number)
                if 0 < number <= len(self._rounds):
                    whole += self._copy(number - 1, view, staging)
            except Exception as error:  # noqa: BLE001 - raised below, when the other ranks know of it
                failure = error
            if failure is None:
                yield from whole
                whole = []
            self._agree(failure)
            if number < len(self._rounds) and len(self._ranks.leaders) > 1:
                # The other ranks of a machine may read it afterwards.
                self._agree(self._hand_on(number, view))
        self._compare_checksums()
        self._ended = True

    def _count_blocks(self) -> None:
        for shares in self._rounds:
            for units in shares.values():
                for unit in units:
                    for name, block in unit.blocks:
                        target = self._targets[name]
                        target.left += block.part(target.box) is not None

    def _batches(
        self, view: memoryview
    ) -> Iterator[list[tuple[_Unit, str, str, "OssReader", int, int, None, memoryview]] | None]:
        for number, units in enumerate(self._own):
            for unit in units:
                while number > self._allowed:
                    yield None
                bucket, key = split_object(unit.file)
                reader = self._readers.get(unit.file)
                if reader is None:
                    reader = self._readers[unit.file] = self._files[unit.file].reader.copy()
                memory = self._memory(view, number, self._ranks.rank, unit)
                yield [(unit, bucket, key, reader, unit.start, unit.nbytes, None, memory)]

    def _memory(self, view: memoryview, number: int, rank: int, unit: _Unit) -> memoryview:
        start = self._start(number, rank) + unit.place
        return view[start : start + unit.nbytes]

    def _start(self, number: int, rank: int) -> int:
        """Return where the region of a rank begins."""
        return ((number % _ROUNDS) * len(self._fetchers) + self._fetchers.index(rank)) * self._region

    def _receive(self, fetcher: "RangeFetcher", number: int) -> None:
        """Receive this rank's share of a round, while that of the next one is under way."""
        self._allowed = number + 1
        while number < len(self._left) and self._left[number] > 0:
            fetched = next(fetcher)
            unit: _Unit = fetched.tag
            check_fetched(unit.blocks[0][0] if unit.blocks else None, unit.file, fetched)
            self._left[unit.number] -= 1

    def _copy(self, number: int, view: memoryview, staging: Staging) -> list[Target]:
        """Copy what this rank needs of a round, and return the targets that are whole by it."""
        whole = []
        for rank, units in self._rounds[number].items():
            for unit in units:
                memory = self._memory(view, number, rank, unit)
                for name, block in unit.blocks:
                    target = self._targets[name]
                    places = block.part(target.box)
                    if places is None:
                        continue
                    source, place = places
                    target.allocate()
                    at = block.start - unit.start
                    stored = tensor_over(memory[at : at + block.nbytes], target.stored_dtype, torch.Size(block.shape))
                    staging.copy(target, place, stored[source])
                    if target.received():
                        whole.append(target)
        return whole

    def _agree(self, failure: BaseException | None) -> None:
        """Wait for all ranks, and raise on each if one has failed."""
        group = self._ranks.group
        has_failed = torch.tensor([failure is not None], dtype=torch.int32, device="cpu")
        self._ended = True
        try:
            dist.all_reduce(has_failed, dist.ReduceOp.MAX, group)
            reasons = gathered(_reason(failure), group) if has_failed.item() else []
        except OssError as error:
            raise failure or error from None
        except RuntimeError as error:
            raise failure or OssError(f"rank {self._ranks.rank} has lost another rank: {error}") from error
        if failure is not None:
            raise failure
        for rank, reason in enumerate(reasons):
            if reason is not None:
                raise OssError(f"rank {rank} could not load the model, so no rank does: {reason}")
        self._ended = False

    def _hand_on(self, number: int, view: memoryview) -> BaseException | None:
        """Send what this machine has received to the first rank of each other machine, and receive what they have."""
        ranks, under_way = self._ranks, []
        if ranks.rank not in ranks.leaders:
            return None
        try:
            for rank, units in self._rounds[number].items():
                nbytes = max((unit.place + unit.nbytes for unit in units), default=0)
                if nbytes == 0:
                    continue
                start, sender = self._start(number, rank), ranks.leader_of(rank)
                region = torch.frombuffer(view[start : start + nbytes], dtype=torch.uint8)
                if sender == ranks.rank:
                    others = [ranks.global_rank(leader) for leader in ranks.leaders if leader != sender]
                    under_way += [dist.isend(region, other, ranks.group) for other in others]
                else:
                    under_way.append(dist.irecv(region, ranks.global_rank(sender), ranks.group))
            for work in under_way:
                if work is not None:
                    work.wait()
        except RuntimeError as error:
            return OssError(f"rank {ranks.rank} has lost another rank: {error}")
        return None

    def _compare_versions(self) -> None:
        versions = [(uri, file.reader.etag) for uri, file in self._files.items()]
        # Each rank divides the bytes for itself, and finds those of the others by that.
        settings = (self._budget, len(self._ranks.leaders) > 1)
        found = gathered((versions, sorted(self._targets), settings), self._ranks.group)
        for rank, (others, names, others_settings) in enumerate(found):
            if others_settings != found[0][2]:
                raise OssConfigError(
                    f"rank {rank} has opened the model with another budget or share than rank 0: all ranks give the "
                    "same"
                )
            if names != found[0][1]:
                raise OssConfigError(f"rank {rank} asks for other tensors than rank 0: all ranks give the same names")
            nothing = ("", "")
            for (uri, etag), (first, first_etag) in itertools.zip_longest(others, found[0][0], fillvalue=nothing):
                if (uri, etag) != (first, first_etag):
                    raise OssIntegrityError(
                        f"{uri or first} was replaced while rank 0 and rank {rank} opened it: open the model again on "
                        "all ranks"
                    )

    def _compare_checksums(self) -> None:
        """Compare the checksum of each object of which all ranks together have fetched all.

        Raises:
            OssIntegrityError: It is not the one that OSS stores.
        """
        own = {uri: reader.received() for uri, reader in self._readers.items() if uri in self._whole_files}
        together: dict[str, list[tuple[int, int, int]]] = {}
        for received in gathered(own, self._ranks.group):
            for uri, ranges in received.items():
                together.setdefault(uri, []).extend(ranges)
        for uri, ranges in together.items():
            expected, at, crc = self._files[uri].reader.crc64, 0, 0
            for start, end, piece in sorted(ranges):
                if start == at:
                    at, crc = end, crc64_combine(crc, piece, end - start)
            if expected is not None and (at != self._files[uri].reader.size or crc != expected):
                raise OssIntegrityError(
                    f"the bytes received of {uri} have CRC-64 {crc}, the object has {expected}: they were corrupted on "
                    "the way; load the model again"
                )


def _reason(failure: BaseException | None) -> str | None:
    if failure is None or isinstance(failure, (OssError, MemoryError)):
        return None if failure is None else str(failure)
    return f"{type(failure).__name__}: {failure}"


def _units(
    files: Mapping[str, OpenedFile], infos: Sequence[TensorInfo], whole_files: frozenset[str]
) -> Iterator[_Unit]:
    """Divide what is fetched into ranges of at most `STAGE` bytes, in the order in which it is stored."""
    blocks: dict[str, list[tuple[str, Block]]] = {file: [] for file in files}
    for info in infos:
        itemsize = info.torch_dtype.itemsize
        for chunk in info.chunks:
            found = chunk.blocks(whole_box(info.shape), itemsize, whole=False)
            blocks[chunk.file] += [(info.name, block) for block in found]
    for file, named in blocks.items():
        unit = _Unit(file, 0, 0)
        if file in whole_files:
            length = files[file].length
            *before, unit = [_Unit(file, at, min(STAGE, length - at)) for at in range(0, length, STAGE)]
            yield from before
        for name, block in sorted(named, key=lambda one: one[1].start):
            end = unit.start + unit.nbytes
            if unit.nbytes and 0 <= block.start - end <= GAP and block.start + block.nbytes - unit.start <= STAGE:
                unit.blocks.append((name, block))
                unit.nbytes = block.start + block.nbytes - unit.start
                continue
            if unit.nbytes:
                yield unit
            unit = _Unit(file, block.start, block.nbytes, [(name, block)])
        if unit.nbytes:
            yield unit


def _rounds(units: Iterator[_Unit], fetchers: Sequence[int], region: int) -> list[dict[int, list[_Unit]]]:
    """Give each range to the rank that has the fewest bytes of the round, until no region has room."""
    rounds: list[dict[int, list[_Unit]]] = []
    filled = dict.fromkeys(fetchers, region)
    for unit in units:
        rank = min(filled, key=filled.__getitem__)
        if filled[rank] + unit.nbytes > region:
            rounds.append({one: [] for one in fetchers})
            filled = dict.fromkeys(fetchers, 0)
            rank = fetchers[0]
        unit.number, unit.place = len(rounds) - 1, filled[rank]
        rounds[-1][rank].append(unit)
        filled[rank] += unit.nbytes
    return rounds
