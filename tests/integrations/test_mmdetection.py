"""MMDetection reads COCO datasets from OSS, with the same samples and the same training as from local files."""

import copy
import json
import os
import re
import signal
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from osstorchconnector import OssClient, OssConfigError, OssFormatError, OssNotFoundError, get_oss_ann_path
from osstorchconnector.testing import Emulator

from . import coco, operators

pytest.importorskip("mmdet")
operators.install()
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from mmdet.registry import DATASETS
    from mmengine.registry import init_default_scope

    from osstorchconnector import OSSDetDataset

pytestmark = [
    pytest.mark.slow(200),
    # MMDetection and what it imports warn of each other.
    pytest.mark.filterwarnings("ignore"),
]


META = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")


@pytest.fixture(autouse=True)
def _scope() -> None:
    init_default_scope("mmdet")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return coco.written(tmp_path / "coco")


@pytest.fixture
def root(client: OssClient, bucket: str, folder: Path) -> str:
    return coco.uploaded(client, folder, f"oss://{bucket}/coco")


def pipeline(load: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        load,
        {"type": "LoadAnnotations", "with_bbox": True},
        {"type": "RandomResize", "scale": [(64, 64), (96, 96)], "keep_ratio": False},
        {"type": "RandomFlip", "prob": 0.5},
        {"type": "PackDetInputs"},
    ]


def local_config(folder: Path) -> dict[str, Any]:
    return {
        "type": "CocoDataset",
        "data_root": str(folder),
        "ann_file": "train.json",
        "data_prefix": {"img": "train/"},
        "metainfo": {"classes": coco.CLASSES},
        "pipeline": pipeline({"type": "LoadImageFromFile"}),
    }


@pytest.fixture
def config(emulator: Emulator, folder: Path, root: str, tmp_path: Path) -> dict[str, Any]:
    return {
        **local_config(folder),
        "type": "OSSDetDataset",
        "data_root": root,
        "oss_endpoint": emulator.endpoint,
        "oss_cred_path": emulator.cred_path,
        "oss_region": emulator.region,
        "ann_cache_dir": str(tmp_path / "cache"),
        "pipeline": pipeline({"type": "OSSLoadImageFromFile"}),
    }


def seeded(_worker: int = 0) -> None:
    import random  # noqa: PLC0415

    import numpy as np  # noqa: PLC0415

    random.seed(5)
    np.random.seed(5)  # noqa: NPY002 - the transforms use this generator
    torch.manual_seed(5)


def samples(dataset: Any, **options: Any) -> list[Any]:
    seeded()
    loader = DataLoader(dataset, batch_size=5, collate_fn=list, worker_init_fn=seeded, **options)
    found = []
    for batch in loader:
        for sample in batch:
            label = sample["data_samples"]
            instances = label.gt_instances
            found.append(
                (
                    Path(label.img_path).name,
                    label.img_id,
                    sample["inputs"].numpy().tobytes(),
                    instances.bboxes.tensor.tolist(),
                    instances.labels.tolist(),
                )
            )
    return found


@pytest.mark.parametrize(
    "options", [{}, {"num_workers": 2}, {"num_workers": 1, "multiprocessing_context": "forkserver"}]
)
def test_the_samples_are_those_of_local_files(config: dict[str, Any], folder: Path, options: dict[str, Any]) -> None:
    local = DATASETS.build(local_config(folder))
    remote = DATASETS.build(config)
    assert len(remote) == len(local) == coco.COUNT
    workers = {"num_workers": options.get("num_workers", 0)}
    assert samples(operators.WithOperators(remote), **options) == samples(local, **workers)


def test_a_batch_is_fetched_together_and_once(emulator: Emulator, bucket: str, config: dict[str, Any]) -> None:
    dataset = DATASETS.build(config)
    emulator.clear_requests()
    assert len(dataset.__getitems__([3, 1, 3, 5])) == 4
    requests = [request.key for request in emulator.requests() if request.bucket == bucket]
    assert sorted(filter(None, requests)) == [f"coco/train/{number:03}.png" for number in (1, 3, 5)]


