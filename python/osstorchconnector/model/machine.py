"""The ranks that load a model together, and the memory that those of one machine share."""

import contextlib
import mmap
import os
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import torch.distributed as dist

from osstorchconnector.dcp.sharing import this_machine
from osstorchconnector.exceptions import OssConfigError, OssError

Value = TypeVar("Value")

_SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - the names in it are random, and belong to this user alone


class Ranks:
    """The ranks that load a model together, and those of them that share memory.

    Attributes:
        group: All of them.
        rank: This rank in it.
        size: How many there are.
        local: The ranks of this machine, in order.
        counts: How many ranks the machines have.
        leaders: The first rank of each machine, in order; without `across`, of this machine alone.
    """

    def __init__(self, group: dist.ProcessGroup | None, *, across: bool) -> None:
        """Ask all ranks which machine they run on. All ranks of the group call this.

        Args:
            group: The ranks; None: the default group.
            across: Machines hand bytes on to each other too.
        """
        self.group = group
        self.rank = dist.get_rank(group)
        self.size = dist.get_world_size(group)
        machines = gathered(f"{this_machine()}/{_folder_id()}", group)
        self.local = [rank for rank, machine in enumerate(machines) if machine == machines[self.rank]]
        self.counts = {machines.count(machine) for machine in machines}
        self._first_of = [machines.index(machine) for machine in machines]
        firsts = list(dict.fromkeys(self._first_of))
        self.leaders = firsts if across else [self.local[0]]

    def leader_of(self, rank: int) -> int:
        """Return the first rank of another rank's machine."""
        return self._first_of[rank]

    @property
    def is_leader(self) -> bool:
        """Whether this is the first rank of its machine."""
        return self.rank == self.local[0]

    def global_rank(self, rank: int) -> int:
        """Return the rank in the default group."""
        return rank if self.group is None else dist.get_global_rank(self.group, rank)


def gathered(value: Any, group: dist.ProcessGroup | None) -> list[Any]:  # noqa: ANN401 - what pickles
    """Return the values of all ranks.

    Raises:
        OssError: A rank has died, or does not answer.
    """
    values: list[Any] = [None] * dist.get_world_size(group)
    try:
        dist.all_gather_object(values, value, group)
    except RuntimeError as error:
        raise OssError(f"rank {dist.get_rank(group)} has lost another rank: {error}") from error
    return values


def together(act: Callable[[], Value], group: dist.ProcessGroup | None) -> Value:
    """Return what a function returns on this rank, if it fails on none.

    Raises:
        Exception: This rank's own failure.
        OssError: Another rank has failed.
    """
    try:
        value = act()
    except Exception as error:
        raise_together(error, group)
        raise
    raise_together(None, group)
    return value


def raise_together(failure: Exception | None, group: dist.ProcessGroup | None) -> None:
    """Raise on all ranks if one has failed.

    Raises:
        Exception: This rank's own failure.
        OssError: Another rank has failed.
    """
    try:
        texts = gathered(None if failure is None else f"{type(failure).__name__}: {failure}", group)
    except OssError as lost:
        raise failure or lost from None
    if failure is not None:
        raise failure
    for rank, text in enumerate(texts):
        if text is not None:
            raise OssError(f"rank {rank} could not load the model, so no rank does: {text}")


def shared_memory(size: int, ranks: Ranks) -> mmap.mmap:
    """Return memory that all ranks of this machine share. It has no name, so that nothing is left if they are killed.

    Raises:
        OssConfigError: There is not enough memory for it, or a rank of the machine cannot open it.
    """
    descriptor, path, failure, memory = -1, "", "", None
    if ranks.is_leader:
        try:
            descriptor, path = tempfile.mkstemp(prefix="osst-model-", dir=_folder())
            os.posix_fallocate(descriptor, 0, size)
        except OSError as error:
            failure = f"{error.strerror or error}"
    try:
        # All ranks take part in this and the next step, whatever happened before it.
        path, failure = gathered((path, failure), ranks.group)[ranks.local[0]]
        if not failure:
            try:
                descriptor = descriptor if descriptor >= 0 else os.open(path, os.O_RDWR | os.O_CLOEXEC)
                memory = mmap.mmap(descriptor, size)
            except OSError as error:
                failure = f"rank {ranks.rank} cannot open it: {error.strerror or error}"
        failures = [text for text in gathered(failure, ranks.group) if text]
        if failures or memory is None:
            raise OssConfigError(
                f"a machine needs {size} bytes of shared memory, and {socket.gethostname()} says: {failures[0]}; give "
                "the container more (--shm-size), or a smaller budget to open_model"
            )
        return memory
    finally:
        if descriptor >= 0:
            os.close(descriptor)
        if ranks.is_leader and path:
            with contextlib.suppress(FileNotFoundError):
                Path(path).unlink()


def _folder() -> Path:
    return _SHARED_MEMORY if os.access(_SHARED_MEMORY, os.W_OK) else Path(tempfile.gettempdir())


def _folder_id() -> str:
    # Containers of one machine may have shared memory of their own.
    return f"{_folder()}/{_folder().stat().st_dev}"
