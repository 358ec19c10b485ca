"""Datasets: objects in OSS as samples, iterable or by index."""

from typing import TYPE_CHECKING

from osstorchconnector._lazy import lazy_names
from osstorchconnector.dataset.manifest import imagenet_manifest_parser, line_manifest_parser

if TYPE_CHECKING:
    from osstorchconnector.dataset.iterable import OssIterableDataset
    from osstorchconnector.dataset.map import OssMapDataset

__all__ = ["imagenet_manifest_parser", "line_manifest_parser", "OssIterableDataset", "OssMapDataset"]

if not TYPE_CHECKING:
    # A type checker would take it for any name.
    __getattr__, __dir__ = lazy_names(
        __name__,
        __all__,
        {
            "OssIterableDataset": "osstorchconnector.dataset.iterable",
            "OssMapDataset": "osstorchconnector.dataset.map",
        },
    )
