"""Train a tiny YOLO model on made-up pictures in OSS; no account and no weights are needed.

    pip install 'ultralytics>=8.4.190'
    python examples/ultralytics_train.py

An OSS server runs inside this process. The training shows the way of the data. It is too short to find much.
"""

import io
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

# Nothing is downloaded, not even a font.
os.environ["YOLO_OFFLINE"] = "true"

from ultralytics import YOLO

from osstorchconnector.integrations.ultralytics import OssImages, OssWeights, make_oss_trainer, make_oss_validator
from osstorchconnector.testing import Emulator

BUCKET = "pictures"
EPOCHS = 3
VALIDATED = 8

MODEL = """
nc: 1
scales: {n: [0.33, 0.25, 64]}
backbone:
  - [-1, 1, Conv, [32, 3, 2]]
  - [-1, 1, Conv, [64, 3, 2]]
  - [-1, 1, Conv, [64, 3, 2]]
head:
  - [[0, 1, 2], 1, Detect, [nc]]
"""
DATA = f"""
path: oss://{BUCKET}/squares
train: images/train
val: images/val
names: [square]
"""


def squares(count: int, seed: int) -> dict[str, bytes]:
    """Return images with a white square on noise, and their labels."""
    numbers = np.random.default_rng(seed)
    files = {}
    for index in range(count):
        pixels = numbers.integers(0, 100, (64, 64, 3)).astype(np.uint8)
        left, top, size = (int(value) for value in (*numbers.integers(0, 40, 2), numbers.integers(12, 24)))
        pixels[top : top + size, left : left + size] = 255
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        files[f"images/{{}}/{index}.png"] = buffer.getvalue()
        box = ((left + size / 2) / 64, (top + size / 2) / 64, size / 64, size / 64)
        files[f"labels/{{}}/{index}.txt"] = f"0 {' '.join(map(str, box))}".encode()
    return files


def main() -> int:
    """Train, validate and predict; return the exit status."""
    with Emulator(buckets=[BUCKET]) as emulator, tempfile.TemporaryDirectory() as folder:
        client, connection = emulator.client(), emulator.connection
        for split, count in (("train", 32), ("val", VALIDATED)):
            for name, content in squares(count, count).items():
                client.put(f"oss://{BUCKET}/squares/{name.format(split)}", content)
        data, architecture = Path(folder, "squares.yaml"), Path(folder, "tiny.yaml")
        data.write_text(DATA)
        architecture.write_text(MODEL)

        model = YOLO(str(architecture))
        weights = OssWeights(f"oss://{BUCKET}/runs/1", **connection)
        weights.attach(model)
        options = {"imgsz": 64, "project": folder, "plots": False, "device": "cpu"}
        trainer = make_oss_trainer(**connection, label_cache=f"oss://{BUCKET}/caches")
        model.train(trainer=trainer, data=str(data), epochs=EPOCHS, batch=8, workers=1, warmup_epochs=1, **options)

        stored = weights.fetch(Path(folder, "elsewhere"), "best.pt")
        best = YOLO(str(stored))
        metrics = best.val(validator=make_oss_validator(**connection), data=str(data), **options)
        source = OssImages(f"oss://{BUCKET}/squares/images/val", **connection, batch=4)
        found = list(best.predict(source, stream=True, conf=0.005, imgsz=64, verbose=False))
        boxes = sum(len(one.boxes) for one in found)
        print(f"mAP50 {metrics.box.map50:.2f}; the weights {stored} found {boxes} boxes on {len(found)} images")
        return 0 if len(found) == VALIDATED else 1


if __name__ == "__main__":
    sys.exit(main())
