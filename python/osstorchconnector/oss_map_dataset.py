"""The original's place of :class:`OssMapDataset`."""

from osstorchconnector.dataset import OssMapDataset

__all__ = ["OssMapDataset"]
