"""Deprecated: the old place of :mod:`osstorchconnector.dataset`."""

import warnings

from osstorchconnector.dataset import OssIterableDataset

__all__ = ["OssIterableDataset"]

warnings.warn(
    "osstorchconnector.iterable_dataset is deprecated; import from osstorchconnector.dataset",
    DeprecationWarning,
    stacklevel=2,
)
