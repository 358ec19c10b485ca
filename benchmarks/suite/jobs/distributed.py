"""Jobs with `torch.distributed.checkpoint`: two ranks that save or load together, and saves in the background."""

import tempfile
from concurrent.futures import Future
from typing import Any

from benchmarks.suite.jobs import Task, figures
from benchmarks.suite.jobs.connectors import storage_reader, storage_writer
from benchmarks.suite.jobs.transfers import state

RANKS = 2


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
    figures.replace(
        seconds=max(one["seconds"] for one in found),
        cpu=sum(one["cpu"] for one in found),
        memory=sum(one["memory"] for one in found),
    )
    return float(task["size"])


def rank_of(rank: int, task: Task, folder: str, results: Any) -> None:
    """Be one rank, and report its figures of saving or loading."""
    import torch.distributed as dist
    import torch.distributed.checkpoint as dcp

    figures.Counts.ours = task["connector"] == "osstorchconnector 2"
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=RANKS)
    own = {f"rank.{rank}.{name}": tensor for name, tensor in state(task["size"] // RANKS).items()}
    place = storage_reader(task) if task["load"] else storage_writer(task)
    dist.barrier()
    figures.start()
    if task["load"]:
        for tensor in own.values():
            tensor.zero_()
        dcp.load(own, storage_reader=place)
    else:
        dcp.save(own, storage_writer=place)
    dist.barrier()
    figures.stop()
    if any(tensor[-1] != number for number, tensor in enumerate(own.values())):
        raise SystemExit("other values were loaded")
    results.put(figures.measured())
    dist.destroy_process_group()


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
            response: Any = dcp.async_save(
                saved, storage_writer=storage_writer(task), async_stager=stager, async_checkpointer_type=kind
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
        figures.start()
        second = waited()
        figures.stop()
        if isinstance(second, Future):
            second.result()
        stager.close()
        dist.destroy_process_group()
    return 1