def test_plain_mmdetection_reads_through_the_backend(
    emulator: Emulator, config: dict[str, Any], folder: Path, root: str
) -> None:
    arguments = {"backend": "oss", **emulator.connection}
    plain = {
        **local_config(folder),
        "data_root": root,
        "backend_args": arguments,
        "pipeline": pipeline({"type": "LoadImageFromFile", "backend_args": arguments}),
    }
    assert samples(DATASETS.build(plain)) == samples(DATASETS.build(config))


def test_the_path_of_the_annotations_is_there_for_an_evaluator(config: dict[str, Any], root: str) -> None:
    DATASETS.build(config)
    _, _, path = get_oss_ann_path(root, "train.json", config["ann_cache_dir"])
    assert json.loads(Path(path).read_bytes()) == coco.annotations()


def test_a_copy_may_become_a_subset(config: dict[str, Any]) -> None:
    dataset = DATASETS.build(config)
    copied = copy.deepcopy(dataset)
    copied.get_subset_(3)
    assert (len(copied), len(dataset), len(dataset.get_subset([1, 2]))) == (3, coco.COUNT, 2)
    assert len(samples(copied)) == 3


def test_a_sample_of_mixed_images_reads_each(config: dict[str, Any]) -> None:
    config["pipeline"] = pipeline({"type": "OSSLoadImageFromFile"})[:2]
    mixed = DATASETS.build(
        {
            "type": "MultiImageMixDataset",
            "dataset": config,
            "pipeline": [{"type": "Mosaic", "img_scale": (64, 64)}, {"type": "PackDetInputs"}],
        }
    )
    assert mixed[0]["inputs"].shape == (3, 128, 128)


def test_annotations_that_were_cut_short_are_named_with_the_place(
    client: OssClient, config: dict[str, Any], root: str
) -> None:
    whole = client.get(f"{root}/train.json")
    client.put(f"{root}/train.json", whole[:1000])
    with pytest.raises(OssFormatError, match=rf"{root}/train.json is no whole COCO file: JSONDecodeError: .*char \d+"):
        DATASETS.build(config)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([], "AssertionError"),
        ({**coco.annotations(), "annotations": [{"id": 1, "image_id": 0, "category_id": 1}]}, "KeyError: 'bbox'"),
        ({"images": [], "annotations": []}, "KeyError: 'categories'"),
    ],
)
def test_what_is_no_coco_file_is_named(
    client: OssClient, config: dict[str, Any], root: str, content: object, reason: str
) -> None:
    client.put(f"{root}/train.json", json.dumps(content).encode())
    with pytest.raises(OssFormatError, match=f"{root}/train.json is no whole COCO file: {reason}"):
        DATASETS.build(config)


def test_a_prefix_without_images_is_an_error_at_once(config: dict[str, Any]) -> None:
    config["data_prefix"] = {"img": "val/"}
    with pytest.raises(OssNotFoundError, match=r'key="coco/val/000\.png"') as caught:
        DATASETS.build(config)
    assert "is data_prefix=" in caught.value.__notes__[0]


def test_classes_that_the_file_does_not_have_are_an_error(config: dict[str, Any], root: str) -> None:
    config["metainfo"] = {"classes": ("horse",)}
    with pytest.raises(OssConfigError, match=rf"{root}/train.json has none of the classes \('horse',\)"):
        DATASETS.build(config)


def test_some_missing_classes_are_a_warning(
    config: dict[str, Any], root: str, caplog: pytest.LogCaptureFixture
) -> None:
    config["metainfo"] = {"classes": ("cat", "horse")}
    DATASETS.build(config)
    assert f"{root}/train.json has 1 of 2 classes: no sample has the others" in caplog.text


