"""A small COCO dataset, as files and as objects."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from osstorchconnector import OssClient

COUNT = 12
CLASSES = ("cat", "dog")


def annotations(count: int = COUNT) -> dict[str, Any]:
    return {
        "images": [
            {"id": number, "file_name": f"{number:03}.png", "height": 48 + 4 * number, "width": 64}
            for number in range(count)
        ],
        "annotations": [
            {
                "id": number + 1,
                "image_id": number,
                "category_id": 1 + number % 2,
                "bbox": [4, 4, 24 + number, 28],
                "area": 28 * (24 + number),
                "iscrowd": 0,
            }
            for number in range(count)
        ],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }


def written(folder: Path) -> Path:
    """Write the dataset as files, and return the folder."""
    (folder / "train").mkdir(parents=True)
    chosen = np.random.default_rng(7)
    for image in annotations()["images"]:
        pixels = chosen.integers(0, 255, (image["height"], image["width"], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "train" / image["file_name"])
    (folder / "train.json").write_text(json.dumps(annotations()))
    return folder


def uploaded(client: OssClient, folder: Path, uri: str) -> str:
    """Write the files of a folder as objects, and return the URI."""
    for path in folder.rglob("*"):
        if path.is_file():
            client.put(f"{uri}/{path.relative_to(folder).as_posix()}", path.read_bytes())
    return uri
