"""Deprecated: the old place of :mod:`osstorchconnector.dataset`."""

import warnings

from osstorchconnector.dataset import OssMapDataset

__all__ = ["OssMapDataset"]

warnings.warn(
    "osstorchconnector.map_dataset is deprecated; import from osstorchconnector.dataset",
    DeprecationWarning,
    stacklevel=2,
)
