"""Whether this process is a DataLoader worker, and which one."""

import sys
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Shard:
    """One of several readers that share a dataset."""

    index: int
    count: int


WHOLE: Final = Shard(0, 1)


def worker_shard() -> Shard | None:
    """Return the share of the DataLoader worker this is called in, or None outside of one.

    It is asked for when an iteration starts, since a dataset may be built long before its workers.
    """
    worker = _worker_info()
    return None if worker is None else Shard(worker.id, worker.num_workers)


def loader_iterator() -> int | None:
    """Return a number that the workers of one DataLoader iterator share, or None outside of a worker."""
    worker = _worker_info()
    return None if worker is None else int(worker.seed - worker.id)


def _worker_info() -> Any:  # noqa: ANN401 - torch's
    # A process that never imported torch is no DataLoader worker, and importing it takes seconds.
    torch_data = sys.modules.get("torch.utils.data")
    return torch_data.get_worker_info() if torch_data is not None else None
