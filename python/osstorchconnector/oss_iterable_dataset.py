"""The original's place of :class:`OssIterableDataset`."""

from osstorchconnector.dataset import OssIterableDataset

__all__ = ["OssIterableDataset"]
