"""YOLO models from their YAML files, without downloaded weights, trained on made-up pictures in OSS."""

import atexit
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from osstorchconnector import (
    OssClient,
    OssConfigError,
    OssCredentialsError,
    OssError,
    OssFormatError,
    OssNotFoundError,
)
from osstorchconnector.credentials import FileCredentials
from osstorchconnector.integrations.ultralytics.labels import LabelRules, parse_label
from osstorchconnector.testing import Emulator
from tests.integrations.pictures import box_dataset, picture, upload, write

# It asks the network for a font, for weights and for new versions otherwise, and keeps settings in the home directory.
os.environ["YOLO_OFFLINE"] = "true"
os.environ["YOLO_AUTOINSTALL"] = "false"
os.environ["YOLO_CONFIG_DIR"] = _settings = tempfile.mkdtemp(prefix="osstorchconnector-tests-")
atexit.register(shutil.rmtree, _settings, ignore_errors=True)

ultralytics = pytest.importorskip("ultralytics")

pytestmark = [
    pytest.mark.slow(240),
    # Torch and OpenCV warn about this machine.
    pytest.mark.filterwarnings("ignore"),
]

MODEL = """
nc: 3
scales: {n: [0.33, 0.25, 64]}
backbone:
  - [-1, 1, Conv, [32, 3, 2]]
  - [-1, 1, Conv, [64, 3, 2]]
  - [-1, 1, Conv, [64, 3, 2]]
  - [-1, 1, Conv, [64, 3, 2]]
  - [-1, 1, Conv, [64, 3, 2]]
head:
  - [[2, 3, 4], 1, HEAD]
"""
HEADS = {
    "detect": "Detect, [nc]",
    "segment": "Segment, [nc, 8, 16]",
    "pose": "Pose, [nc, [2, 3]]",
    "obb": "OBB, [nc, 1]",
}
CLASSIFIER = """
nc: 3
scales: {n: [0.33, 0.25, 64]}
backbone:
  - [-1, 1, Conv, [32, 3, 2]]
  - [-1, 1, Conv, [64, 3, 2]]
head:
  - [-1, 1, Classify, [nc]]
"""


@pytest.fixture(autouse=True)
def _caches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))


def oss_trainer(emulator: Emulator, **options: Any) -> Any:
    from osstorchconnector import make_oss_trainer  # noqa: PLC0415 - it needs Ultralytics

    return make_oss_trainer(**emulator.connection, **options)


def local_trainer(task: str) -> Any:
    """Return a trainer of local files that takes workers on a machine without an accelerator, as that of OSS does."""
    from osstorchconnector.integrations.ultralytics.trainer import TRAINERS  # noqa: PLC0415 - as above

    base: Any = TRAINERS[task]

    class Local(base):  # type: ignore[misc]
        def __init__(self, cfg: Any, overrides: Any, _callbacks: Any) -> None:
            super().__init__(cfg, overrides, _callbacks)
            self.args.workers = overrides["workers"]

    return lambda overrides, _callbacks: Local(ultralytics.utils.DEFAULT_CFG, overrides, _callbacks)


def description(file: Path, place: str, more: str = "") -> str:
    file.write_text(f"path: {place}\ntrain: images/train\nval: images/val\nnames: [a, b, c]\n{more}")
    return str(file)


def new_model(folder: Path, task: str = "detect") -> Any:
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - Ultralytics draws from it
    torch.manual_seed(0)
    file = folder / f"yolo-{task}.yaml"
    more = "kpt_shape: [2, 3]\n" if task == "pose" else ""
    file.write_text(CLASSIFIER if task == "classify" else more + MODEL.replace("HEAD", HEADS[task]))
    return ultralytics.YOLO(str(file), task=task)


def train(model: Any, folder: Path, trainer: Any, data: str, **options: Any) -> Any:
    given = {
        "epochs": 2,
        "imgsz": 64,
        "batch": 4,
        "workers": 2,
        "seed": 3,
        "device": "cpu",
        "plots": False,
        "amp": False,
        # Mosaics in all epochs, and mixtures, which take images from other batches.
        "close_mosaic": 0,
        "mixup": 0.5,
        "verbose": False,
        "project": str(folder),
        "exist_ok": True,
    }
    return model.train(trainer=trainer, data=data, **{**given, **options})


