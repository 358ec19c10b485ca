"""Which share of a dataset this process reads."""

import logging
import os
import sys
from typing import Any, Final, Literal

from osstorchconnector.exceptions import OssConfigError
from osstorchconnector.process.starting import is_starting_process
from osstorchconnector.process.worker import WHOLE, Shard, worker_shard

_logger: Final = logging.getLogger(__name__)

_warned_of_environment = False


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
        if is_starting_process():
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
        _logger.warning(
            "WORLD_SIZE is %s, but torch.distributed is not initialized, so this process reads the whole dataset: call "
            "torch.distributed.init_process_group first, or give shard=(index, count), or shard=None if this is meant",
            world_size,
        )
