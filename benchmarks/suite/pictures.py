"""Whole input, as a training of images feels it: JPEGs become batches of 224 x 224 pixels in two workers."""

import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.suite.contenders import BUCKET, FLOOR, ORIGINAL, OURS, S3, contender, contenders
from benchmarks.suite.measure import Row, alternate
from benchmarks.suite.servers import AGAIN, nginx, write_objects

WEBDATASET = "webdataset"
WORK = "JPEG to batches of 224 x 224, 2 workers"
FIRST = f"first batch of {WORK}"
# Enough for seconds of decoding in each run.
_COUNT = 4_000
# As many as webdataset's workers share evenly, each some megabytes.
_SHARDS = 20
_HEIGHT, _WIDTH = 480, 640


def photograph(seed: int) -> bytes:
    """Return a JPEG of about 100 KB that takes as long to decode as a photograph of its size."""
    numbers = np.random.default_rng(seed)
    coarse = Image.fromarray(numbers.integers(0, 255, (_HEIGHT // 8, _WIDTH // 8, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((_WIDTH, _HEIGHT), Image.Resampling.BICUBIC), dtype=np.int16)
    noise = numbers.normal(0, 10, smooth.shape).astype(np.int16)
    buffer = io.BytesIO()
    Image.fromarray(np.clip(smooth + noise, 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def _shards(bodies: dict[str, bytes]) -> dict[str, bytes]:
    """Return the pictures as tar files, each picture twice, because each object has two keys."""
    names = [(place + name, body) for place in ("", "again-") for name, body in bodies.items()]
    shards = {}
    for number in range(_SHARDS):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            for name, body in names[number::_SHARDS]:
                member = tarfile.TarInfo(name)
                member.size = len(body)
                archive.addfile(member, io.BytesIO(body))
        shards[f"shards/{number:03}.tar"] = buffer.getvalue()
    return shards


def run(folder: Path, rounds: int) -> list[Row]:
    """Measure images per second, and the time to the first batch."""
    bodies = {f"{number:05}.jpg": photograph(number) for number in range(_COUNT // 2)}
    shards = _shards(bodies)
    sums = write_objects(folder, {**bodies, **shards}.items())
    names = folder / "names"
    names.write_text("\n".join(f"{BUCKET}/{place}{key}" for place in ("", f"{AGAIN}/") for key in bodies))
    with nginx(folder, sums) as site:
        urls = [f"{site.endpoint}/{BUCKET}/{key}" for key in shards]
        task = {"job": "pictures", "dataset": "iterable", "workers": 2, "names": str(names)}
        whole = {**task, "expected": _COUNT}
        found = contenders((OURS, ORIGINAL, S3), site, whole)
        found[WEBDATASET] = contender(WEBDATASET, site, {**whole, "urls": urls})
        # What the pictures alone take: from files in the page cache, with the same transform and the same loader.
        found[FLOOR] = contender(FLOOR, site, {**whole, "files": str(folder / "files")})
        rows = alternate(WORK, "images", found, rounds)
        first = {**task, "first": True, "expected": 1}
        sooner = contenders((OURS, ORIGINAL, S3), site, first)
        sooner[WEBDATASET] = contender(WEBDATASET, site, {**first, "urls": urls})
        return rows + alternate(FIRST, "times", sooner, rounds)
