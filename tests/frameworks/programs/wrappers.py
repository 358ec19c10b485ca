"""What programs put around a dataset. Started workers import it, so it imports torch alone."""

import itertools
import queue
import threading
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import IterableDataset, get_worker_info

from osstorchconnector import DataObject, OssIterableDataset


def number(item: DataObject) -> int:
    return int(item.name.rpartition("/")[2])


def tensor(item: DataObject) -> torch.Tensor:
    return torch.tensor(number(item))


def row(item: DataObject) -> dict[str, int]:
    return {"number": number(item)}


def rows(dataset: Any) -> Iterator[dict[str, int]]:
    yield from dataset


class Around(IterableDataset[Any]):
    """A generator around a dataset."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __iter__(self) -> Iterator[Any]:
        yield from self.dataset


class Subclass(OssIterableDataset):
    """A subclass whose iterator is a generator."""

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        yield from super().__iter__()


class DividesAmongWorkers(Around):
    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        if worker is None:
            return iter(self.dataset)
        return itertools.islice(iter(self.dataset), worker.id, None, worker.num_workers)


class DividesAmongRanks(Around):
    def __init__(self, dataset: Any, rank: int, world_size: int) -> None:
        super().__init__(dataset)
        self.rank, self.world_size = rank, world_size

    def __iter__(self) -> Iterator[Any]:
        # Where workers share, each of them has every W-th sample, so the rank takes turns in each worker.
        return itertools.islice(iter(self.dataset), self.rank, None, self.world_size)


class ReadsAhead(Around):
    """A thread reads the dataset; what goes wrong there is raised here."""

    def __iter__(self) -> Iterator[Any]:
        samples: queue.Queue[Any] = queue.Queue()

        def read() -> None:
            try:
                for sample in self.dataset:
                    samples.put((sample, None))
                samples.put((None, StopIteration()))
            except Exception as error:  # noqa: BLE001 - it is raised below
                samples.put((None, error))

        thread = threading.Thread(target=read)
        thread.start()
        while True:
            sample, error = samples.get()
            if isinstance(error, StopIteration):
                thread.join()
                return
            if error is not None:
                thread.join()
                raise error
            yield sample
