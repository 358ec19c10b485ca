"""Jobs that move one large object: into memory, as a checkpoint, and the least that any client has to do."""

from typing import Any

from benchmarks.suite.jobs import Task, bare
from benchmarks.suite.jobs.connectors import connection, open_reader
from benchmarks.suite.jobs.figures import check, start, traffic

# As large as a projection of a language model.
TENSOR = 64 << 20


def filled(task: Task) -> memoryview:
    """Return memory for the object of a task, with all pages present."""
    import numpy as np

    memory: Any = np.ones(task["size"], np.uint8)
    return memoryview(memory)


def state(size: int) -> Any:
    """Return tensors of a number of bytes together."""
    import torch

    return {f"layer.{number}": torch.full((TENSOR // 4,), float(number)) for number in range(size // TENSOR)}


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
