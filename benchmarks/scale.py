"""What a listing costs as it grows: time and memory per key, from a hundred thousand keys to a hundred million.

Synthetic keys like those of data sets of images are appended to a listing file, read in order, and read in a shuffled
order. With ``--objects``, a DataLoader reads that many objects of an emulator. Draws ``docs/images/scale.png``.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from osstorchconnector._native import ListingFile, Order

ROOT = Path(__file__).resolve().parent.parent
BUCKET = "bench"
PAGE = 1000
# A shuffled order is read at this many places: enough for a mean, and the same work for every size.
SAMPLES = 100_000
# More bytes than the longest listing here takes on disk.
LIMIT = 64 << 30


def key(number: int) -> str:
    """Return a key like those of data sets."""
    return f"train/n{number // 1300:08}/n{number // 1300:08}_{number:09}.JPEG"


def pages(count: int) -> Iterator[list[tuple[str, str, int | None, str | None, str, tuple[str, int] | None]]]:
    """Make rows like those of a listing."""
    for start in range(0, count, PAGE):
        numbers = range(start, min(start + PAGE, count))
        yield [(BUCKET, key(number), 110_000 + number % 977, f'"{number:032X}"', "", None) for number in numbers]


def resident() -> int:
    """Return the bytes of memory of this process that no file backs."""
    fields = Path("/proc/self/statm").read_text().split()
    return (int(fields[1]) - int(fields[2])) * os.sysconf("SC_PAGE_SIZE")


def measure(count: int, folder: str) -> dict[str, float]:
    """Write and read a listing of a number of keys."""
    made, writing, most = 0.0, 0.0, 0
    before = resident()
    listing = ListingFile(f"{folder}/{count}", limit=LIMIT)
    listing.acquire()
    rows = pages(count)
    while True:
        start = time.process_time()
        page = next(rows, None)
        made += time.process_time() - start
        if page is None:
            break
        start = time.process_time()
        listing.put(page)
        writing += time.process_time() - start
    listing.finish()
    most = resident()
    middle = range(count // 2, min(count // 2 + SAMPLES, count))
    start = time.process_time()
    for position in middle:
        listing[position]
    reading = (time.process_time() - start) / len(middle)
    most = max(most, resident())
    order = Order(shuffle=True, seed=1)
    step = max(1, count // SAMPLES)
    start = time.process_time()
    for position in range(0, count, step):
        listing[order.entry(position, count)]
    shuffled = (time.process_time() - start) / len(range(0, count, step))
    most = max(most, resident())
    size = sum(path.stat().st_size for path in Path(f"{folder}/{count}").iterdir())
    names = sum(len(key(number)) for number in range(0, count, step)) / len(range(0, count, step))
    listing.close()
    return {
        "keys": count,
        "write_us": writing / count * 1e6,
        "read_us": reading * 1e6,
        "shuffled_us": shuffled * 1e6,
        "disk_bytes": size / count - names,
        "memory_bytes": max(most - before, 0),
    }


def end_to_end(count: int) -> dict[str, float]:
    """Read objects of an emulator through a DataLoader with two workers."""
    from torch.utils.data import DataLoader

    from osstorchconnector import OssIterableDataset
    from osstorchconnector.testing import Emulator

    with Emulator() as emulator:
        emulator.create_bucket(BUCKET)
        client = emulator.client()
        with ThreadPoolExecutor(8) as pool:
            for first in range(0, count, 10_000):
                block = range(first, min(first + 10_000, count))
                list(pool.map(lambda number: client.put(f"oss://{BUCKET}/{key(number)}", b"x" * 100), block))
        dataset = OssIterableDataset.from_prefix(
            f"oss://{BUCKET}/", transform=length, batch_size=256, **emulator.connection
        )
        loader = DataLoader(dataset, batch_size=256, num_workers=2)
        start = time.perf_counter()
        total = sum(int(batch.sum()) for batch in loader)
        elapsed = time.perf_counter() - start
    if total != 100 * count:
        raise SystemExit(f"{total} bytes instead of {100 * count}")
    return {"objects": count, "seconds": elapsed, "rate": count / elapsed}


def length(item: Any) -> int:
    """Read an object and return its length."""
    return len(item.read())


def draw(rows: list[dict[str, float]], path: Path) -> None:
    """Draw the cost of a key over the number of keys."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    keys = [row["keys"] for row in rows]
    figure, (times, memory) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    for name, label in (("write_us", "append"), ("read_us", "read in order"), ("shuffled_us", "read shuffled")):
        times.plot(keys, [row[name] for row in rows], marker="o", label=label)
    times.set(xscale="log", yscale="log", xlabel="keys", ylabel="µs of CPU per key", title="Time per key")
    times.legend()
    memory.plot(keys, [row["memory_bytes"] / 1e6 for row in rows], marker="o", label="memory of the process, MB")
    memory.plot(keys, [row["disk_bytes"] for row in rows], marker="s", label="disk per key beyond its name, bytes")
    memory.set(xscale="log", xlabel="keys", ylim=(0, None), title="Memory and disk")
    memory.legend()
    for axes in (times, memory):
        axes.grid(visible=True, alpha=0.3)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=110)


def main() -> int:
    """Measure all sizes and draw the plots."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--most", type=int, default=100_000_000, help="keys of the longest listing")
    parser.add_argument("--objects", type=int, default=0, help="objects to read with a DataLoader as well")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "images" / "scale.png")
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(prefix="bench-scale-") as folder:
        count = 100_000
        while count <= arguments.most:
            rows.append(measure(count, folder))
            print(json.dumps(rows[-1]), flush=True)
            count *= 10
    draw(rows, arguments.output)
    if arguments.objects:
        print(json.dumps(end_to_end(arguments.objects)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
