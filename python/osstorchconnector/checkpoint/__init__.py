"""Checkpoints: what ``torch.save`` writes and ``torch.load`` reads, straight to and from OSS."""

from typing import TYPE_CHECKING

from osstorchconnector._lazy import lazy_names

if TYPE_CHECKING:
    from osstorchconnector.checkpoint.checkpoint import OssCheckpoint

__all__ = ["OssCheckpoint"]

if not TYPE_CHECKING:
    # A type checker would accept every name because of it.
    __getattr__, __dir__ = lazy_names(__name__, __all__, {"OssCheckpoint": "osstorchconnector.checkpoint.checkpoint"})
