"""One measured job, in a process of its own, with the connector that ``PYTHONPATH`` puts first.

It reads its task as JSON from standard input and prints its measurements as one line of JSON. The seconds and the
processor time are those of the work, without the start of the interpreter and the imports.
"""

import importlib
import json
import os
import resource
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from benchmarks.suite import bare

Task = dict[str, Any]
MIB = 1 << 20
# As large as a projection of a language model.
TENSOR = 64 * MIB
RANKS = 2


def traffic() -> tuple[int, int]:
    """Return the bytes that this process received and compared; zeros if the connector does not count them."""
    import osstorchconnector

    native = getattr(osstorchconnector, "_native", None)
    if native is None:
        return 0, 0
    counts = native.counts()
    return counts["received_bytes"], counts["verified_bytes"]


def identity(item: Any) -> int:
    """Read an object and keep its length only, so that no consumer is measured."""
    return len(item.read())


def as_list(lengths: list[int]) -> tuple[list[int], int, tuple[int, int]]:
    """Collate a batch, and add the bytes that this worker has received and compared so far."""
    return lengths, os.getpid(), (traffic() if Counts.ours else (0, 0))


class Counts:
    """Whether the connector counts the bytes that `check` needs."""

    ours = False


def connection(task: Task) -> dict[str, Any]:
    """Return the arguments of both connectors of OSS."""
    return {name: task[name] for name in ("endpoint", "cred_path", "config_path", "region")}


def dataset(task: Task, source: str, *arguments: Any) -> Any:
    """Return the dataset of a task, from the task's connector."""
    if task["connector"] == "s3torchconnector":
        from s3torchconnector import S3ClientConfig, S3IterableDataset, S3MapDataset

        config = S3ClientConfig(force_path_style=True)
        options: dict[str, Any] = {"region": "us-east-1", "endpoint": task["endpoint"], "s3client_config": config}
        options["transform"] = task.get("transform", identity)
        if task["dataset"] == "iterable":
            return getattr(S3IterableDataset, source)(*arguments, enable_sharding=True, **options)
        return getattr(S3MapDataset, source)(*arguments, **options)
    from osstorchconnector import OssIterableDataset, OssMapDataset

    kind = {"iterable": OssIterableDataset, "map": OssMapDataset}[task["dataset"]]
    return getattr(kind, source)(*arguments, transform=task.get("transform", identity), **connection(task))


def small(task: Task) -> float:
    """Read every object once, through the dataset and the DataLoader that the task names."""
    from torch.utils.data import DataLoader

    scheme = "s3" if task["connector"] == "s3torchconnector" else "oss"
    uris = [f"{scheme}://{name}" for name in Path(task["names"]).read_text().split()][: task.get("count")]
    found = dataset(task, "from_objects", uris)
    seen: dict[int, tuple[int, int]] = {}
    lengths: list[int] = []
    if task["workers"] == 0 and task["dataset"] == "iterable":
        lengths = list(found)
        seen[os.getpid()] = traffic() if Counts.ours else (0, 0)
    else:
        for batch, pid, counted in DataLoader(found, batch_size=64, num_workers=task["workers"], collate_fn=as_list):
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
    else:
        names = Path(task["names"]).read_text().split()
        if "files" in task:
            source = Files([str(Path(task["files"]) / name.replace("/again/", "/")) for name in names])
        else:
            scheme = "s3" if task["connector"] == "s3torchconnector" else "oss"
            uris = [f"{scheme}://{name}" for name in names]
            source = dataset({**task, "transform": decoded}, "from_objects", uris)
    return iter(DataLoader(source, batch_size=64, num_workers=task["workers"]))


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
    uris = [f"oss://{name}" for name in Path(task["names"]).read_text().split()]
    length = sum(dataset({**task, "dataset": "iterable"}, "from_objects", uris))
    check({0: traffic()}, length)
    return float(length)


def slow_reader(task: Task) -> float:
    """Read with a given budget, and pause for as long as the budget takes to fill."""
    from osstorchconnector import OssConfig, OssIterableDataset

    uris = [f"oss://{name}" for name in Path(task["names"]).read_text().split()]
    config = OssConfig(prefetch_bytes=task["budget"])
    items = iter(
        OssIterableDataset.from_objects(
            uris,
            transform=identity,
            endpoint=task["endpoint"],
            cred_path=task["cred_path"],
            config=config,
            region=task["region"],
        )
    )
    next(items)
    time.sleep(2)
    return 1 + sum(1 for _ in items)


def check(seen: dict[int, tuple[int, int]], length: int) -> None:
    """Fail unless all delivered bytes were compared with the checksums of their objects."""
    if not Counts.ours:
        return
    compared = sum(counted for _, counted in seen.values())
    if compared < length:
        raise SystemExit(f"{compared} of {length} bytes were compared with checksums")


def listing(task: Task) -> float:
    """List a prefix into a map dataset."""
    return len(dataset({**task, "dataset": "map"}, "from_prefix", task["uri"]))


