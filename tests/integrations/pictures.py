"""Made-up pictures with labels, as objects below a prefix and as files."""

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from osstorchconnector import OssClient


def picture(height: int, width: int, form: str = "PNG", **options: object) -> bytes:
    """Return an image of noise."""
    noise = np.random.default_rng(height * 1000 + width).integers(0, 255, (height, width, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, form, **options)
    return buffer.getvalue()


def box_dataset(train: int, val: int) -> dict[str, bytes]:
    """Return images and labels of boxes by their names; every fifth image has no label."""
    numbers = np.random.default_rng(0)
    files = {}
    for split, count in (("train", train), ("val", val)):
        for index in range(count):
            height, width = (int(size) for size in numbers.integers(40, 90, 2))
            suffix, form = (("jpg", "JPEG"), ("png", "PNG"), ("webp", "WEBP"), ("bmp", "BMP"))[index % 4]
            files[f"images/{split}/{index:03}.{suffix}"] = picture(height, width, form)
            if index % 5 != 4:
                lines = [
                    f"{numbers.integers(3)} {numbers.uniform(0.3, 0.7):.4f} {numbers.uniform(0.3, 0.7):.4f} 0.2 0.3"
                    for _ in range(3)
                ]
                files[f"labels/{split}/{index:03}.txt"] = "\n".join(lines).encode()
    return files


def upload(client: OssClient, base: str, files: Mapping[str, bytes]) -> None:
    """Store files as objects below a prefix."""
    for name, content in files.items():
        client.put(f"{base}/{name}", content)


def write(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files below a folder."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