def test_a_filter_that_leaves_nothing_is_an_error(config: dict[str, Any], root: str) -> None:
    config["filter_cfg"] = {"min_size": 1000}
    with pytest.raises(OssConfigError, match=f"{root}/train.json names 12 images, of which filter_cfg=.* leave none"):
        DATASETS.build(config)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_is_missing_is_named(client: OssClient, config: dict[str, Any], root: str, workers: int) -> None:
    dataset = DATASETS.build(config)
    client.delete(f"{root}/train/007.png")
    with pytest.raises(OssNotFoundError, match=r'key="coco/train/007\.png"'):
        samples(dataset, num_workers=workers)


@pytest.mark.parametrize("content", [b"", b"no image", None])
def test_an_image_that_cannot_be_decoded_is_named(
    client: OssClient, config: dict[str, Any], root: str, content: bytes | None
) -> None:
    uri = f"{root}/train/007.png"
    client.put(uri, client.get(uri)[:300] if content is None else content)
    with pytest.raises(OssFormatError, match=uri):
        samples(DATASETS.build(config))


def test_an_image_that_may_be_missing_is_in_the_log(
    client: OssClient, config: dict[str, Any], root: str, caplog: pytest.LogCaptureFixture
) -> None:
    config["pipeline"][0]["ignore_empty"] = True
    dataset = DATASETS.build(config)
    client.delete(f"{root}/train/007.png")
    assert len(samples(dataset)) == coco.COUNT
    assert f"another sample takes the place of {root}/train/007.png" in caplog.text


def test_a_worker_that_is_killed_ends_the_epoch(config: dict[str, Any]) -> None:
    dataset = DATASETS.build(config)
    loader: Any = iter(DataLoader(dataset, batch_size=1, num_workers=1, prefetch_factor=1, collate_fn=list))
    next(loader)
    os.kill(loader._workers[0].pid, signal.SIGKILL)
    with pytest.raises(RuntimeError, match="worker"):
        list(loader)


def test_a_root_elsewhere_is_refused(config: dict[str, Any]) -> None:
    config["data_root"] = "data/coco"
    with pytest.raises(OssConfigError, match="data_root is 'data/coco'"):
        DATASETS.build(config)


def test_the_names_are_those_of_the_original() -> None:
    import inspect  # noqa: PLC0415

    assert list(inspect.signature(OSSDetDataset.__init__).parameters.items())[1:] == [
        (name, inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=annotation))
        for name, default, annotation in [
            ("data_root", inspect.Parameter.empty, str),
            ("ann_file", inspect.Parameter.empty, str),
            ("oss_endpoint", inspect.Parameter.empty, str),
            ("oss_cred_path", "", str),
            ("oss_config_path", "", str),
            ("oss_cred_provider", None, object),
            ("oss_region", "", str),
            ("ann_cache_dir", "/tmp", str),
        ]
    ] + [("kwargs", inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD, annotation=Any))]


def small(config: Any) -> Any:
    """Return a model of a configuration of RTMDet, small enough for a test."""
    model = config.model
    model.data_preprocessor.batch_augments = None
    model.backbone.update({"init_cfg": None, "deepen_factor": 0.167, "widen_factor": 0.125})
    model.neck.update({"in_channels": [32, 64, 128], "out_channels": 32})
    model.bbox_head.update({"num_classes": 2, "in_channels": 32, "feat_channels": 32})
    for part in (model.backbone, model.neck, model.bbox_head):
        part.norm_cfg = {"type": "BN"}
    return model


def rtmdet() -> Any:
    import mmdet  # noqa: PLC0415
    from mmengine.config import Config  # noqa: PLC0415

    return Config.fromfile(Path(mmdet.__file__).parent / ".mim/configs/rtmdet/rtmdet_tiny_8xb32-300e_coco.py")


