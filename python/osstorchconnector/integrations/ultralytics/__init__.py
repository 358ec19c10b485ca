"""Ultralytics YOLO with datasets in OSS.

::

    from osstorchconnector import make_oss_trainer
    from ultralytics import YOLO

    trainer = make_oss_trainer("oss-cn-hangzhou-internal.aliyuncs.com", "/root/.alibabacloud/credentials")
    YOLO("yolo11n.yaml").train(trainer=trainer, data="coco_oss.yaml", epochs=100)

It needs Ultralytics: ``pip install ultralytics``.
"""

from typing import TYPE_CHECKING, Final

from osstorchconnector._lazy import lazy_names as _lazy_names

if TYPE_CHECKING:
    from osstorchconnector.integrations.ultralytics.classification import OSSClassificationDataset
    from osstorchconnector.integrations.ultralytics.dataset import OSSYOLODataset
    from osstorchconnector.integrations.ultralytics.prediction import OssImages
    from osstorchconnector.integrations.ultralytics.trainer import make_oss_trainer
    from osstorchconnector.integrations.ultralytics.validator import make_oss_validator
    from osstorchconnector.integrations.ultralytics.weights import OssWeights

__all__ = [
    "make_oss_trainer",
    "make_oss_validator",
    "OSSClassificationDataset",
    "OssImages",
    "OssWeights",
    "OSSYOLODataset",
]

_LATER: Final = {
    "make_oss_trainer": f"{__name__}.trainer",
    "make_oss_validator": f"{__name__}.validator",
    "OSSClassificationDataset": f"{__name__}.classification",
    "OssImages": f"{__name__}.prediction",
    "OssWeights": f"{__name__}.weights",
    "OSSYOLODataset": f"{__name__}.dataset",
}

if not TYPE_CHECKING:
    # A type checker would accept every name because of it.
    __getattr__, __dir__ = _lazy_names(__name__, __all__, _LATER, library="ultralytics")
