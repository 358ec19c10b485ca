"""Numbers that all processes of one dataset share: its next epoch, and the iteration that began last."""

import multiprocessing
from typing import Any, Final, NamedTuple

from osstorchconnector.process.inherited import Inherited
from osstorchconnector.process.starting import is_starting_process

# One process at a time writes a word. A lock here would be kept by a worker that is killed; `epochs.py` has a file's.
(
    _EPOCH,
    _EPOCH_IS_SET,
    _IS_USED,
    _HAS_WARNED,
    _HAS_BEGUN,
    _LAST_EPOCH,
    _LAST_START,
    _LAST_SKIP,
    _LAST_WORKERS,
    _LAST_ELSEWHERE,
    _WORDS,
) = range(11)
_SIGNED_WORD: Final = "q"


class LastIteration(NamedTuple):
    """The iteration that began last, in any process."""

    epoch: int
    start: int
    #: Positions after the start that its first worker had consumed before.
    skip: int
    #: 0 if no DataLoader worker iterates.
    workers: int
    #: Whether a program around the dataset divides what it delivers.
    divided_elsewhere: bool = False


class SharedState:
    """A few numbers in shared memory.

    A forked worker inherits the memory, a started one gets it in its pickle. So all of them see the same numbers, also
    persistent workers. Any other copy has its own numbers, which begin with the values of these.
    """

    def __init__(self) -> None:
        """Begin with epoch 0."""
        self._words: Any = _allocate([0] * _WORDS)

    @property
    def epoch(self) -> int:
        """The epoch of the next iteration."""
        return int(self._words[_EPOCH])

    @property
    def epoch_is_set(self) -> bool:
        """Whether the program has set this epoch, and no iteration has it yet."""
        return bool(self._words[_EPOCH_IS_SET])

    @property
    def is_used(self) -> bool:
        """Whether an iteration has begun since the epoch was set or loaded last."""
        return bool(self._words[_IS_USED])

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration, as the program wishes."""
        self._words[_EPOCH] = epoch
        self._words[_EPOCH_IS_SET] = 1
        self._words[_IS_USED] = 0

    def load_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration, as a loaded state has it."""
        self._words[_EPOCH] = epoch
        self._words[_IS_USED] = 0

    def pass_on(self, given: int | None, following: int, *, keep: bool) -> None:
        """Set the epoch of the iteration after one that begins.

        Args:
            given: The epoch that the one that begins has of its own, for instance from a state. If the program has set
                another epoch, that one is for the iteration after it.
            following: The epoch of the iteration after it.
            keep: Whether an epoch that the program has set is for the iteration after it in any case.
        """
        if self.epoch_is_set and (keep or given not in {None, self.epoch}):
            return
        self._words[_EPOCH] = following
        self._words[_EPOCH_IS_SET] = 0
        self._words[_IS_USED] = 1

    def warn(self) -> bool:
        """Return whether no process of the dataset has warned yet; from now on one has."""
        has_warned = bool(self._words[_HAS_WARNED])
        self._words[_HAS_WARNED] = 1
        return not has_warned

    def begin(self, iteration: LastIteration) -> None:
        """Note the iteration that begins."""
        self._words[_LAST_EPOCH : _LAST_ELSEWHERE + 1] = iteration
        self._words[_HAS_BEGUN] = 1

    @property
    def last_iteration(self) -> LastIteration | None:
        """The iteration that began last."""
        words = self._words
        if not words[_HAS_BEGUN]:
            return None
        return LastIteration(*words[_LAST_EPOCH : _LAST_ELSEWHERE + 1])

    def __getstate__(self) -> dict[str, Any]:
        """Return the memory if a process is being started, else its content."""
        return {"words": Inherited(self._words) if is_starting_process() else list(self._words)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Use the memory, or begin with its content."""
        words = state["words"]
        self._words = _allocate(words) if isinstance(words, list) else words


def _allocate(values: list[int]) -> Any:  # noqa: ANN401 - a ctypes array
    # The memory is the same for each start method. Naming one here leaves the default for the program to choose.
    return multiprocessing.get_context("spawn").RawArray(_SIGNED_WORD, values)
