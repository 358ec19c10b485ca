"""Which epoch an iteration has: the next one, decided once for all its workers."""

import fcntl
import itertools
import os
import sys
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from osstorchconnector._torch.loader_worker import loader_number
from osstorchconnector.dataset.private_directory import PrivateDirectory
from osstorchconnector.dataset.shared_state import SharedState
from osstorchconnector.dataset.state import ResumePoint
from osstorchconnector.exceptions import OssConfigError
from osstorchconnector.process.owner import Owner, PerProcess
from osstorchconnector.process.starting import is_starting_process
from osstorchconnector.process.worker import loader_iterator

_FILE: Final = "epochs"
#: A worker may be late by so many iterations and still find the epoch of its own.
_REMEMBERED: Final = 64
_LAST_EPOCH: Final = (1 << 63) - 1

_SEVERAL: Final = (
    "this is one of several processes, and nothing proves that all of them are at the same epoch, so the epoch does "
    "not advance by itself: the shuffle of epoch {epoch} is repeated. Call dataset.set_epoch(epoch) before each epoch; "
    "if the repetition is intended, build the dataset with advance_epochs=False"
)
_UNKNOWN: Final = (
    "the workers of this loader cannot agree on the next epoch, because its iterator cannot be identified or TMPDIR "
    "has no file locks, so the epoch does not advance by itself: the shuffle of epoch {epoch} is repeated. Call "
    "dataset.set_epoch(epoch) before each epoch; if the repetition is intended, build the dataset with "
    "advance_epochs=False"
)


@dataclass(frozen=True, slots=True)
class IterationName:
    """The name of an iteration: all its workers know it, and no other iteration has it.

    Attributes:
        name: A text for a file.
        certain: Whether it is known that no other iteration has it.
    """

    name: str
    certain: bool = True


class _Count:
    """How many iterations of a dataset this process has begun."""

    def __init__(self) -> None:
        self.token: Final = uuid.uuid4().hex
        # Threads may begin iterations at once, and `next` of this is atomic.
        self.numbers: Final = itertools.count()
        self.upcoming = 0

    def take(self) -> int:
        number = next(self.numbers)
        self.upcoming = number + 1
        return number


