"""Which share of a dataset this process reads."""

import os
import sys
from dataclasses import dataclass
from typing import Any, Final, Literal

from osstorchconnector.connection.log import LOGGER
from osstorchconnector.exceptions import OssConfigError


@dataclass(frozen=True, slots=True)
class Shard:
    """One of several readers that share a dataset."""

    index: int
    count: int


WHOLE: Final = Shard(0, 1)

_warned_of_environment = False


def worker_shard() -> Shard | None:
    """Return the share of the DataLoader worker this is called in, or None outside of one.

    It is asked for when an iteration starts, since a dataset may be built long before its workers.
    """
    worker = _worker_info()
    return None if worker is None else Shard(worker.id, worker.num_workers)


def loader_iterator() -> int | None:
    """Return a number that the workers of one DataLoader iterator share, or None outside of a worker."""
    worker = _worker_info()
    return None if worker is None else int(worker.seed - worker.id)


def _worker_info() -> Any:  # noqa: ANN401 - torch's
    # A process that never imported torch is no DataLoader worker, and importing it takes seconds.
    torch_data = sys.modules.get("torch.utils.data")
    return torch_data.get_worker_info() if torch_data is not None else None


class RankShard:
    """The share of this rank, resolved in the process that owns the loader.

    A forked worker inherits the process group; one that is spawned knows none, so it is told the share in the pickle
    that starts it.
    """

    def __init__(self, shard: Literal["auto"] | tuple[int, int] | None, process_group: object) -> None:
        """Hold what the options say."""
        self._shard = shard
        self._process_group = process_group

    def resolve(self) -> Shard:
        """Return the share as it is now."""
        match self._shard:
            case "auto":
                return self._of_group()
            case None:
                return WHOLE
            case index, count:
                return Shard(index, count)

    def _of_group(self) -> Shard:
        # Whoever made a process group has imported it.
        distributed = sys.modules.get("torch.distributed")
        if distributed is not None and distributed.is_available() and distributed.is_initialized():
            index = distributed.get_rank(self._process_group)
            if index < 0:
                raise OssConfigError("this process is not in the dataset's process_group: it has no share")
            return Shard(index, distributed.get_world_size(self._process_group))
        _warn_of_environment()
        return WHOLE

    def __getstate__(self) -> dict[str, Any]:
        """Return the resolved share for a process that is being started, else what the options say.

        Raises:
            OssConfigError: There is a process group, which no other process knows.
        """
        from multiprocessing.context import get_spawning_popen  # noqa: PLC0415 - it takes 10 ms to import

        if get_spawning_popen() is not None:
            share = self.resolve()
            return {"_shard": (share.index, share.count), "_process_group": None}
        if self._process_group is not None:
            raise OssConfigError("a dataset with a process_group does not pickle: give shard=(index, count) instead")
        return self.__dict__


def _warn_of_environment() -> None:
    global _warned_of_environment  # noqa: PLW0603 - once per process
    if _warned_of_environment or (worker_shard() or WHOLE).index > 0:
        return
    world_size = os.environ.get("WORLD_SIZE", "")
    if world_size.isdigit() and int(world_size) > 1:
        _warned_of_environment = True
        LOGGER.warning(
            "WORLD_SIZE is %s, but torch.distributed is not initialized, so this process reads the whole dataset: call "
            "torch.distributed.init_process_group first, or give shard=(index, count), or shard=None if this is meant",
            world_size,
        )
