"""Trainers that read their images from OSS."""

import os
import pickle
from typing import Any, ClassVar, Final, Literal

from ultralytics.data.utils import get_split_fraction
from ultralytics.engine.trainer import BaseTrainer
from ultralytics.models import yolo
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.utils import DEFAULT_CFG, LOGGER
from ultralytics.utils.torch_utils import unwrap_model

from osstorchconnector._tested_versions import warn_if_untested
from osstorchconnector.connection.client import OssClient
from osstorchconnector.connection.config import OssConfig
from osstorchconnector.credentials.shield import guarded
from osstorchconnector.integrations.ultralytics.classification import OSSClassificationDataset
from osstorchconnector.integrations.ultralytics.connection import DataSettings
from osstorchconnector.integrations.ultralytics.dataset import yolo_dataset
from osstorchconnector.integrations.ultralytics.splits import describe, described_by
from osstorchconnector.integrations.ultralytics.tasks import class_of_task, in_place_of

# The oldest and the newest release that the tests were run with.
_TESTED: Final = ((8, 4), (8, 4))

#: The trainer of each task that can be read from OSS.
TRAINERS: Final[dict[str, type[BaseTrainer]]] = {
    "detect": DetectionTrainer,
    "segment": yolo.segment.SegmentationTrainer,
    "pose": yolo.pose.PoseTrainer,
    "obb": yolo.obb.OBBTrainer,
    "classify": yolo.classify.ClassificationTrainer,
}


class _OssTraining:
    """The part of a trainer that reads from OSS. It stands before a trainer of Ultralytics."""

    oss_settings: ClassVar[DataSettings]
    oss_task: ClassVar[str]

    args: Any
    data: Any
    ddp: bool
    model: Any

    def __new__(cls, cfg: Any = DEFAULT_CFG, overrides: Any = None, _callbacks: Any = None) -> Any:  # noqa: ANN401
        """Return a trainer for the task of the model, which is known only now."""
        other = in_place_of(cls, (overrides or {}).get("task"), "make_oss_trainer", trainer_class)
        return super().__new__(cls) if other is None else other(cfg, overrides, _callbacks)

    def __init__(self, cfg: Any = DEFAULT_CFG, overrides: Any = None, _callbacks: Any = None) -> None:  # noqa: ANN401
        """Set up the training, and read the description of the dataset."""
        workers = (overrides or {}).get("workers")
        super().__init__(cfg, overrides, _callbacks)  # type: ignore[call-arg]
        if self.args.workers == 0 and workers != 0:
            # Without an accelerator Ultralytics takes none, since local files need none.
            self.args.workers = 1 if workers is None else workers
            LOGGER.info(f"{self.args.workers} dataloader workers, which read from OSS while the model is trained")

    def get_dataset(self) -> dict[str, Any]:
        """Return the description of the dataset.

        Raises:
            OssConfigError: It is wrong.
            OssError: It cannot be read.
        """
        data = describe(self.oss_settings, self.args.data, self.args.task)
        if self.args.single_cls:
            LOGGER.info("Overriding class names with single class.")
            data["names"], data["nc"] = {0: "item"}, 1
        return data

    def build_dataset(self, img_path: Any, mode: str = "train", batch: int | None = None) -> Any:  # noqa: ANN401
        """Return the dataset of a split.

        Args:
            img_path: Prefixes and manifests.
            mode: ``"train"`` or ``"val"``.
            batch: The size of a batch.
        """
        if self.args.task == "classify":
            split = "train" if mode == "train" else self.args.split
            return OSSClassificationDataset(
                img_path,
                self.args,
                augment=mode == "train",
                prefix=split,
                names=self.data["names"],
                oss_settings=self.oss_settings,
            )
        stride = max(int(unwrap_model(self.model).stride.max()), 32)
        split = "train" if mode == "train" else self.args.split
        return yolo_dataset(
            self.oss_settings,
            self.args,
            self.data,
            img_path,
            mode,
            batch,
            rect=mode == "val",
            stride=stride,
            fraction=get_split_fraction(self.args.fraction, split),
        )

    def train(self) -> None:
        """Train, in several processes if there are several devices.

        Raises:
            OssCredentialsError: There are several devices, and access key or provider were given in the program. They
                would get into a file.
        """
        if self.ddp:
            pickle.dumps(self.oss_settings)
        super().train()  # type: ignore[misc]

    def final_eval(self) -> None:
        """Validate the best weights."""
        with described_by(self.data):
            super().final_eval()  # type: ignore[misc]


def trainer_class(settings: DataSettings, task: str) -> type[Any]:
    """Return a trainer for a task.

    Raises:
        OssConfigError: There is none.
    """
    return class_of_task(settings, task, _OssTraining, TRAINERS)


@guarded
def make_oss_trainer(
    endpoint: str,
    cred_path: str = "",
    config_path: str = "",
    cred_provider: object = None,
    region: str = "",
    *,
    config: OssConfig | None = None,
    task: str = "detect",
    label_cache: str | os.PathLike[str] | Literal[False] | None = None,
    on_corrupt: Literal["drop", "raise"] = "drop",
) -> type[Any]:
    """Return a trainer for ``YOLO(...).train(trainer=..., data="coco_oss.yaml")`` that reads its images from OSS.

    Args:
        endpoint: As for :class:`OssClient`, and so are the next arguments.
        cred_path: See there.
        config_path: See there.
        cred_provider: See there.
        region: See there.
        config: See there.
        task: The task of a class that is derived from the trainer. Without one, the trainer takes the model's task.
        label_cache: A directory or a prefix like ``oss://bucket/cache`` that keeps shapes and labels of images.
            Default: ``osstorchconnector/ultralytics`` in the user's directory for caches. False: nothing is kept.
        on_corrupt: ``"raise"``: an image or a label that is corrupt is an error. Default: it is left out, and a warning
            names it.

    Raises:
        OssConfigError: An argument is wrong, or a file is missing or malformed.
        OssCredentialsError: There is no usable access key.
    """
    warn_if_untested("ultralytics", *_TESTED)
    client = OssClient(endpoint, cred_path, config_path, cred_provider=cred_provider, region=region, config=config)
    return trainer_class(DataSettings(client, label_cache, on_corrupt), task)