class Epochs:
    """The epochs of one dataset, in all its processes.

    An iteration without workers has a name by its process, and with workers by the loader's iterator; each name gets
    the next epoch. The process that first asks for a name's epoch decides it, under a lock of the private directory,
    and the other workers find it there. The kernel releases the lock of a worker that is killed.
    """

    def __init__(self, directory: PrivateDirectory, shared: SharedState, *, advance: bool, shuffles: bool) -> None:
        """Hold the parts.

        Args:
            directory: The place at which the processes meet.
            shared: Holds the epoch of the next iteration.
            advance: Whether the epoch advances by itself.
            shuffles: Whether the epoch decides the order.
        """
        self._directory = directory
        self._shared = shared
        self._advance = advance
        self._shuffles = shuffles
        self._counts: PerProcess[_Count] = PerProcess()
        # What `set_epoch` set in a worker.
        self._own: tuple[Owner, int] | None = None
        # Whether the process that started this one is one of several.
        self._started_by_one_of_several = False

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration; in a worker, of the next iteration of this worker."""
        if loader_iterator() is not None:
            # Others may be an epoch behind.
            self._own = Owner(), epoch
            return
        with self._lock():
            self._shared.set_epoch(epoch)

    def load_epoch(self, epoch: int) -> None:
        """Take over the epoch of a state that was loaded, unless the program has set the epoch of the next one."""
        with self._lock():
            if not self._shared.epoch_is_set:
                self._shared.load_epoch(epoch)

    def next_name(self) -> IterationName:
        """Return the name of the iteration that begins here."""
        return self._named(self._counts.get(_Count).take())

    def upcoming(self, ranks: int) -> int:
        """Return the epoch that the next iteration of this process has."""
        if loader_iterator() is None:
            return self._shared.epoch
        if self._own is not None and self._own[0].is_this_process():
            return self._own[1]
        return self._decide(self._named(self._counts.get(_Count).upcoming), None, ranks)

    def begin(self, iteration: IterationName, resumed: ResumePoint | None, ranks: int) -> int:
        """Return the epoch of an iteration that begins.

        Args:
            iteration: Its name.
            resumed: The state that it resumes from, if it does.
            ranks: How many ranks share the objects.
        """
        own, self._own = self._own, None
        given = None if resumed is None else resumed.order.epoch
        if given is None and own is not None and own[0].is_this_process():
            given = own[1]
        # If nothing is left in the state's epoch, the epoch that the program has set is for the next iteration.
        return self._decide(iteration, given, ranks, keep=resumed is not None and resumed.finished)

    def is_one_of_several(self, ranks: int) -> bool:
        """Return whether this process has others beside it, as far as the dataset and torch know."""
        return ranks > 1 or self._is_one_of_several()

    def _named(self, number: int) -> IterationName:
        worker = loader_iterator()
        if worker is None:
            return IterationName(f"process-{self._counts.get(_Count).token}-{number}")
        loader = loader_number()
        if loader is None:
            return IterationName(f"seed-{worker}", certain=False)
        return IterationName(f"loader-{loader}-{number}")

    def _decide(self, iteration: IterationName, given: int | None, ranks: int, *, keep: bool = False) -> int:
        if not iteration.certain:
            return self._decide_alone(given)
        several = self.is_one_of_several(ranks)
        advances = self._advance and not several
        with self._lock() as file:
            if file is None and loader_iterator() is not None:
                # Its other workers cannot be asked.
                return self._decide_alone(given)
            known = {} if file is None else _read(file)
            if iteration.name in known:
                return known[iteration.name] if given is None else given
            epoch = self._shared.epoch if given is None else given
            is_repeated = several and self._shared.is_used
            # A process that is killed between these two leaves an epoch out; the other order would repeat one.
            self._shared.pass_on(given, min(epoch + 1, _LAST_EPOCH) if advances else epoch, keep=keep)
            if file is not None:
                with self._directory.written():
                    _append(file, known, iteration.name, epoch)
        if is_repeated:
            self._warn(_SEVERAL, epoch)
        return epoch

    def _decide_alone(self, given: int | None) -> int:
        if given is not None:
            self.load_epoch(given)
            return given
        epoch = self._shared.epoch
        self._warn(_UNKNOWN, epoch)
        return epoch

    def _is_one_of_several(self) -> bool:
        # A program that made a process group has imported this module.
        distributed = sys.modules.get("torch.distributed")
        if distributed is not None and distributed.is_available() and distributed.is_initialized():
            return bool(distributed.get_world_size() > 1)
        world_size = os.environ.get("WORLD_SIZE", "")
        return self._started_by_one_of_several or (world_size.isdigit() and int(world_size) > 1)

    def _warn(self, text: str, epoch: int) -> None:
        if self._advance and self._shuffles and self._shared.warn():
            # The loop that reads is further up; its depth is not known here.
            warnings.warn(text.format(epoch=epoch), stacklevel=2)

    @contextmanager
    def _lock(self) -> Iterator[int | None]:
        """Hold the lock, and yield its file; None if there can be none, as in some network file systems."""
        try:
            with self._directory.written() as directory:
                file = os.open(directory / _FILE, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
                try:
                    fcntl.flock(file, fcntl.LOCK_EX)
                except BaseException:
                    os.close(file)
                    raise
        except OssConfigError:
            yield None
            return
        try:
            yield file
        finally:
            # A process that is forked meanwhile has the file too, so closing it would not release the lock.
            fcntl.flock(file, fcntl.LOCK_UN)
            os.close(file)

    def __getstate__(self) -> dict[str, Any]:
        """Return the parts; a process that is started does not know the process group."""
        several = is_starting_process() and self._is_one_of_several()
        return {**self.__dict__, "_counts": PerProcess(), "_own": None, "_started_by_one_of_several": several}


def _read(file: int) -> dict[str, int]:
    # A process that is killed may leave half a line.
    lines = os.pread(file, os.fstat(file).st_size, 0).decode("ascii").split("\n")[:-1]
    return {name: int(epoch) for name, _, epoch in (line.rpartition(" ") for line in lines)}


def _append(file: int, known: dict[str, int], name: str, epoch: int) -> None:
    text = f"{name} {epoch}\n"
    if len(known) >= 2 * _REMEMBERED:
        os.ftruncate(file, 0)
        text = "".join(f"{old} {its}\n" for old, its in list(known.items())[-_REMEMBERED:]) + text
    os.write(file, text.encode("ascii"))
