"""Images per second that the loaders of YOLO and MMDetection give, from OSS and from local files.

    python benchmarks/integrations.py [--images 400] [--rounds 5] [yolo] [mmdetection]

The pictures are JPEGs of about 100 KB, read by two workers, augmented as in a training, and not trained on, so the rate
is the most that a training can take. Local files lie in the page cache. The loaders run in turn. It prints JSON, and
needs Ultralytics and MMDetection, which ``make test-frameworks`` installs.
"""

import argparse
import json
import os
import resource
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benchmarks.suite.pictures import photograph
from osstorchconnector.testing import Emulator
from tests.integrations.pictures import upload, write

BUCKET = "bench"
BATCH = 16
WORKERS = 2
# The time to the first byte on OSS, which the loopback interface lacks.
LATENCY = 0.035
HEIGHT, WIDTH = 480, 640

Loaders = dict[str, Callable[[], Iterable[Any]]]


def yolo_files(count: int) -> dict[str, bytes]:
    """Return images and labels by their names."""
    files = {}
    for number in range(count):
        files[f"images/train/{number:05}.jpg"] = photograph(number)
        files[f"labels/train/{number:05}.txt"] = b"1 0.5 0.5 0.2 0.3\n0 0.3 0.4 0.1 0.1\n"
    return files


def yolo(emulator: Emulator, folder: Path, count: int) -> Loaders:
    """Return loaders of a detection training."""
    os.environ["YOLO_OFFLINE"] = "true"
    os.environ["YOLO_CONFIG_DIR"] = str(folder)
    from ultralytics.cfg import get_cfg
    from ultralytics.data.build import build_dataloader, build_yolo_dataset

    from osstorchconnector import OSSYOLODataset

    files = yolo_files(count)
    write(folder / "yolo", files)
    upload(emulator.client(), f"oss://{BUCKET}/yolo", files)
    arguments = get_cfg(overrides={"task": "detect", "imgsz": 640})
    data = {"names": {0: "a", 1: "b"}, "nc": 2, "channels": 3}

    def loader(dataset: Any) -> Callable[[], Iterable[Any]]:
        # It begins again for ever, so the epoch ends with its last batch.
        made = build_dataloader(dataset, BATCH, WORKERS, shuffle=True, rank=-1)
        return lambda: (batch for _, batch in zip(range(len(made)), made, strict=False))

    local = build_yolo_dataset(arguments, str(folder / "yolo/images/train"), BATCH, data, mode="train")
    oss = OSSYOLODataset(
        img_path=f"/{BUCKET}/yolo/images/train",
        imgsz=640,
        batch_size=BATCH,
        augment=True,
        hyp=arguments,
        data=data,
        task="detect",
        stride=32,
        oss_endpoint=emulator.endpoint,
        oss_cred_path=emulator.cred_path,
        oss_region=emulator.region,
    )
    return {"local files": loader(local), "OSS": loader(oss)}


