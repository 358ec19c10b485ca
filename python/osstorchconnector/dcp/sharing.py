"""Reading an item that several ranks of a machine need once, and sending it from one of them to the others."""

import dataclasses
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
import torch.distributed as dist
from torch.distributed.checkpoint.metadata import MetadataIndex
from torch.distributed.checkpoint.planner import LoadPlan

from osstorchconnector._torch.distributed import check_cpu_backend
from osstorchconnector.dcp.fetch import Fetcher, WantedRange
from osstorchconnector.dcp.integrity import describe
from osstorchconnector.dcp.memory import empty_bytes
from osstorchconnector.dcp.stored import StoredItem
from osstorchconnector.exceptions import OssConfigError, OssError, OssIntegrityError

_FAILED: Final = 0
_READ: Final = 1


@dataclasses.dataclass(frozen=True)
class RankInfo:
    """What a rank sends to the coordinator with its plan.

    Attributes:
        save_id: The save that the rank reads; None if the metadata does not name it.
        machine: The machine that the rank runs on; None if it does not share items.
    """

    save_id: str | None
    machine: str | None


def this_machine() -> str:
    """Return a name of this machine, the same in all its containers."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return socket.gethostname()


def check_one_save(plans: Sequence[LoadPlan], uri: str) -> None:
    """Check that all ranks read the same metadata. A save that ends meanwhile may replace the metadata.

    Raises:
        OssIntegrityError: The ranks read different metadata.
    """
    ids = {
        rank: plan.storage_data.save_id for rank, plan in enumerate(plans) if isinstance(plan.storage_data, RankInfo)
    }
    if len(set(ids.values())) > 1:
        raise OssIntegrityError(
            f"the checkpoint at {uri} was replaced while it was loaded, so the ranks read different saves "
            f"({describe([f'rank {rank}: {save_id}' for rank, save_id in ids.items()])}); load it again"
        )


@dataclasses.dataclass(frozen=True)
class SharedItem:
    """An item that one rank, the owner, reads for the receivers too."""

    file: str
    offset: int
    name: str
    length: int
    owner: int
    receivers: tuple[int, ...]

    @property
    def key(self) -> tuple[str, int, str]:
        """What tells the item apart from others: its file, offset and name."""
        return self.file, self.offset, self.name


def check_group(group: dist.ProcessGroup | None, needed_by: str) -> None:
    """Check that a process group can send main memory.

    Args:
        group: The group; None: the default group.
        needed_by: The argument that needs it, for the message.

    Raises:
        OssConfigError: The group has no backend for the CPU.
    """
    try:
        check_cpu_backend(group)
    except (AttributeError, RuntimeError) as error:
        raise OssConfigError(
            f"{needed_by} needs a process group with a backend for the CPU: "
            "init_process_group('cpu:gloo,cuda:nccl'), or process_group=dist.new_group(backend='gloo')"
        ) from error


def share(plans: Sequence[LoadPlan], storage_data: Mapping[MetadataIndex, Any]) -> list[LoadPlan]:
    """Return the plans, each with the items that its rank sends or receives, in the same order on all ranks.

    Args:
        plans: The plan of each rank, with its :class:`RankInfo`.
        storage_data: torch's description of where each item is.
    """
    wanted: dict[tuple[str, MetadataIndex], list[int]] = {}
    for rank, plan in enumerate(plans):
        if isinstance(plan.storage_data, RankInfo) and plan.storage_data.machine is not None:
            for index in dict.fromkeys(item.storage_index for item in plan.items):
                wanted.setdefault((plan.storage_data.machine, index), []).append(rank)
    loads = [0] * len(plans)
    shared: list[SharedItem] = []
    for (_, index), ranks in wanted.items():
        info = storage_data[index]
        if len(ranks) > 1 and info.length:
            owner = min(ranks, key=loads.__getitem__)
            loads[owner] += info.length
            receivers = tuple(rank for rank in ranks if rank != owner)
            shared.append(SharedItem(info.relative_path, info.offset, index.fqn, info.length, owner, receivers))
    # All ranks process their items in this order, so no two ranks wait for each other.
    shared.sort(key=lambda item: (item.file, item.offset, item.name, item.owner))
    return [
        dataclasses.replace(plan, storage_data=[item for item in shared if rank in {item.owner, *item.receivers}])
        for rank, plan in enumerate(plans)
    ]


class Exchange:
    """One rank's part in reading shared items.

    A rank that fails continues to the end: it reports the failure to the receivers of each of its items.
    """

    def __init__(
        self,
        group: dist.ProcessGroup | None,
        fetcher: Fetcher,
        budget: int,
        deliver: Callable[[StoredItem, memoryview], None],
    ) -> None:
        """Remember how items are read and delivered."""
        self._group = group
        self._rank = dist.get_rank(group)
        self._fetcher = fetcher
        self._budget = budget
        self._deliver = deliver
        self._failure: Exception | None = None

    def run(self, shared: Sequence[SharedItem], items: Mapping[tuple[str, int, str], StoredItem]) -> None:
        """Read, send and receive the shared items.

        Raises:
            OssError: This rank, or the owner of an item, could not read the item.
        """
        for batch in self._batches(shared):
            read = self._read([items[item.key] for item in batch if item.owner == self._rank])
            for item in batch:
                memory = self._send(item, read) if item.owner == self._rank else self._receive(item)
                if memory is not None and self._failure is None:
                    try:
                        self._deliver(items[item.key], memory)
                    except Exception as error:  # noqa: BLE001 - raised at the end, when no rank waits any more
                        self._failure = error
        if self._failure is not None:
            raise self._failure

    def _batches(self, shared: Sequence[SharedItem]) -> Iterator[list[SharedItem]]:
        batch: list[SharedItem] = []
        size = 0
        for item in shared:
            cost = item.length if item.owner == self._rank else 0
            if batch and size + cost > self._budget:
                yield batch
                batch, size = [], 0
            batch.append(item)
            size += cost
        if batch:
            yield batch

    def _read(self, items: Sequence[StoredItem]) -> dict[tuple[str, int, str], memoryview]:
        if self._failure is not None:
            return {}
        read = {(item.file, item.offset, item.name): empty_bytes(item.length) for item in items}
        ranges = [
            WantedRange(
                item.file,
                item.offset,
                item.length,
                item.name,
                lambda _: None,
                read[item.file, item.offset, item.name],
                item.crc,
            )
            for item in items
        ]
        try:
            self._fetcher.run([ranges])
        except Exception as error:  # noqa: BLE001 - as above
            self._failure = error
            return {}
        return read

    def _send(self, item: SharedItem, read: dict[tuple[str, int, str], memoryview]) -> memoryview | None:
        memory = read.pop(item.key, None)
        for receiver in item.receivers:
            dist.send(torch.tensor([_FAILED if memory is None else _READ]), self._global(receiver), self._group)
            if memory is not None:
                dist.send(torch.frombuffer(memory, dtype=torch.uint8), self._global(receiver), self._group)
        return memory

    def _receive(self, item: SharedItem) -> memoryview | None:
        status = torch.tensor([_FAILED])
        dist.recv(status, self._global(item.owner), self._group)
        if status.item() == _FAILED:
            if self._failure is None:
                self._failure = OssError(
                    f"rank {item.owner} could not read {item.name!r} in {item.file} for this rank: see its own error"
                )
            return None
        memory = empty_bytes(item.length)
        dist.recv(torch.frombuffer(memory, dtype=torch.uint8), self._global(item.owner), self._group)
        return memory

    def _global(self, rank: int) -> int:
        return rank if self._group is None else dist.get_global_rank(self._group, rank)