def results(run: Path) -> tuple[list[list[str]], dict[str, torch.Tensor]]:
    """Return the figures of all epochs, without times, and the last weights."""
    lines = [line.split(",") for line in (run / "results.csv").read_text().splitlines()]
    checkpoint = torch.load(run / "weights" / "last.pt", weights_only=False)
    return [[line[0], *line[2:]] for line in lines], checkpoint["model"].state_dict()


def assert_same_training(first: Path, second: Path) -> None:
    (figures, weights), (other_figures, other_weights) = results(first), results(second)
    assert figures == other_figures
    assert len(figures) > 1
    assert all(torch.equal(weights[name], other_weights[name]) for name in weights)


@pytest.mark.parametrize("workers", [2, 0])
def test_a_training_from_oss_is_the_training_from_local_files(
    emulator: Emulator, client: OssClient, bucket: str, tmp_path: Path, workers: int
) -> None:
    files = box_dataset(16, 6)
    upload(client, f"oss://{bucket}/d", files)
    write(tmp_path / "d", files)
    local = description(tmp_path / "local.yaml", str(tmp_path / "d"))
    oss = description(tmp_path / "oss.yaml", f"oss://{bucket}/d")
    train(new_model(tmp_path), tmp_path, local_trainer("detect"), local, name="local", workers=workers)
    emulator.clear_requests()
    train(new_model(tmp_path), tmp_path, oss_trainer(emulator), oss, name="oss", workers=workers)
    assert_same_training(tmp_path / "local", tmp_path / "oss")
    read = {request.key for request in emulator.requests(operation="GetObject")}
    assert read == {f"d/{name}" for name in files}


@pytest.mark.parametrize(
    "options",
    [
        {"rect": True, "workers": 0},
        {"cache": "ram"},
        {"fraction": 0.5},
        {"single_cls": True},
        {"classes": [0, 2]},
    ],
    ids="-".join,
)
def test_options_have_the_same_effect_as_with_local_files(
    emulator: Emulator, client: OssClient, bucket: str, tmp_path: Path, options: dict[str, Any]
) -> None:
    files = box_dataset(12, 4)
    upload(client, f"oss://{bucket}/d", files)
    write(tmp_path / "d", files)
    local = description(tmp_path / "local.yaml", str(tmp_path / "d"))
    oss = description(tmp_path / "oss.yaml", f"oss://{bucket}/d")
    given = {"epochs": 1, **options}
    train(new_model(tmp_path), tmp_path, local_trainer("detect"), local, name="local", **{"workers": 2, **given})
    train(new_model(tmp_path), tmp_path, oss_trainer(emulator), oss, name="oss", **{"workers": 2, **given})
    assert_same_training(tmp_path / "local", tmp_path / "oss")


def test_manifests_name_the_same_images(emulator: Emulator, client: OssClient, bucket: str, tmp_path: Path) -> None:
    files = box_dataset(12, 4)
    upload(client, f"oss://{bucket}/d", files)
    for split in ("train", "val"):
        lines = [f"./{name}" for name in files if name.startswith(f"images/{split}/")]
        client.put(f"oss://{bucket}/d/{split}.txt", "\n".join(reversed(lines)).encode())
    prefixes = description(tmp_path / "prefixes.yaml", f"oss://{bucket}/d")
    manifests = tmp_path / "manifests.yaml"
    manifests.write_text(f"path: oss://{bucket}/d\ntrain: train.txt\nval: [val.txt]\nnames: [a, b, c]\n")
    train(new_model(tmp_path), tmp_path, oss_trainer(emulator), prefixes, name="prefixes", epochs=1)
    train(new_model(tmp_path), tmp_path, oss_trainer(emulator), str(manifests), name="manifests", epochs=1)
    assert_same_training(tmp_path / "prefixes", tmp_path / "manifests")


