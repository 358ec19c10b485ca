"""The share of a dataset that a reader delivers: that of its rank, and in it that of its worker."""

import logging
import os
import sys
from typing import Any, Final, Literal, NamedTuple, Self

from osstorchconnector.dataset.dividers import Division, division_of_stack
from osstorchconnector.exceptions import OssConfigError
from osstorchconnector.process.starting import is_starting_process
from osstorchconnector.process.worker import WHOLE, Share, worker_share

_logger: Final = logging.getLogger(__name__)

_NOBODY: Final = Division()
# One warning of each kind for each process.
_warned_of: Final[set[str]] = set()


class ReaderShare(NamedTuple):
    """What one reader delivers.

    Attributes:
        rank: The share of its rank.
        worker: Its share of the rank's objects.
        division: Which programs around the dataset divide.
        divided_elsewhere: Whether a program divides what the dataset delivers, so that the samples which a rank gets do
            not say how far the dataset is.
    """

    rank: Share
    worker: Share
    division: Division
    divided_elsewhere: bool


class _Inherited(NamedTuple):
    """What a started process knows from the process that started it."""

    share: Share
    world: int
    #: Whether the share is that of a group of the program's own, which the started process cannot have.
    of_own_group: bool
    division: Division


class RankShare:
    """The share of this rank, resolved in the process that owns the loader, and in it the share of this worker.

    A forked worker inherits the process group. A started worker knows no group, so it gets the share in its pickle.
    """

    def __init__(
        self,
        shard: Literal["auto", "ranks"] | tuple[int, int] | None,
        process_group: object,
        split_workers: Literal["auto"] | bool = "auto",  # noqa: FBT001 - as the option
    ) -> None:
        """Hold the options."""
        self._shard = shard
        self._process_group = process_group
        self._split_workers = split_workers
        self._inherited: _Inherited | None = None

    @property
    def process_group(self) -> object:
        """The group whose ranks share the objects; None is the whole world."""
        return self._process_group

    def resolve(self) -> Share:
        """Return the share of this rank as it is now."""
        return self.reader().rank

    def reader(self, known: Division = _NOBODY) -> ReaderShare:
        """Return the share of this reader, by the process group and the programs around the dataset as they are now.

        Args:
            known: Programs that were found before.

        Raises:
            OssConfigError: The dataset cannot know who divides.
        """
        worker = worker_share() or WHOLE
        world = self._world()
        division = known
        if world > 1 or worker.count > 1:
            undecided = (self._shard == "auto" and world > 1) or (self._split_workers == "auto" and worker.count > 1)
            division = division.joined(self._found(world, undecided=undecided))
        if self._inherited is not None:
            division = division.joined(self._inherited.division)
        rank = self._rank(world, division)
        split = self._split(worker, division)
        if rank.count > 1 and division.ranks and worker.index == 0:
            _warn_once(
                f"{division.ranks} divides the samples among the ranks, and shard={self._shard!r} divides them too, so "
                "a part of them is delivered; to divide once, leave out shard="
            )
        if split.count > 1 and division.workers and worker.index == 0:
            _warn_once(
                f"{division.workers} divides the samples among the workers, and split_workers=True divides them too, "
                "so a part of them is delivered; to divide once, leave out split_workers="
            )
        return ReaderShare(rank, split, division, bool(division.ranks) or split.count < worker.count)

    def confirmed(self, share: ReaderShare) -> ReaderShare:
        """Return the share when the first object is asked for; it is the same, unless a program divides only now.

        Raises:
            OssConfigError: The dataset cannot know who divides, or this rank must not read.
        """
        now = self.reader(share.division)
        if not now.division.reads:
            raise OssConfigError(
                f"{now.division.ranks} reads on one rank for all, but it asks another rank too: give shard=None, "
                "shard='ranks' or shard=(index, count)"
            )
        return share if (now.rank, now.worker) == (share.rank, share.worker) else now

    def _found(self, world: int, *, undecided: bool) -> Division:
        try:
            return division_of_stack(world)
        except OssConfigError:
            # The program has said who divides.
            if undecided:
                raise
            return _NOBODY

    def _rank(self, world: int, division: Division) -> Share:
        match self._shard:
            case "auto":
                share = self._of_group()
                if share.count > 1 and division.ranks:
                    return WHOLE
                if share.count > 1 and division.rank_user:
                    raise OssConfigError(
                        f"the dataset cannot know whether {division.rank_user} divides the samples among the ranks, "
                        "because it uses the rank: give shard=None if it does, shard='ranks' if not"
                    )
                return share
            case "ranks":
                return self._of_group()
            case None:
                if world > 1 and not division.ranks and (worker_share() or WHOLE).index == 0:
                    _warn_once(
                        f"with shard=None each of the {world} ranks reads all objects, and no program is known to "
                        "divide them; if they shall be divided, leave out shard="
                    )
                return WHOLE
            case index, count:
                return Share(index, count)

    def _split(self, worker: Share, division: Division) -> Share:
        if worker.count == 1 or self._split_workers is True:
            return worker
        if self._split_workers is False or division.workers:
            return WHOLE
        if division.worker_user:
            raise OssConfigError(
                f"the dataset cannot know whether {division.worker_user} divides the samples among the workers, "
                "because it asks for the worker: give split_workers=False if it does, split_workers=True if not"
            )
        return worker

    def _world(self) -> int:
        distributed = _distributed()
        if distributed is not None:
            return int(distributed.get_world_size())
        return 1 if self._inherited is None else self._inherited.world

    def _of_group(self) -> Share:
        inherited = self._inherited
        distributed = _distributed()
        if inherited is not None and (distributed is None or inherited.of_own_group):
            return inherited.share
        if distributed is not None:
            index = distributed.get_rank(self._process_group)
            if index < 0:
                raise OssConfigError(
                    "this process is not in the dataset's process_group, so it has no share: iterate in its ranks only"
                )
            return Share(index, distributed.get_world_size(self._process_group))
        _warn_of_environment()
        return WHOLE

    def __getstate__(self) -> dict[str, Any]:
        """Return the options; if a process is being started, also what it cannot know by itself.

        Raises:
            OssConfigError: There is a process group, which no other process knows.
        """
        if is_starting_process():
            share = self._of_group() if self._shard in {"auto", "ranks"} else WHOLE
            world = self._world()
            inherited = _NOBODY if self._inherited is None else self._inherited.division
            found = self._found(world, undecided=self._shard == "auto") if world > 1 else _NOBODY
            # The workers and the functions around the dataset are those of the started process.
            division = found.joined(inherited)._replace(workers="", rank_user="", worker_user="")
            own = self._process_group is not None or (self._inherited is not None and self._inherited.of_own_group)
            state = {**self.__dict__, "_process_group": None}
            return {**state, "_inherited": _Inherited(share, world, own, division)}
        if self._process_group is not None:
            raise OssConfigError("a dataset with a process_group does not pickle: give shard=(index, count) instead")
        return self.__dict__

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return it itself, because nothing of it changes; a copy of the dataset has the same process group."""
        return self


def _distributed() -> Any:  # noqa: ANN401 - torch's module
    # A program that made a process group has imported this module.
    distributed = sys.modules.get("torch.distributed")
    return distributed if distributed and distributed.is_available() and distributed.is_initialized() else None


def _warn_once(message: str) -> None:
    if message not in _warned_of:
        _warned_of.add(message)
        _logger.warning(message)


def _warn_of_environment() -> None:
    world_size = os.environ.get("WORLD_SIZE", "")
    if (worker_share() or WHOLE).index == 0 and world_size.isdigit() and int(world_size) > 1:
        _warn_once(
            f"WORLD_SIZE is {world_size}, but torch.distributed is not initialized, so this process reads the whole "
            "dataset: call torch.distributed.init_process_group first, or give shard=(index, count); shard=None if "
            "this is intended"
        )
