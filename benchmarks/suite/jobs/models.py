"""Jobs that load a model of several safetensors files. Each returns the bytes of all tensors."""

from pathlib import Path
from typing import Any

from benchmarks.suite.jobs import Task, bare
from benchmarks.suite.jobs.connectors import connection
from benchmarks.suite.jobs.figures import Counts, start


def load_model(task: Task) -> float:
    """Load all tensors of a model in OSS."""
    if Counts.ours:
        from osstorchconnector.model import open_model

        start()
        with open_model(f"oss://{task['directory']}", **connection(task)) as model:
            return _bytes_of(model.load())
    from osstorchconnector import OssSafetensor

    start()
    safetensor = OssSafetensor(**connection(task))
    loaded: dict[str, Any] = {}
    for file in task["files"]:
        loaded |= safetensor.load_file(f"oss://{task['directory']}{file}")
    return _bytes_of(loaded)


def load_local_model(task: Task) -> float:
    """Load the same from files, by the library safetensors. Mapped pages are copied, as their use would read them."""
    from safetensors import safe_open

    start()
    loaded = {}
    for file in task["files"]:
        with safe_open(Path(task["folder"], file), framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118 - it is no mapping
                loaded[name] = opened.get_tensor(name).clone()
    return _bytes_of(loaded)


def stream_local_model(task: Task) -> float:
    """Load the same from files, by the streamer of run:ai."""
    from runai_model_streamer import SafetensorsStreamer

    start()
    with SafetensorsStreamer() as streamer:
        streamer.stream_files([str(Path(task["folder"], file)) for file in task["files"]])
        return _bytes_of(dict(streamer.get_tensors()))


def receive_model(task: Task) -> float:
    """Receive all files over one connection into memory whose pages are present: the least that a client has to do."""
    import numpy as np

    memory: Any = np.ones(task["stored"], np.uint8)
    view = memoryview(memory)
    start()
    count = 0
    with bare.opened(task) as server:
        for file in task["files"]:
            count += bare.exchange(server, task, f"{task['directory']}{file}", view[count:])
    if count != task["stored"]:
        raise SystemExit(f"{count} of {task['stored']} bytes were received")
    return float(task["expected"])


def _bytes_of(tensors: dict[str, Any]) -> float:
    return float(sum(tensor.nbytes for tensor in tensors.values()))
