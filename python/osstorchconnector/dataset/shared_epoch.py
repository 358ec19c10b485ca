"""What the processes of one dataset share: its epoch, and which iteration began last."""

import multiprocessing
from typing import Any, Final, NamedTuple

from osstorchconnector.process.starting import is_starting_process

# Single words, each written by one process at a time: no lock, since a worker that is killed would keep it.
_EPOCH, _EPOCH_SET, _BEGUN, _BEGUN_EPOCH, _BEGUN_START, _BEGUN_SKIP, _BEGUN_WORKERS, _WORDS = range(8)
_SIGNED_WORD: Final = "q"


class Begun(NamedTuple):
    """The iteration that began last, in whichever process."""

    epoch: int
    start: int
    #: Positions behind the start that its first worker had consumed before.
    skip: int
    #: 0 where no DataLoader worker iterates.
    workers: int


class SharedState:
    """A few numbers in shared memory.

    Forked workers inherit the memory, started ones get it in the pickle that starts them, so that all see the same
    numbers, also workers that persist. Any other copy has numbers of its own, which begin as these are.
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
            explicitly: Whether the program says so, not a state that was loaded.
        """
        self._words[_EPOCH] = epoch
        if explicitly:
            self._words[_EPOCH_SET] = 1

    def begin(self, begun: Begun) -> None:
        """Note the iteration that begins."""
        self._words[_BEGUN_EPOCH : _BEGUN_WORKERS + 1] = begun
        self._words[_BEGUN] = 1

    @property
    def begun(self) -> Begun | None:
        """The iteration that began last."""
        words = self._words
        if not words[_BEGUN]:
            return None
        return Begun(*words[_BEGUN_EPOCH : _BEGUN_WORKERS + 1])

    def __getstate__(self) -> dict[str, Any]:
        """Return the memory for a process that is being started, else its content."""
        return {"words": self._words if is_starting_process() else list(self._words)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Use the memory, or begin with its content."""
        words = state["words"]
        self._words = _allocate(words) if isinstance(words, list) else words


def _allocate(values: list[int]) -> Any:  # noqa: ANN401 - a ctypes array
    # The start method makes no difference to the memory, and naming one leaves the program's choice open.
    return multiprocessing.get_context("spawn").RawArray(_SIGNED_WORD, values)