def first_batch(task: Task) -> float:
    """Wait for the first batch of 64 from two workers."""
    from torch.utils.data import DataLoader

    scheme = "s3" if task["connector"] == "s3torchconnector" else "oss"
    found = dataset({**task, "dataset": "iterable"}, "from_prefix", f"{scheme}://{task['prefix']}")
    batches = iter(DataLoader(found, batch_size=64, num_workers=2, collate_fn=list))
    if len(next(batches)) != 64:  # noqa: PLR2004 - as said
        raise SystemExit("the first batch is short")
    # A user does not wait for the workers to end.
    stop()
    return 1


_kept: list[Any] = []


def open_reader(task: Task) -> Any:
    """Open the object of a task for reading."""
    if task["connector"] == "s3torchconnector":
        from s3torchconnector import S3Checkpoint, S3ClientConfig

        config = S3ClientConfig(force_path_style=True)
        checkpoint = S3Checkpoint(region="us-east-1", endpoint=task["endpoint"], s3client_config=config)
        return checkpoint.reader(f"s3://{task['name']}")
    from osstorchconnector import OssCheckpoint

    checkpoint = OssCheckpoint(**connection(task))
    # The original crashes if the reader outlives the object that made it.
    _kept.append(checkpoint)
    return checkpoint.reader(f"oss://{task['name']}")


def filled(task: Task) -> memoryview:
    """Return memory for the object of a task, with all pages present."""
    import numpy as np

    memory: Any = np.ones(task["size"], np.uint8)
    return memoryview(memory)


def read_into(task: Task) -> float:
    """Read one object into memory whose pages are present, at once or in pieces that follow each other."""
    view = filled(task)
    piece = task.get("piece", len(view))
    start()
    with open_reader(task) as reader:
        count = 0
        while count < len(view):
            received = reader.readinto(view[count : count + piece])
            if not received:
                break
            count += received
    if Counts.ours:
        check({0: traffic()}, count)
    return count


def receive(task: Task) -> float:
    """Receive one object into memory whose pages are present: the least that any client has to do."""
    view = filled(task)
    start()
    return bare.receive(task, view)


def send(task: Task) -> float:
    """Send as many bytes: the least that any client has to do."""
    view = filled(task)
    start()
    return bare.send(task, view)


