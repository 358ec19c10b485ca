"""A model of 8 shards and 600 tensors, beside a bare loop of recv, the original, and the same files on a local disk."""

import json
import random
from pathlib import Path

from benchmarks.suite.contenders import BUCKET, FLOOR, ORIGINAL, OURS, RUNAI, contender, contenders
from benchmarks.suite.large import CONNECTION_BYTES_PER_SECOND, FIRST_BYTE_SECONDS
from benchmarks.suite.measure import Row, alternate
from benchmarks.suite.servers import emulator, nginx, write_objects

SIZE = 4 << 30
SHARDS = 8
TENSORS = 600
LOCAL = "safetensors, local files"
_DIRECTORY = "model/"
_INDEX = "model.safetensors.index.json"
# Every third tensor is small, as norms are.
_SMALL = 4096


def run(folder: Path, rounds: int, size: int = SIZE) -> list[Row]:
    """Measure loading into memory of the process, from nginx, and at 35 ms and 50 MB/s a connection."""
    sizes = _sizes(size)
    sums = write_objects(folder, [(_DIRECTORY + _INDEX, _index())])
    for number, name in enumerate(_names()):
        sums |= write_objects(folder, [(_DIRECTORY + name, _shard(sizes[number::SHARDS], number))])
    files = folder / "files" / BUCKET / _DIRECTORY
    task = {
        "directory": f"{BUCKET}/{_DIRECTORY}",
        "files": _names(),
        "folder": str(files),
        "stored": sum((files / name).stat().st_size for name in _names()),
        "expected": sum(sizes),
    }
    title = f"a model of {size / (1 << 30):g} GiB"
    with nginx(folder, sums) as site:
        found = contenders((OURS, ORIGINAL), site, {**task, "job": "load_model"})
        found[FLOOR] = contender(FLOOR, site, {**task, "job": "receive_model"})
        found[LOCAL] = contender(LOCAL, site, {**task, "job": "load_local_model"})
        found |= contenders((RUNAI,), site, {**task, "job": "stream_local_model"})
        rows = alternate(title, "bytes", found, rounds)
    with emulator(folder) as (server, site):
        for name in (*_names(), _INDEX):
            server.client().put(f"oss://{BUCKET}/{_DIRECTORY}{name}", (files / name).read_bytes())
        server.fault(operation="GetObject", delay=FIRST_BYTE_SECONDS, bandwidth=CONNECTION_BYTES_PER_SECOND)
        for name in (OURS, ORIGINAL):
            server.clear_requests()
            found = contenders((name,), site, {**task, "job": "load_model"})
            if found:
                for row in alternate(f"{title} at 35 ms, 50 MB/s a connection", "bytes", found, rounds):
                    row.facts["connections"] = server.peak_concurrency()
                    rows.append(row)
    return rows


def _names() -> list[str]:
    return [f"model-{number:05}-of-{SHARDS:05}.safetensors" for number in range(1, SHARDS + 1)]


def _tensor(number: int) -> str:
    """Return the name of a tensor: its number tells its shard."""
    return f"layers.{number:03}.weight"


def _index() -> bytes:
    names = _names()
    return json.dumps({"weight_map": {_tensor(number): names[number % SHARDS] for number in range(TENSORS)}}).encode()


def _sizes(size: int) -> list[int]:
    """Return the bytes of each tensor."""
    large = size // (TENSORS * 2 // 3) // 4096 * 4096
    return [_SMALL if number % 3 == 2 else large for number in range(TENSORS)]  # noqa: PLR2004 - every third


def _shard(sizes: list[int], number: int) -> bytes:
    """Return a safetensors file of tensors of bfloat16."""
    import torch

    from osstorchconnector.safetensor.header import write_header

    tensors = {
        _tensor(index * SHARDS + number): torch.empty(length // 2, dtype=torch.bfloat16, device="meta")
        for index, length in enumerate(sizes)
    }
    head, _ = write_header(tensors, {"format": "pt"})
    noise = random.Random(number).randbytes(4 << 20)  # noqa: S311 - nothing secret
    length = sum(sizes)
    return head + (noise * (length // len(noise) + 1))[:length]
