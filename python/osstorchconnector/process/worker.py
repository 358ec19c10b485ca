"""Whether this process is a DataLoader worker, and which share of its rank it reads."""

import sys
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Share:
    """What one of several readers reads."""

    index: int
    count: int


WHOLE: Final = Share(0, 1)


def worker_share() -> Share | None:
    """Return the share of this DataLoader worker, or None if this process is not a worker.

    Call it when an iteration begins: a dataset may be built long before its workers.
    """
    worker = _worker_info()
    return None if worker is None else Share(worker.id, worker.num_workers)


def loader_iterator() -> int | None:
    """Return a number that the workers of one DataLoader iterator share, or None if this process is not a worker."""
    worker = _worker_info()
    return None if worker is None else int(worker.seed - worker.id)


def _worker_info() -> Any:  # noqa: ANN401 - torch's
    # A DataLoader worker has imported torch. Importing it here would take seconds.
    torch_data = sys.modules.get("torch.utils.data")
    return torch_data.get_worker_info() if torch_data is not None else None