def trained(dataset: dict[str, Any], folder: Path) -> dict[str, torch.Tensor]:
    """Train a small RTMDet for two epochs with two workers, and return its weights."""
    from mmengine.runner import Runner  # noqa: PLC0415

    runner = Runner(
        model=small(rtmdet()),
        work_dir=str(folder),
        train_dataloader={
            "batch_size": 4,
            "num_workers": 2,
            "sampler": {"type": "DefaultSampler", "shuffle": True},
            "dataset": dataset,
        },
        train_cfg={"by_epoch": True, "max_epochs": 2},
        optim_wrapper={"optimizer": {"type": "SGD", "lr": 0.01}},
        randomness={"seed": 3},
        default_scope="mmdet",
        experiment_name=folder.name,
    )
    weights: dict[str, torch.Tensor] = runner.train().state_dict()
    return weights


def test_the_training_is_that_of_local_files(config: dict[str, Any], folder: Path, tmp_path: Path) -> None:
    resized = {"type": "Resize", "scale": (64, 64), "keep_ratio": False}
    local = local_config(folder)
    config["pipeline"][2] = local["pipeline"][2] = resized
    expected = trained(local, tmp_path / "local")
    found = trained(config, tmp_path / "remote")
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_the_guide_trains_and_evaluates(
    emulator: Emulator, client: OssClient, bucket: str, folder: Path, tmp_path: Path
) -> None:
    from mmengine.runner import Runner  # noqa: PLC0415

    guide = (Path(__file__).parents[2] / "docs" / "guides" / "openmmlab.md").read_text()
    block = re.findall(r"```python\n(.*?)```", guide, flags=re.DOTALL)[0]
    replaced = {
        'oss_endpoint="oss-cn-hangzhou-internal.aliyuncs.com"': f'oss_endpoint="{emulator.endpoint}", '
        f'oss_region="{emulator.region}", ann_cache_dir="{tmp_path}", metainfo={{"classes": ("cat", "dog")}}',
        "/root/.alibabacloud/credentials": emulator.cred_path,
        "oss://bucket/coco": f"oss://{bucket}/coco",
        'annotations/val.json")[2]': f'annotations/val.json", "{tmp_path}")[2]',
    }
    for given, here in replaced.items():
        assert given in block
        block = block.replace(given, here)
    for part in ("train", "val"):
        client.put(f"oss://{bucket}/coco/annotations/{part}.json", (folder / "train.json").read_bytes())
        for image in (folder / "train").iterdir():
            client.put(f"oss://{bucket}/coco/{part}/{image.name}", image.read_bytes())
    cfg = rtmdet()
    # A model that has learned nothing finds nothing that counts otherwise, and then there is no score.
    cfg.model.test_cfg.update({"score_thr": 0, "min_bbox_size": -1})
    exec(block, {"cfg": cfg})
    size = {"type": "Resize", "scale": (64, 64), "keep_ratio": False}
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        first, *_ = loader.dataset.pipeline
        loader.dataset.pipeline = [*pipeline(first)[:2], size, {"type": "PackDetInputs", "meta_keys": META}]
        loader.num_workers, loader.batch_size, loader.persistent_workers = 1, 4, False
    runner = Runner(
        model=small(cfg),
        work_dir=str(tmp_path / "work"),
        train_dataloader=cfg.train_dataloader,
        val_dataloader=cfg.val_dataloader,
        val_evaluator=cfg.val_evaluator,
        train_cfg={"by_epoch": True, "max_epochs": 1},
        val_cfg=cfg.val_cfg,
        optim_wrapper={"optimizer": {"type": "SGD", "lr": 0.01}},
        randomness={"seed": 3},
        default_scope="mmdet",
        experiment_name="guide",
    )
    runner.train()
    assert "val/coco/bbox_mAP" in runner.message_hub.log_scalars
    read = {request.key for request in emulator.requests(operation="GetObject") if request.bucket == bucket}
    images = [path.name for path in (folder / "train").iterdir()]
    assert read >= {f"coco/{part}/{name}" for part in ("train", "val") for name in images}
