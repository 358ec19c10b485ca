"""Numbers that all processes of one dataset share: its epoch, and the iteration that began last."""

import multiprocessing
from typing import Any, Final, NamedTuple

from osstorchconnector.process.starting import is_starting_process

# One process at a time writes a word. There is no lock, because a worker that is killed would keep it.
_EPOCH, _EPOCH_SET, _HAS_BEGUN, _LAST_EPOCH, _LAST_START, _LAST_SKIP, _LAST_WORKERS, _WORDS = range(8)
_SIGNED_WORD: Final = "q"


class LastIteration(NamedTuple):
    """The iteration that began last, in any process."""

    epoch: int
    start: int
    #: Positions behind the start that its first worker had consumed before.
    skip: int
    #: 0 if no DataLoader worker iterates.
    workers: int


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
    def epoch_was_set(self) -> bool:
        """Whether :meth:`set_epoch` was called."""
        return bool(self._words[_EPOCH_SET])

    def set_epoch(self, epoch: int, *, explicitly: bool) -> None:
        """Set the epoch of the iterations that follow.

        Args:
            epoch: The epoch.
            explicitly: Whether the program sets it; a loaded state sets it too.
        """
        self._words[_EPOCH] = epoch
        if explicitly:
            self._words[_EPOCH_SET] = 1

    def begin(self, iteration: LastIteration) -> None:
        """Note the iteration that begins."""
        self._words[_LAST_EPOCH : _LAST_WORKERS + 1] = iteration
        self._words[_HAS_BEGUN] = 1

    @property
    def last_iteration(self) -> LastIteration | None:
        """The iteration that began last."""
        words = self._words
        if not words[_HAS_BEGUN]:
            return None
        return LastIteration(*words[_LAST_EPOCH : _LAST_WORKERS + 1])

    def __getstate__(self) -> dict[str, Any]:
        """Return the memory if a process is being started, else its content."""
        return {"words": self._words if is_starting_process() else list(self._words)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Use the memory, or begin with its content."""
        words = state["words"]
        self._words = _allocate(words) if isinstance(words, list) else words


def _allocate(values: list[int]) -> Any:  # noqa: ANN401 - a ctypes array
    # The memory is the same for each start method. Naming one here leaves the default for the program to choose.
    return multiprocessing.get_context("spawn").RawArray(_SIGNED_WORD, values)
