"""Which share of a dataset this process reads."""

import sys
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Shard:
    """Entry ``i`` belongs to the shard where ``i % count == index``."""

    index: int
    count: int


WHOLE: Final = Shard(0, 1)


def worker_shard() -> Shard | None:
    """Return the share of the DataLoader worker this is called in, or None outside of one.

    It is asked for when an iteration starts, since a dataset may be built long before its workers.
    """
    # A process that never imported torch is no DataLoader worker, and importing it takes seconds.
    torch_data = sys.modules.get("torch.utils.data")
    worker = torch_data.get_worker_info() if torch_data is not None else None
    return None if worker is None else Shard(worker.id, worker.num_workers)
