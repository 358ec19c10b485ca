"""Which iterator of a ``DataLoader`` this worker process belongs to.

| name of torch | versions |
| --- | --- |
| ``torch.utils.data._utils.worker._worker_loop``, and its variables | all since 2.6 |
| the variables: ``data_queue``, ``fetcher``, ``init_fn``, ``r`` | all since 2.6 |
| ``torchdata.stateful_dataloader.worker._worker_loop``, with the same variables | all since 0.11.0 |
| ``torch.utils.data._utils.worker._ResumeIteration`` | all since 2.6 |
"""

import os
import stat
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any, Final

from torch.utils.data._utils.worker import _ResumeIteration

_LOOP: Final = "_worker_loop"
# By process: a worker process serves one iterator of a loader; persistent workers serve one after the other.
_numbers: dict[int, str | None] = {}


def loader_number() -> str | None:
    """Return what identifies the loader's iterator: the pipe of its results, which all its workers share.

    No seed identifies it, because programs may seed torch for each epoch with the same number. Persistent workers keep
    the pipe.

    Returns:
        Device and inode of the pipe. No other pipe of the machine has them while this one is open, and no later one
        for a long time. None: this process runs no loop of workers that has such a pipe.
    """
    pid = os.getpid()
    if pid not in _numbers:
        _numbers[pid] = _find()
    return _numbers[pid]


def begins_again() -> bool:
    """Return whether this persistent worker was asked for its next iteration, and has begun no batch of it yet."""
    return isinstance(variable("r"), _ResumeIteration)


def fetcher() -> object:
    """Return what asks this worker's dataset for batches, or None. Persistent workers have another one each epoch."""
    return variable("fetcher")


def worker_initializer() -> object:
    """Return the ``worker_init_fn`` of this worker, or None."""
    return variable("init_fn")


def _find() -> str | None:
    try:
        status = os.fstat(variable("data_queue")._reader.fileno())  # noqa: SLF001 - of multiprocessing
    except (AttributeError, OSError):
        return None
    return f"{status.st_dev}-{status.st_ino}" if stat.S_ISFIFO(status.st_mode) else None


def variable(name: str) -> Any:  # noqa: ANN401 - torch's
    """Return a local variable of the worker's loop, or None if there is no such loop or variable."""
    for frame in _frames():
        if frame.f_code.co_name == _LOOP and name in frame.f_code.co_varnames:
            variables = frame.f_locals
            value = variables.get(name)
            if isinstance(variables, dict):
                # Before Python 3.13 the frame keeps this copy, and with it everything that the loop then drops.
                variables.clear()
            return value
    return None


def _frames() -> Iterator[FrameType]:
    # The loop runs in the main thread, and the program may iterate in another one.
    frame = sys._current_frames().get(threading.main_thread().ident or 0)  # noqa: SLF001 - its only name
    while frame is not None:
        yield frame
        frame = frame.f_back