@pytest.mark.parametrize("task", ["segment", "pose", "obb"])
def test_the_other_tasks_are_trained_as_from_local_files(
    emulator: Emulator, client: OssClient, bucket: str, tmp_path: Path, task: str
) -> None:
    files = box_dataset(8, 4)
    shape = "0.3 0.3 0.6 0.3 0.6 0.6 0.3 0.6"
    line = "1 0.45 0.45 0.3 0.3 0.4 0.4 2 0.5 0.5 0\n" if task == "pose" else f"2 {shape}\n"
    files = {name: line.encode() if name.endswith(".txt") else content for name, content in files.items()}
    upload(client, f"oss://{bucket}/d", files)
    write(tmp_path / "d", files)
    more = "kpt_shape: [2, 3]\nflip_idx: [1, 0]\n" if task == "pose" else ""
    local = description(tmp_path / "local.yaml", str(tmp_path / "d"), more)
    oss = description(tmp_path / "oss.yaml", f"oss://{bucket}/d", more)
    train(new_model(tmp_path, task), tmp_path, local_trainer(task), local, name="local", epochs=1)
    train(new_model(tmp_path, task), tmp_path, oss_trainer(emulator), oss, name="oss", epochs=1)
    assert_same_training(tmp_path / "local", tmp_path / "oss")


def class_files() -> dict[str, bytes]:
    places = [(split, name, index) for split in ("train", "val") for name in ("a", "b", "c") for index in range(4)]
    return {f"{split}/{name}/{index}.png": picture(30 + index, 30 + ord(name)) for split, name, index in places}


@pytest.mark.parametrize("options", [{}, {"cache": "ram"}, {"fraction": 0.5}], ids=["plain", "ram", "fraction"])
def test_a_classifier_is_trained_and_validated_as_from_local_files(
    emulator: Emulator, client: OssClient, bucket: str, tmp_path: Path, options: dict[str, Any]
) -> None:
    files = class_files()
    upload(client, f"oss://{bucket}/d", files)
    write(tmp_path / "d", files)
    model, other = new_model(tmp_path, "classify"), new_model(tmp_path, "classify")
    train(model, tmp_path, local_trainer("classify"), str(tmp_path / "d"), name="local", **options)
    train(other, tmp_path, oss_trainer(emulator), f"oss://{bucket}/d", name="oss", **options)
    assert_same_training(tmp_path / "local", tmp_path / "oss")
    local = model.val(data=str(tmp_path / "d"), imgsz=64, project=str(tmp_path), name="val-local", plots=False)
    oss = other.val(
        validator=oss_validator(emulator),
        data=f"oss://{bucket}/d",
        imgsz=64,
        project=str(tmp_path),
        name="val-oss",
        plots=False,
    )
    assert local.results_dict == oss.results_dict


def oss_validator(emulator: Emulator, **options: Any) -> Any:
    from osstorchconnector.integrations.ultralytics import make_oss_validator  # noqa: PLC0415 - it needs Ultralytics

    return make_oss_validator(**emulator.connection, **options)


def texts_in(folder: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in sorted(folder.iterdir())}


def test_a_validation_from_oss_is_the_validation_from_local_files(
    emulator: Emulator, client: OssClient, bucket: str, tmp_path: Path
) -> None:
    files = box_dataset(0, 9)
    upload(client, f"oss://{bucket}/d", files)
    write(tmp_path / "d", files)
    local = tmp_path / "local.yaml"
    local.write_text(f"path: {tmp_path / 'd'}\ntrain: images/val\nval: images/val\nnames: [a, b, c]\n")
    oss = tmp_path / "oss.yaml"
    oss.write_text(f"path: oss://{bucket}/d\ntrain: images/val\nval: images/val\nnames: [a, b, c]\n")
    model = new_model(tmp_path)
    given: dict[str, Any] = {"imgsz": 64, "batch": 4, "plots": False, "save_txt": True, "save_conf": True}
    given.update(project=str(tmp_path), conf=1e-6)
    model.val(data=str(local), name="local", **given)
    model.val(data=str(oss), name="oss", validator=oss_validator(emulator), **given)
    found = texts_in(tmp_path / "oss" / "labels")
    assert found
    assert found == texts_in(tmp_path / "local" / "labels")
    with pytest.raises(OssConfigError, match="the split 'test' is missing"):
        model.val(data=str(oss), name="oss", validator=oss_validator(emulator), split="test", **given)


