"""One rank of a process group iterates over its share, in each of the given ways, and prints the result."""

import json
import multiprocessing
import operator
import sys
from typing import Any

import torch.distributed as dist
from torch.utils.data import DataLoader

from osstorchconnector import OssIterableDataset


def main() -> None:
    rank, world, store, uri, connection, cases, grouped_cases = sys.argv[1:]
    # As in tests/conftest.py: a forkserver imports torch once, for all of its workers.
    multiprocessing.set_forkserver_preload(["torch.utils.data"])
    datasets = {
        even: OssIterableDataset.from_prefix(
            uri, transform=operator.attrgetter("name"), batch_size=4, even=even, **json.loads(connection)
        )
        for even in ("pad", "drop", "none")
    }
    # A dataset may be built before the process group.
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=int(rank), world_size=int(world))
    found = [load(datasets[even], method, workers) for even, method, workers in json.loads(cases)]
    # Like data-parallel groups with tensor parallelism of two: every second rank.
    groups = [dist.new_group(list(range(first, int(world), 2))) for first in range(min(int(world), 2))]
    grouped = OssIterableDataset.from_prefix(
        uri,
        transform=operator.attrgetter("name"),
        batch_size=4,
        process_group=groups[int(rank) % 2],
        **json.loads(connection),
    )
    found += [load(grouped, method, workers) for method, workers in json.loads(grouped_cases)]
    # A rank must not end while others still need the group.
    dist.barrier()
    dist.destroy_process_group()
    json.dump(found, sys.stdout)


def load(dataset: OssIterableDataset, method: str, workers: int) -> list[list[str]]:
    context: Any = method if workers else None
    return list(
        DataLoader(dataset, batch_size=4, num_workers=workers, multiprocessing_context=context, collate_fn=list)
    )


if __name__ == "__main__":
    main()
