"""The share of a dataset that this rank reads."""

import logging
import os
import sys
from typing import Any, Final, Literal

from osstorchconnector.exceptions import OssConfigError
from osstorchconnector.process.starting import is_starting_process
from osstorchconnector.process.worker import WHOLE, Share, worker_share

_logger: Final = logging.getLogger(__name__)

_warned_of_environment = False


class RankShare:
    """The share of this rank, resolved in the process that owns the loader.

    A forked worker inherits the process group. A started worker knows no group, so it gets the share in its pickle.
    """

    def __init__(self, shard: Literal["auto"] | tuple[int, int] | None, process_group: object) -> None:
        """Hold the options."""
        self._shard = shard
        self._process_group = process_group

    def resolve(self) -> Share:
        """Return the share, by the process group as it is now."""
        match self._shard:
            case "auto":
                return self._of_group()
            case None:
                return WHOLE
            case index, count:
                return Share(index, count)

    def _of_group(self) -> Share:
        # A program that made a process group has imported this module.
        distributed = sys.modules.get("torch.distributed")
        if distributed is not None and distributed.is_available() and distributed.is_initialized():
            index = distributed.get_rank(self._process_group)
            if index < 0:
                raise OssConfigError(
                    "this process is not in the dataset's process_group, so it has no share: iterate in its ranks only"
                )
            return Share(index, distributed.get_world_size(self._process_group))
        _warn_of_environment()
        return WHOLE

    def __getstate__(self) -> dict[str, Any]:
        """Return the share itself if a process is being started, else the options.

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
    if _warned_of_environment or (worker_share() or WHOLE).index > 0:
        return
    world_size = os.environ.get("WORLD_SIZE", "")
    if world_size.isdigit() and int(world_size) > 1:
        _warned_of_environment = True
        _logger.warning(
            "WORLD_SIZE is %s, but torch.distributed is not initialized, so this process reads the whole dataset: call "
            "torch.distributed.init_process_group first, or give shard=(index, count); shard=None if this is intended",
            world_size,
        )
