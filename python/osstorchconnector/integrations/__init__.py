"""Datasets in OSS for libraries that bring their own training loop, under the names of the original connector.

A name is loaded at its first use, so a program needs only the library that it trains with.
"""

from typing import TYPE_CHECKING, Final

from osstorchconnector._lazy import lazy_names as _lazy_names

if TYPE_CHECKING:
    from osstorchconnector.integrations.annotations import get_oss_ann_path
    from osstorchconnector.integrations.mmdetection import OSSDetDataset, OSSLoadImageFromFile
    from osstorchconnector.integrations.mmengine import OssStorageBackend
    from osstorchconnector.integrations.ultralytics import OSSYOLODataset, make_oss_trainer

#: The module that defines each name. The package `osstorchconnector` has these names too, outside of its `__all__`.
MODULES: Final = {
    "get_oss_ann_path": "osstorchconnector.integrations.annotations",
    "make_oss_trainer": "osstorchconnector.integrations.ultralytics",
    "OSSDetDataset": "osstorchconnector.integrations.mmdetection",
    "OSSLoadImageFromFile": "osstorchconnector.integrations.mmdetection",
    "OssStorageBackend": "osstorchconnector.integrations.mmengine",
    "OSSYOLODataset": "osstorchconnector.integrations.ultralytics",
}

__all__ = [
    "get_oss_ann_path",
    "make_oss_trainer",
    "OSSDetDataset",
    "OSSLoadImageFromFile",
    "OssStorageBackend",
    "OSSYOLODataset",
]

if not TYPE_CHECKING:
    # A type checker would accept every name because of it.
    __getattr__, __dir__ = _lazy_names(__name__, __all__, MODULES)
