"""The batches that torch has already assigned to this worker of a ``DataLoader``, before the worker asks for them.

A worker's loop takes one batch at a time from its index queue, and torch puts the next one in while the loop fetches.
Here a thread takes the batches from the queue at once, tells who wants to know, and hands them to the loop.

| name of torch | versions |
| --- | --- |
| ``torch.utils.data._utils.worker._worker_loop``, its variables ``dataset``, ``index``, ``index_queue``, ``r`` | all \
since 2.6 |
| ``torchdata.stateful_dataloader.worker._worker_loop``, with the same variables | all since 0.11.0 |
"""

import contextlib
import os
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final

from torch.utils.data import Subset

from osstorchconnector._torch.loader_worker import variable

Listener = Callable[[Sequence[Any], bool], None]


def announce_batches(indices: Sequence[Any], listener: Listener) -> bool:
    """Have a listener called with each batch of this worker as soon as torch has assigned it.

    The listener is called in another thread, and before the loop of the worker gets the batch.

    Args:
        indices: The batch that the dataset was asked for just now.
        listener: Gets the indices as the dataset will get them, and whether the loop waits for them. What it raises is
            dropped.

    Returns:
        Whether it will be called: not if this process is no worker, or if what lies between loader and dataset changes
        the indices in an unknown way.
    """
    message, asked = variable("r"), variable("index")
    if not isinstance(message, tuple) or asked is None:
        return False
    # The loop of a stateful loader gets a flag beside the indices.
    nested = message[1] is not asked
    dataset = variable("dataset")
    if _indices(message, nested=nested) is not asked or not _same(_translated(dataset, asked), indices):
        return False

    def hear(message: Any, waits: bool) -> None:  # noqa: ANN401, FBT001 - torch's message
        listener(_translated(dataset, _indices(message, nested=nested)), waits)

    pump = _pumps.get(os.getpid())
    if pump is None:
        _pumps[os.getpid()] = _Pump(variable("index_queue"), hear)
    else:
        # Another dataset of this worker takes over.
        pump.hear = hear
    return True


def _indices(message: Any, *, nested: bool) -> Any:  # noqa: ANN401 - torch's
    return message[1][0] if nested and isinstance(message[1], tuple) else message[1]


def _translated(dataset: object, indices: Any) -> Any:  # noqa: ANN401 - the sampler decides
    """Return the indices that subsets make of a loader's indices."""
    while isinstance(dataset, Subset):
        kept = dataset.indices
        indices = [kept[index] for index in indices]
        dataset = dataset.dataset
    return indices


def _same(translated: Any, indices: Sequence[Any]) -> bool:  # noqa: ANN401 - the sampler decides
    try:
        return list(translated) == list(indices)
    except (TypeError, ValueError, RuntimeError):
        # One index instead of several, or elements that cannot be compared.
        return False


class _Pump:
    """Takes the messages from an index queue as they come, and stands before it."""

    def __init__(self, index_queue: Any, hear: Callable[[Any, bool], None]) -> None:  # noqa: ANN401 - torch's
        self.hear = hear
        self._taken: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
        self._take: Final = index_queue.get
        self._loop_waits = False
        index_queue.get = self._get
        # A daemon, because torch's last message may never come.
        threading.Thread(target=self._run, name="osst-batches", daemon=True).start()

    def _run(self) -> None:
        message: Any = ()
        while message is not None:
            try:
                message = self._take()
            except BaseException as error:  # noqa: BLE001 - the loop raises it
                self._taken.put((None, error))
                return
            if isinstance(message, tuple):
                self._tell(message)
            self._taken.put((message, None))

    def _tell(self, message: tuple[Any, ...]) -> None:
        waits, self._loop_waits = self._loop_waits, False
        # The batch fails at its place.
        with contextlib.suppress(Exception):
            self.hear(message, waits)

    def _get(self, block: bool = True, timeout: float | None = None) -> Any:  # noqa: ANN401, FBT001, FBT002 - torch's
        self._loop_waits = self._taken.empty()
        message, error = self._taken.get(block, timeout)
        if error is not None:
            raise error
        return message


# By process: a worker has one index queue.
_pumps: Final[dict[int, _Pump]] = {}
