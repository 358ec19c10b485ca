"""Jobs that read many objects: datasets with and without a `DataLoader`, and listings."""

import os
import time
from pathlib import Path
from typing import Any

from benchmarks.suite.jobs import Task
from benchmarks.suite.jobs.connectors import dataset, identity, named, uri
from benchmarks.suite.jobs.figures import check, stop, traffic

_BATCH = 64


def as_list(lengths: list[int]) -> tuple[list[int], int, tuple[int, int]]:
    """Collate a batch, and add the bytes that this worker has received and compared so far."""
    return lengths, os.getpid(), traffic()


def small(task: Task) -> float:
    """Read every object once, through the dataset and the DataLoader that the task names."""
    from torch.utils.data import DataLoader

    found = dataset(task, "from_objects", named(task))
    seen: dict[int, tuple[int, int]] = {}
    lengths: list[int] = []
    if task["workers"] == 0 and task["dataset"] == "iterable":
        lengths = list(found)
        seen[os.getpid()] = traffic()
    else:
        for batch, pid, counted in DataLoader(
            found, batch_size=_BATCH, num_workers=task["workers"], collate_fn=as_list
        ):
            lengths += batch
            seen[pid] = counted
    check(seen, sum(lengths))
    return len(lengths)


def decoded(item: Any) -> Any:
    """Return the pixels of a JPEG, as a training takes them."""
    return pixels(item.read())


def pixels(body: bytes) -> Any:
    """Return a JPEG as a tensor of 3 x 224 x 224."""
    import io

    import numpy as np
    import torch
    from PIL import Image

    picture = Image.open(io.BytesIO(body)).convert("RGB").resize((224, 224))
    return torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)


class Files:
    """A map dataset of the same pictures as local files."""

    def __init__(self, paths: list[str]) -> None:
        """Keep the paths."""
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Any:
        return pixels(Path(self.paths[index]).read_bytes())


def picture_batches(task: Task) -> Any:
    """Return an iterator over batches of pictures, from the task's connector, from webdataset or from files."""
    import torch
    from torch.utils.data import DataLoader

    # Each worker has one of two processors.
    torch.set_num_threads(1)
    if "urls" in task:
        import webdataset

        shards = [f"pipe:curl -s {url}" for url in task["urls"]]
        source: Any = webdataset.WebDataset(shards, shardshuffle=False).map(lambda sample: pixels(sample["jpg"]))
    elif "files" in task:
        names = Path(task["names"]).read_text().split()
        source = Files([str(Path(task["files"]) / name.replace("/again/", "/")) for name in names])
    else:
        source = dataset({**task, "transform": decoded}, "from_objects", named(task))
    return iter(DataLoader(source, batch_size=_BATCH, num_workers=task["workers"]))


def pictures(task: Task) -> float:
    """Make batches of pictures, all or the first."""
    batches = picture_batches(task)
    if task.get("first"):
        next(batches)
        # A user does not wait for the workers to end.
        stop()
        return 1
    return float(sum(len(batch) for batch in batches))


def sizes(task: Task) -> float:
    """Read every object once in one process, for any size, and count the bytes."""
    length = sum(dataset({**task, "dataset": "iterable"}, "from_objects", named(task)))
    check({0: traffic()}, length)
    return float(length)


def slow_reader(task: Task) -> float:
    """Read with a given budget, and pause for as long as the budget takes to fill."""
    from osstorchconnector import OssConfig, OssIterableDataset

    items = iter(
        OssIterableDataset.from_objects(
            named(task),
            transform=identity,
            endpoint=task["endpoint"],
            cred_path=task["cred_path"],
            config=OssConfig(prefetch_bytes=task["budget"]),
            region=task["region"],
        )
    )
    next(items)
    time.sleep(2)
    return 1 + sum(1 for _ in items)


def listing(task: Task) -> float:
    """List a prefix into a map dataset."""
    return len(dataset({**task, "dataset": "map"}, "from_prefix", task["uri"]))


def first_batch(task: Task) -> float:
    """Wait for the first batch of two workers."""
    from torch.utils.data import DataLoader

    found = dataset({**task, "dataset": "iterable"}, "from_prefix", uri(task, task["prefix"]))
    batches = iter(DataLoader(found, batch_size=_BATCH, num_workers=2, collate_fn=list))
    if len(next(batches)) != _BATCH:
        raise SystemExit("the first batch is short")
    # A user does not wait for the workers to end.
    stop()
    return 1