@pytest.mark.parametrize("batch", [1, 4])
def test_predictions_from_oss_are_the_predictions_from_local_files(
    emulator: Emulator, client: OssClient, bucket: str, tmp_path: Path, batch: int
) -> None:
    from osstorchconnector.integrations.ultralytics import OssImages  # noqa: PLC0415 - as above

    files = {name: content for name, content in box_dataset(9, 0).items() if name.startswith("images/")}
    upload(client, f"oss://{bucket}/d", files)
    write(tmp_path / "d", files)
    client.put(f"oss://{bucket}/d/images/train/x.png", b"no image")
    source = OssImages(f"oss://{bucket}/d/images", **emulator.connection, batch=batch)
    model = new_model(tmp_path)
    given: dict[str, Any] = {"imgsz": 64, "conf": 1e-6, "verbose": False}
    for _ in range(2):
        oss = list(model.predict(source=source, stream=True, **given))
        local = list(model.predict(source=str(tmp_path / "d" / "images" / "train"), stream=True, batch=batch, **given))
        assert [Path(one.path).name for one in oss] == [Path(one.path).name for one in local]
        assert oss[0].path == f"oss://{bucket}/d/images/train/000.jpg"
        assert sum(len(one.boxes) for one in oss) > 0
        assert all(torch.equal(one.boxes.data, other.boxes.data) for one, other in zip(oss, local, strict=True))