def mmdetection(emulator: Emulator, folder: Path, count: int) -> Loaders:
    """Return loaders of a COCO dataset with the transforms of MMDetection's base configuration."""
    from torch.utils.data import DataLoader

    from tests.integrations import operators

    operators.install()
    from mmdet.registry import DATASETS
    from mmengine.registry import init_default_scope

    import osstorchconnector.integrations.mmdetection  # noqa: F401 - registers its classes

    init_default_scope("mmdet")
    described = {
        "images": [
            {"id": number, "file_name": f"{number:05}.jpg", "height": HEIGHT, "width": WIDTH} for number in range(count)
        ],
        "annotations": [
            {"id": number + 1, "image_id": number, "category_id": 1, "bbox": [9, 9, 99, 99], "area": 9801, "iscrowd": 0}
            for number in range(count)
        ],
        "categories": [{"id": 1, "name": "cat"}],
    }
    files = {f"train/{number:05}.jpg": photograph(number) for number in range(count)}
    files["train.json"] = json.dumps(described).encode()
    write(folder / "coco", files)
    upload(emulator.client(), f"oss://{BUCKET}/coco", files)

    def loader(load: str, options: dict[str, Any]) -> Callable[[], Iterable[Any]]:
        pipeline = [
            {"type": load},
            {"type": "LoadAnnotations", "with_bbox": True},
            {"type": "Resize", "scale": (1333, 800), "keep_ratio": True},
            {"type": "RandomFlip", "prob": 0.5},
            {"type": "PackDetInputs"},
        ]
        shared = {"ann_file": "train.json", "data_prefix": {"img": "train/"}, "metainfo": {"classes": ("cat",)}}
        dataset = DATASETS.build({**shared, **options, "pipeline": pipeline})
        made = DataLoader(dataset, BATCH, shuffle=True, num_workers=WORKERS, collate_fn=list, persistent_workers=True)
        return lambda: made

    oss = {
        "type": "OSSDetDataset",
        "data_root": f"oss://{BUCKET}/coco",
        "oss_endpoint": emulator.endpoint,
        "oss_cred_path": emulator.cred_path,
        "oss_region": emulator.region,
        "ann_cache_dir": str(folder / "annotations"),
    }
    return {
        "local files": loader("LoadImageFromFile", {"type": "CocoDataset", "data_root": str(folder / "coco")}),
        "OSS": loader("OSSLoadImageFromFile", oss),
    }


def images_per_second(epoch: Callable[[], Iterable[Any]], count: int) -> tuple[float, float]:
    """Return the rate of an epoch, and the images for each second of processor time of workers and main process."""
    before = processor_seconds()
    started = time.monotonic()
    for _ in epoch():
        pass
    seconds = time.monotonic() - started
    return count / seconds, count / (processor_seconds() - before)


def processor_seconds() -> float:
    """Return what this process and its workers took so far; the emulator, a child too, runs another module."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    total = own.ru_utime + own.ru_stime
    me = str(os.getpid())
    ticks = os.sysconf("SC_CLK_TCK")
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
            command = (stat.parent / "cmdline").read_text()
        except OSError:
            continue
        if fields[1] == me and "osstorchconnector" not in command:
            total += (int(fields[11]) + int(fields[12])) / ticks
    return total


def rows(emulator: Emulator, name: str, loaders: Loaders, count: int, rounds: int) -> list[dict[str, Any]]:
    """Measure loaders in turn; the first epoch of each starts its workers and is not counted."""
    found: list[dict[str, Any]] = []
    for latency in (0.0, LATENCY):
        with emulator.fault(operation="GetObject", delay=latency):
            measured: dict[str, list[tuple[float, float]]] = {place: [] for place in loaders}
            for epoch in loaders.values():
                images_per_second(epoch, count)
            for _ in range(rounds):
                for place, epoch in loaders.items():
                    measured[place].append(images_per_second(epoch, count))
        for place, values in measured.items():
            rate, per_cpu = (round(statistics.median(column)) for column in zip(*values, strict=True))
            found.append(
                {
                    "loader": name,
                    "from": place,
                    "first_byte_ms": round(latency * 1000),
                    "images_per_second": rate,
                    "images_per_processor_second": per_cpu,
                }
            )
            print(json.dumps(found[-1]), flush=True)
    return found


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--images", type=int, default=400, help="pictures of an epoch")
    parser.add_argument("--rounds", type=int, default=5, help="epochs that are measured")
    parser.add_argument("loaders", nargs="*", default=["yolo", "mmdetection"], help="default: both")
    given = parser.parse_args()
    made = {"yolo": yolo, "mmdetection": mmdetection}
    if unknown := set(given.loaders) - set(made):
        parser.error(f"unknown loader: {', '.join(sorted(unknown))}. The loaders are {', '.join(made)}")
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, Emulator(buckets=[BUCKET]) as emulator:
        for name in given.loaders:
            loaders = made[name](emulator, Path(folder), given.images)
            rows(emulator, name, loaders, given.images, given.rounds)


if __name__ == "__main__":
    main()
