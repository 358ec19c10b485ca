"""The original's place of :class:`OssCheckpoint`."""

from osstorchconnector.checkpoint import OssCheckpoint

__all__ = ["OssCheckpoint"]