def test_a_training_resumes_from_weights_in_oss(
    emulator: Emulator, client: OssClient, bucket: str, tmp_path: Path
) -> None:
    from osstorchconnector.integrations.ultralytics import OssWeights  # noqa: PLC0415 - as above

    upload(client, f"oss://{bucket}/d", box_dataset(8, 4))
    oss = description(tmp_path / "oss.yaml", f"oss://{bucket}/d")
    weights = OssWeights(f"oss://{bucket}/run", **emulator.connection)
    assert weights.fetch(tmp_path / "none") is None
    model = new_model(tmp_path)
    weights.attach(model)

    def interrupt(trainer: Any) -> None:
        if trainer.epoch == 2:
            raise KeyboardInterrupt

    model.add_callback("on_train_epoch_start", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(model, tmp_path, oss_trainer(emulator), oss, name="first", epochs=4)
    stored = {item.name: item.size for item in client.list(f"oss://{bucket}/run/")}
    assert set(stored) == {f"run/{name}" for name in ("args.yaml", "best.pt", "last.pt", "results.csv")}
    file = weights.fetch(tmp_path / "second")
    assert file == tmp_path / "second" / "last.pt"
    resumed = ultralytics.YOLO(str(file))
    weights.attach(resumed)
    began: list[int] = []
    resumed.add_callback("on_train_epoch_start", lambda trainer: began.append(trainer.epoch))
    resumed.train(trainer=oss_trainer(emulator), resume=True)
    assert began == [2, 3]
    last = client.get(f"oss://{bucket}/run/last.pt")
    # Ultralytics has taken out what a training needs.
    assert len(last) < stored["run/last.pt"]
    assert last == (tmp_path / "first" / "weights" / "last.pt").read_bytes()


def test_the_programs_of_the_guide_run(
    emulator: Emulator, client: OssClient, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "guides" / "ultralytics.md").read_text()
    (yaml,) = re.findall(r"```yaml\n(.*?)```", guide, flags=re.DOTALL)
    blocks = re.findall(r"```python\n(.*?)```", guide, flags=re.DOTALL)
    files = {
        name.replace("/train/", "/train2017/").replace("/val/", "/val2017/"): content
        for name, content in box_dataset(8, 4).items()
    }
    upload(client, f"oss://{bucket}/coco", files)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OSS_REGION", emulator.region)
    new_model(tmp_path)
    replaced = {
        "oss://bucket": f"oss://{bucket}",
        "oss-cn-hangzhou-internal.aliyuncs.com": emulator.endpoint,
        "/root/.alibabacloud/credentials": emulator.connection["cred_path"],
        "yolo11n.yaml": "yolo-detect.yaml",
        "epochs=100": "epochs=1, imgsz=64, plots=False, device='cpu', amp=False",
        "/local/run-1": str(tmp_path / "other"),
    }

    def adapted(text: str) -> str:
        for old, new in replaced.items():
            text = text.replace(old, new)
        return text

    Path("coco_oss.yaml").write_text(adapted(yaml))
    names: dict[str, Any] = {}
    *most, resuming = blocks
    for block in most:
        exec(adapted(block), names)
    assert names["result"].path.startswith(f"oss://{bucket}/coco/images/val2017/")
    # The training is over, so Ultralytics begins another one, and this one names no dataset.
    with pytest.raises(OssConfigError, match=r"coco8\.yaml cannot be read"):
        exec(adapted(resuming), names)
    assert (tmp_path / "other" / "last.pt").is_file()


def test_weights_that_cannot_be_stored_end_the_training(
    emulator: Emulator, client: OssClient, bucket: str, tmp_path: Path
) -> None:
    from osstorchconnector.integrations.ultralytics import OssWeights  # noqa: PLC0415 - as above

    upload(client, f"oss://{bucket}/d", box_dataset(8, 4))
    oss = description(tmp_path / "oss.yaml", f"oss://{bucket}/d")
    model = new_model(tmp_path)
    OssWeights("oss://no-such-bucket/run", **emulator.connection).attach(model)
    with pytest.raises(OssNotFoundError, match="no-such-bucket"):
        train(model, tmp_path, oss_trainer(emulator), oss, name="oss", epochs=1)


def test_a_killed_worker_ends_the_training(emulator: Emulator, client: OssClient, bucket: str, tmp_path: Path) -> None:
    upload(client, f"oss://{bucket}/d", box_dataset(16, 4))
    oss = description(tmp_path / "oss.yaml", f"oss://{bucket}/d")
    model = new_model(tmp_path)
    model.add_callback(
        "on_train_batch_end", lambda trainer: os.kill(trainer.train_loader.iterator._workers[0].pid, signal.SIGKILL)
    )
    with pytest.raises(RuntimeError, match=r"DataLoader worker .* (killed|exited)"):
        train(model, tmp_path, oss_trainer(emulator), oss, name="oss")


def fresh(connection: Any, place: str, **options: Any) -> Any:
    from osstorchconnector import OSSYOLODataset  # noqa: PLC0415 - as above

    given = {f"oss_{name}": value for name, value in connection.items()}
    hyp = ultralytics.utils.DEFAULT_CFG
    data = {"names": {0: "a", 1: "b", 2: "c"}, "channels": 3}
    return OSSYOLODataset(place, data=data, imgsz=64, batch_size=4, hyp=hyp, **given, **{"augment": False, **options})


def test_the_images_of_a_batch_are_fetched_at_once(emulator: Emulator, client: OssClient, bucket: str) -> None:
    upload(client, f"oss://{bucket}/d", box_dataset(8, 0))
    dataset = fresh(emulator.connection, f"/{bucket}/d/images/train")
    emulator.clear_requests()
    with emulator.fault(operation="GetObject", delay=0.5):
        began = time.monotonic()
        samples = dataset.__getitems__([5, 0, 3, 5, 2, 1])
    assert time.monotonic() - began < 2
    assert [Path(sample["im_file"]).stem for sample in samples] == ["005", "000", "003", "005", "002", "001"]
    # The sixth is asked for twice, since a batch may have it twice, and nothing is kept.
    assert len(emulator.requests(operation="GetObject")) == 6


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers_read_by_themselves(emulator: Emulator, client: OssClient, bucket: str, method: str) -> None:
    upload(client, f"oss://{bucket}/d", box_dataset(8, 0))
    dataset = fresh(emulator.connection, f"/{bucket}/d/images/train")
    loader = torch.utils.data.DataLoader(
        dataset, batch_size=2, num_workers=2, collate_fn=dataset.collate_fn, multiprocessing_context=method
    )
    got = [batch["img"] for batch in loader]
    expected = [dataset.collate_fn(dataset.__getitems__([index, index + 1]))["img"] for index in range(0, 8, 2)]
    assert all(map(torch.equal, got, expected))


def test_an_image_that_was_deleted_or_cannot_be_decoded_is_named(
    emulator: Emulator, client: OssClient, bucket: str
) -> None:
    files = box_dataset(4, 0)
    broken = files["images/train/001.png"]
    files["images/train/001.png"] = broken[:60] + bytes(len(broken) - 60)
    upload(client, f"oss://{bucket}/d", files)
    dataset = fresh(emulator.connection, f"/{bucket}/d/images/train")
    with pytest.raises(
        OssFormatError, match=rf"oss://{bucket}/d/images/train/001\.png is no image that can be decoded"
    ):
        dataset.__getitems__([0, 1])
    client.delete(f"oss://{bucket}/d/images/train/002.webp")
    with pytest.raises(OssNotFoundError, match=r"images/train/002\.webp"):
        dataset[2]


# Bad input.


def test_corrupt_labels_are_named(
    emulator: Emulator, client: OssClient, bucket: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = box_dataset(8, 4)
    files["labels/train/002.txt"] = b"0 0.5 0.5 0.1 0.1\n7 0.5 0.5 0.1 0.1\n"
    upload(client, f"oss://{bucket}/d", files)
    oss = description(tmp_path / "oss.yaml", f"oss://{bucket}/d")
    reason = f"oss://{bucket}/d/labels/train/002.txt:2: the dataset has the classes 0 to 2: '7 0.5 0.5 0.1 0.1'"
    with pytest.raises(OssFormatError, match=re.escape(reason)):
        train(new_model(tmp_path), tmp_path, oss_trainer(emulator, on_corrupt="raise"), oss)
    caplog.clear()
    ultralytics.utils.LOGGER.propagate = True
    for _ in range(2):
        # The second one has it from the cache.
        dataset = fresh(emulator.connection, f"/{bucket}/d/images/train")
        assert len(dataset) == 7
        warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        assert any("1 images are left out" in message and reason in message for message in warnings)
        caplog.clear()


def test_a_dataset_that_is_wrong_throughout_is_refused(emulator: Emulator, client: OssClient, bucket: str) -> None:
    upload(client, f"oss://{bucket}/d", {"images/a.png": picture(20, 20), "labels/a.txt": b"4 0.5 0.5 0.1 0.1"})
    with pytest.raises(OssFormatError, match=r"all 1 images .* corrupt:\n.*labels/a\.txt:1: the dataset has"):
        fresh(emulator.connection, f"/{bucket}/d/images")
    client.delete(f"oss://{bucket}/d/labels/a.txt")
    with pytest.raises(OssFormatError, match=r"none of the 1 images .* would be oss://.*/d/labels/a\.txt"):
        fresh(emulator.connection, f"/{bucket}/d/images", augment=True)


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("/local/coco", "path must be the place of the dataset like 'oss://bucket/base', not '/local/coco'"),
        ("oss://{bucket}/d", "no image is below oss://.*/d/images/train/"),
        ("oss://no-such-bucket/d", "no-such-bucket"),
    ],
)
def test_a_wrong_place_is_named(emulator: Emulator, bucket: str, tmp_path: Path, place: str, reason: str) -> None:
    oss = description(tmp_path / "oss.yaml", place.format(bucket=bucket))
    with pytest.raises(OssError, match=reason):
        train(new_model(tmp_path), tmp_path, oss_trainer(emulator), oss)


