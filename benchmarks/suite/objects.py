"""The objects that are read: the same bytes in every run."""

import random
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from benchmarks.suite.contenders import BUCKET
from benchmarks.suite.jobs.transfers import state
from benchmarks.suite.servers import AGAIN, write_objects
from osstorchconnector.testing import Emulator

COUNT = 20_000
PREFIX = "train"


def sizes(mean: int, count: int = COUNT) -> list[int]:
    """Return sizes like those of images, log-normal around 100 KB; smaller means give objects of one size."""
    if mean < 10_000:  # noqa: PLR2004 - as said
        return [mean] * count
    draw = random.Random(0)  # noqa: S311 - nothing secret
    # The mean of a log-normal distribution is above its median by the factor exp(0.5² / 2).
    return [int(draw.lognormvariate(0, 0.5) * mean / 1.133) for _ in range(count)]


def bodies(mean: int, count: int = COUNT) -> Iterator[tuple[str, bytes]]:
    """Return keys and contents."""
    noise = random.Random(0).randbytes(4 << 20)  # noqa: S311 - nothing secret
    for number, size in enumerate(sizes(mean, count)):
        begin = number % (1 << 20)
        yield f"{PREFIX}/{number:06}.jpg", noise[begin : begin + size]


def write_small(folder: Path, mean: int, count: int = COUNT) -> tuple[dict[str, int], Path]:
    """Write half as many small objects as files; return their checksums, and a file with all names."""
    sums = write_objects(folder, bodies(mean, count // 2))
    names = folder / "names"
    names.write_text("\n".join(f"{BUCKET}/{place}{key}" for place in ("", f"{AGAIN}/") for key in sums))
    return sums, names


def fill(emulator: Emulator, count: int, mean: int) -> list[str]:
    """Store objects in an emulator and return their keys."""
    client, keys = emulator.client(), []
    under_way: deque[Future[str]] = deque()
    with ThreadPoolExecutor(8) as pool:
        for key, body in bodies(mean, count):
            keys.append(key)
            under_way.append(pool.submit(client.put, f"oss://{BUCKET}/{key}", body))
            if len(under_way) > 1000:  # noqa: PLR2004 - enough for all threads, and little memory
                under_way.popleft().result()
        for put in under_way:
            put.result()
    return keys


def saved_state(folder: Path, size: int) -> bytes:
    """Return the bytes that torch.save makes of a state."""
    import torch

    path = folder / "saved"
    torch.save(state(size), path)
    body = path.read_bytes()
    path.unlink()
    return body