def state(size: int) -> Any:
    """Return tensors of a number of bytes together."""
    import torch

    return {f"layer.{number}": torch.full((TENSOR // 4,), float(number)) for number in range(size // TENSOR)}


def save(task: Task) -> float:
    """Save a state."""
    import torch

    from osstorchconnector import OssCheckpoint

    saved = state(task["size"])
    start()
    checkpoint = OssCheckpoint(**connection(task))
    with checkpoint.writer(f"oss://{task['name']}") as writer:
        torch.save(saved, writer)  # type: ignore[arg-type]
    return float(task["size"])


def load(task: Task) -> float:
    """Load a state."""
    import torch

    with open_reader(task) as reader:
        loaded = torch.load(reader)
    return float(sum(tensor.nbytes for tensor in loaded.values()))


def load_file(task: Task) -> float:
    """Load a state from a local file."""
    import torch

    return float(sum(tensor.nbytes for tensor in torch.load(task["path"]).values()))


def checksum(task: Task) -> float:
    """Compute the checksum of memory in the processor's cache, in pieces, as for a received body."""
    from osstorchconnector._native import crc64

    piece = bytes(task["piece"])
    for _ in range(task["size"] // len(piece)):
        crc64(piece)
    return float(task["size"] // len(piece) * len(piece))


def distributed(task: Task) -> float:
    """Save or load a state on two ranks of a process group; each rank has one half."""
    import torch.multiprocessing as mp

    context = mp.get_context("spawn")
    results = context.SimpleQueue()
    with tempfile.TemporaryDirectory() as folder:
        ranks = [context.Process(target=rank_of, args=(rank, task, folder, results)) for rank in range(RANKS)]
        for process in ranks:
            process.start()
        for process in ranks:
            process.join()
    if any(process.exitcode for process in ranks):
        raise SystemExit("a rank failed")
    found = [results.get() for _ in ranks]
    _measured.update(
        seconds=max(one["seconds"] for one in found),
        cpu=sum(one["cpu"] for one in found),
        memory=sum(one["memory"] for one in found),
    )
    return float(task["size"])


def stager_of(task: Task) -> Any:
    """Return a stager of torch: the older one, or the newer one with its own or with shared memory."""
    from torch.distributed.checkpoint import staging

    if task["stager"] == "blocking":
        return staging.BlockingAsyncStager()
    options = staging.StagingOptions(
        use_pinned_memory=False,
        use_shared_memory=task["stager"] == "shared",
        use_async_staging=False,
        use_non_blocking_copy=False,
    )
    return staging.DefaultStager(options)


def async_save(task: Task) -> float:
    """Save twice in the background, and measure what the second save waits; the floor only copies."""
    import torch.distributed as dist
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.state_dict_saver import AsyncCheckpointerType

    saved, stager = state(task["size"]), stager_of(task)
    kind = AsyncCheckpointerType(task["kind"])
    with tempfile.TemporaryDirectory() as folder:
        dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=0, world_size=1)

        def waited() -> Any:
            if task["connector"] == "floor":
                return stager.stage(saved)
            place = storage(task, "writer")
            response: Any = dcp.async_save(
                saved, storage_writer=place, async_stager=stager, async_checkpointer_type=kind
            )
            staging = getattr(response, "staging_completion", None)
            if staging is None:
                return response
            # The training may change the state from here on.
            staging.result()
            return response.upload_completion

        first = waited()
        if isinstance(first, Future):
            first.result()
        start()
        second = waited()
        stop()
        if isinstance(second, Future):
            second.result()
        stager.close()
        dist.destroy_process_group()
    return 1


def storage(task: Task, kind: str) -> Any:
    """Return the storage writer or reader of the task's connector."""
    if task["connector"] == "s3torchconnector":
        from s3torchconnector import S3ClientConfig
        from s3torchconnector.dcp import S3StorageWriter

        config = S3ClientConfig(force_path_style=True)
        return S3StorageWriter("us-east-1", f"s3://{task['name']}", endpoint=task["endpoint"], s3client_config=config)
    uri = f"oss://{task['name']}"
    import osstorchconnector

    name = "OssFileSystem" if Counts.ours else "OssDCPFileSystem"
    return getattr(getattr(osstorchconnector, name)(**connection(task)), kind)(uri)


def rank_of(rank: int, task: Task, folder: str, results: Any) -> None:
    """Be one rank, and report its figures of saving or loading."""
    import torch.distributed as dist
    import torch.distributed.checkpoint as dcp

    Counts.ours = task["connector"] == "osstorchconnector 2"
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=RANKS)
    own = {f"rank.{rank}.{name}": tensor for name, tensor in state(task["size"] // RANKS).items()}
    place = storage(task, "reader" if task["load"] else "writer")
    dist.barrier()
    start()
    if task["load"]:
        for tensor in own.values():
            tensor.zero_()
        dcp.load(own, storage_reader=place)
    else:
        dcp.save(own, storage_writer=place)
    dist.barrier()
    stop()
    if any(tensor[-1] != number for number, tensor in enumerate(own.values())):
        raise SystemExit("other values were loaded")
    results.put(measured())
    dist.destroy_process_group()


JOBS: dict[str, Callable[[Task], float]] = {
    function.__name__: function
    for function in (
        small,
        pictures,
        listing,
        first_batch,
        read_into,
        receive,
        send,
        save,
        load,
        load_file,
        checksum,
        distributed,
        async_save,
        sizes,
        slow_reader,
    )
}

_marks: dict[str, tuple[float, float]] = {}


def mark(name: str) -> None:
    """Note the time and the processor time."""
    _marks[name] = (time.perf_counter(), processor_seconds())


def start() -> None:
    """Begin to measure here: everything before was preparation."""
    mark("start")
    _base["resident"] = resident()


def stop() -> None:
    """End the measurement here: everything after is not part of it."""
    mark("stop")


_base: dict[str, float] = {}
# Figures that a job has measured itself; they replace those of this process.
_measured: dict[str, float] = {}


def measured() -> dict[str, float]:
    """Return the figures of this process from `start` to `stop`."""
    (began, used_before), (ended, used) = _marks["start"], _marks["stop"]
    memory = {"memory": status("VmHWM") - _base["resident"], "resident": _base["resident"]}
    return {"seconds": ended - began, "cpu": used - used_before, **memory}


def processor_seconds() -> float:
    """Return the processor time of this process and of the children it has waited for."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def status(name: str) -> float:
    """Return a size of this process in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def resident() -> float:
    """Return the bytes of memory this process holds."""
    return status("VmRSS")


def main() -> int:
    """Run one job, or one after the other if the first line asks for it."""
    task = json.loads(sys.stdin.readline())
    # Every training process has loaded these modules: they are not a cost of the connector.
    import torch.utils.data  # noqa: F401

    if task["connector"] == "s3torchconnector":
        import s3torchconnector  # noqa: F401
    elif task["connector"].startswith("osstorchconnector"):
        # The import of the original loads these names too.
        from osstorchconnector import OssCheckpoint, OssIterableDataset, OssMapDataset  # noqa: F401
    Counts.ours = task["connector"] == "osstorchconnector 2"
    if task["job"] != "serve":
        return perform(task)
    # Each job runs in a fork of its own, which has all modules and no connection.
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                status = perform(json.loads(line))
            except BaseException:  # noqa: BLE001 - the next job is another process
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                os._exit(status)
        _, ended = os.waitpid(child, 0)
        if ended:
            print(json.dumps({"failed": ended}), flush=True)
    return 0


def perform(task: Task) -> int:
    """Do one task, and print what it took."""
    start()
    job = JOBS.get(task["job"]) or getattr(importlib.import_module("model_jobs"), task["job"])
    amount = job(task)
    if "stop" not in _marks:
        stop()
    print(json.dumps({"amount": amount, **measured(), **_measured}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