def test_what_is_not_supported_is_refused(emulator: Emulator, client: OssClient, bucket: str, tmp_path: Path) -> None:
    upload(client, f"oss://{bucket}/d", box_dataset(4, 4))
    oss = description(tmp_path / "oss.yaml", f"oss://{bucket}/d")
    with pytest.raises(OssConfigError, match="use cache='ram' or False"):
        train(new_model(tmp_path), tmp_path, oss_trainer(emulator), oss, cache="disk")
    with pytest.raises(OssConfigError, match="task 'depth' cannot be read from OSS: the tasks are detect"):
        oss_trainer(emulator, task="depth")
    with pytest.raises(OssConfigError, match="the key 'kpt_shape' is missing"):
        train(new_model(tmp_path, "pose"), tmp_path, oss_trainer(emulator), oss)
    derived = type("Mine", (oss_trainer(emulator),), {})
    with pytest.raises(
        OssConfigError, match=r"Mine is for the task 'detect', but .* make_oss_trainer\(.*task='segment'"
    ):
        train(new_model(tmp_path, "segment"), tmp_path, derived, oss)


# Several devices.


def test_the_file_for_processes_of_other_devices_trains(
    emulator: Emulator, client: OssClient, bucket: str, tmp_path: Path
) -> None:
    from ultralytics.utils.dist import ddp_cleanup, generate_ddp_file  # noqa: PLC0415 - as above

    upload(client, f"oss://{bucket}/d", box_dataset(8, 4))
    oss = description(tmp_path / "oss.yaml", f"oss://{bucket}/d")
    model = new_model(tmp_path)
    started: list[Any] = []
    model.add_callback("on_pretrain_routine_start", started.append)
    train(model, tmp_path, oss_trainer(emulator), oss, name="one", epochs=1)
    overrides = {**vars(started[0].args), "name": "other", "save_dir": None}
    trainer = oss_trainer(emulator)(overrides=overrides)
    file = generate_ddp_file(trainer)
    try:
        content = b"".join(path.read_bytes() for path in Path(file).parent.iterdir())
        done = subprocess.run([sys.executable, file], capture_output=True, text=True, check=False)
    finally:
        ddp_cleanup(trainer, file)
    assert done.returncode == 0, done.stderr
    assert_same_training(tmp_path / "one", tmp_path / "other")
    secret = json.loads(Path(emulator.connection["cred_path"]).read_text())["AccessKeySecret"]
    assert secret.encode() not in content


