"""Validators that read their images from OSS."""

import os
from typing import Any, ClassVar, Final, Literal

from ultralytics.data.utils import get_split_fraction
from ultralytics.models import yolo

from osstorchconnector.connection.client import OssClient
from osstorchconnector.connection.config import OssConfig
from osstorchconnector.credentials.shield import guarded
from osstorchconnector.exceptions import OssConfigError
from osstorchconnector.integrations.ultralytics.classification import OSSClassificationDataset
from osstorchconnector.integrations.ultralytics.connection import DataSettings
from osstorchconnector.integrations.ultralytics.dataset import yolo_dataset
from osstorchconnector.integrations.ultralytics.splits import describe, described_by
from osstorchconnector.integrations.ultralytics.tasks import class_of_task, in_place_of

#: The validator of each task that can be read from OSS.
VALIDATORS: Final[dict[str, type[Any]]] = {
    "detect": yolo.detect.DetectionValidator,
    "segment": yolo.segment.SegmentationValidator,
    "pose": yolo.pose.PoseValidator,
    "obb": yolo.obb.OBBValidator,
    "classify": yolo.classify.ClassificationValidator,
}


class _OssValidation:
    """The part of a validator that reads from OSS. It stands before a validator of Ultralytics."""

    oss_settings: ClassVar[DataSettings]
    oss_task: ClassVar[str]

    args: Any
    data: Any
    names: Any
    stride: Any

    def __new__(cls, dataloader: Any = None, save_dir: Any = None, args: Any = None, _callbacks: Any = None) -> Any:  # noqa: ANN401
        """Return a validator for the task of the model, which is known only now."""
        task = args.get("task") if isinstance(args, dict) else getattr(args, "task", None)
        other = in_place_of(cls, task, "make_oss_validator", validator_class)
        return super().__new__(cls) if other is None else other(dataloader, save_dir, args, _callbacks)

    def __call__(self, trainer: Any = None, model: Any = None, **kwargs: Any) -> Any:  # noqa: ANN401
        """Validate a model.

        Raises:
            OssConfigError: The description of the dataset is wrong, or it has no such split.
            OssError: The dataset cannot be read.
        """
        if trainer is not None:
            return super().__call__(trainer, model, **kwargs)  # type: ignore[misc]
        data = describe(self.oss_settings, self.args.data, self.args.task)
        if not data.get(self.args.split):
            raise OssConfigError(f"{self.args.data}: the split {self.args.split!r} is missing")
        with described_by(data):
            return super().__call__(None, model, **kwargs)  # type: ignore[misc]

    def build_dataset(self, img_path: Any, mode: str = "val", batch: int | None = None) -> Any:  # noqa: ANN401
        """Return the dataset of a split.

        Args:
            img_path: Prefixes and manifests.
            mode: ``"val"``.
            batch: The size of a batch.
        """
        if self.args.task == "classify":
            return OSSClassificationDataset(
                img_path, self.args, prefix=self.args.split, names=self.names, oss_settings=self.oss_settings
            )
        return yolo_dataset(
            self.oss_settings,
            self.args,
            self.data,
            img_path,
            mode,
            batch,
            rect=False,
            stride=self.stride,
            fraction=get_split_fraction(self.args.fraction, self.args.split or "val"),
        )


def validator_class(settings: DataSettings, task: str) -> type[Any]:
    """Return a validator for a task.

    Raises:
        OssConfigError: There is none.
    """
    return class_of_task(settings, task, _OssValidation, VALIDATORS)


@guarded
def make_oss_validator(
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
    """Return a validator for ``YOLO(...).val(validator=..., data="coco_oss.yaml")`` that reads its images from OSS.

    Args:
        endpoint: As for :func:`make_oss_trainer`, and so are all other arguments.
        cred_path: See there.
        config_path: See there.
        cred_provider: See there.
        region: See there.
        config: See there.
        task: See there.
        label_cache: See there.
        on_corrupt: See there.

    Raises:
        OssConfigError: An argument is wrong, or a file is missing or malformed.
        OssCredentialsError: There is no usable access key.
    """
    client = OssClient(endpoint, cred_path, config_path, cred_provider=cred_provider, region=region, config=config)
    return validator_class(DataSettings(client, label_cache, on_corrupt), task)