def test_keys_given_in_the_program_get_into_no_file(
    emulator: Emulator, client: OssClient, bucket: str, tmp_path: Path
) -> None:
    upload(client, f"oss://{bucket}/d", box_dataset(4, 4))
    oss = description(tmp_path / "oss.yaml", f"oss://{bucket}/d")

    class Provider:
        def get_credentials(self) -> Any:
            return FileCredentials(emulator.connection["cred_path"]).get_credentials()

    made = make_trainer_of(emulator, Provider())
    overrides = {"model": str(tmp_path / "m.yaml"), "data": oss, "device": "cpu", "task": "detect"}
    trainer = made(overrides={**overrides, "project": str(tmp_path)})
    trainer.ddp = True
    with pytest.raises(OssCredentialsError, match="a cred_provider cannot be pickled"):
        trainer.train()
    # Ultralytics removes the folder of a run before it writes the file.
    assert Path(trainer.save_dir).is_dir()


def make_trainer_of(emulator: Emulator, provider: Any) -> Any:
    from osstorchconnector import make_oss_trainer  # noqa: PLC0415 - it needs Ultralytics

    return make_oss_trainer(emulator.endpoint, cred_provider=provider, region=emulator.region)


def random_label(numbers: random.Random) -> str:
    kind = numbers.choice(["box", "box", "polygon", "point"])
    lines = []
    for _ in range(numbers.randint(0, 4)):
        count = {"box": 4, "polygon": 2 * numbers.randint(3, 5), "point": 4 + 6}[kind]
        values = [
            f"{numbers.choice([numbers.random(), numbers.random(), 1.005, 1.02, -0.005, 0])}" for _ in range(count)
        ]
        lines.append(
            " ".join(
                [numbers.choice(["0", "1", "2", "1.5", "3", "1"]), *values[: count - numbers.randint(0, 30) // 30]]
            )
        )
    lines += lines[:1] * numbers.randint(0, 1)
    return "\n".join(lines)


@pytest.mark.parametrize(
    "rules", [LabelRules(3), LabelRules(3, keypoints=True, kpt_shape=(2, 3)), LabelRules(1, single_cls=True)]
)
def test_labels_are_checked_as_ultralytics_checks_local_ones(tmp_path: Path, rules: LabelRules) -> None:
    from ultralytics.data.utils import verify_image_label  # noqa: PLC0415 - as above

    image, file = tmp_path / "a.png", tmp_path / "a.txt"
    image.write_bytes(picture(20, 20))
    numbers = random.Random(1)
    outcomes = set()
    for _ in range(1500):
        text = random_label(numbers)
        file.write_text(text)
        arguments = (str(image), str(file), "", rules.keypoints, rules.classes, *rules.kpt_shape, rules.single_cls)
        _, rows, _, segments, keypoints, *_, corrupt, _ = verify_image_label(arguments)
        try:
            label = parse_label(text.encode(), "u", rules)
        except OssError:
            assert corrupt, text
            outcomes.add("corrupt")
            continue
        assert not corrupt, text
        outcomes.add("good")
        assert np.array_equal(label.rows, rows), text
        assert len(label.segments) == len(segments)
        assert all(map(np.array_equal, label.segments, segments)), text
        assert (label.keypoints is None) == (keypoints is None)
        assert keypoints is None or np.array_equal(label.keypoints, keypoints)
    assert outcomes == {"corrupt", "good"}
