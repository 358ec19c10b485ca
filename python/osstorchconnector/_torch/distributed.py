"""What ``torch.distributed.checkpoint`` does inside: where items are stored, and how they are prepared.

| name of torch | versions |
| --- | --- |
| ``torch.distributed.checkpoint.filesystem._StorageInfo``, ``._StoragePrefix`` | all since 2.7 |
| ``….filesystem._StorageReaderTransforms``, ``._StorageWriterTransforms`` | all since 2.7 |
| ``….filesystem._OverlappingCpuLoader``, ``._SerialCpuLoader`` | all since 2.7 |
| ``….filesystem._item_size``, ``._split_by_size_and_type`` | all since 2.7 |
| ``….filesystem.SerializationFormat`` | 2.8 and newer; 2.7 has one format |
| ``….filesystem.CURRENT_DCP_VERSION`` and ``Metadata.version`` | 2.9 and newer |
| ``….planner_helpers._create_chunk_list`` | all since 2.7 |
| ``torch.distributed._shard._utils.narrow_tensor_by_index`` | all since 2.7 |
| ``torch.distributed.ProcessGroup._get_backend`` | all since 2.7 |
"""

# ruff: noqa: E402 - the version is checked before the names that older versions lack
from osstorchconnector._torch import require_torch

require_torch(7, "the interface of distributed checkpoints is incomplete in older releases")

from typing import Any, Final

import torch
import torch.distributed as dist
from torch.distributed._shard._utils import narrow_tensor_by_index
from torch.distributed.checkpoint import filesystem
from torch.distributed.checkpoint.filesystem import _item_size as item_size
from torch.distributed.checkpoint.filesystem import _OverlappingCpuLoader as OverlappingCpuLoader
from torch.distributed.checkpoint.filesystem import _SerialCpuLoader as SerialCpuLoader
from torch.distributed.checkpoint.filesystem import _split_by_size_and_type as split_by_size_and_type
from torch.distributed.checkpoint.filesystem import _StorageInfo as StorageInfo
from torch.distributed.checkpoint.filesystem import _StoragePrefix as StoragePrefix
from torch.distributed.checkpoint.filesystem import _StorageReaderTransforms as StorageReaderTransforms
from torch.distributed.checkpoint.filesystem import _StorageWriterTransforms as StorageWriterTransforms
from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.planner_helpers import _create_chunk_list as create_chunk_list

__all__ = [
    "check_cpu_backend",
    "create_chunk_list",
    "item_size",
    "narrow_tensor_by_index",
    "OverlappingCpuLoader",
    "SerialCpuLoader",
    "SerializationFormat",
    "set_version",
    "split_by_size_and_type",
    "StorageInfo",
    "StoragePrefix",
    "StorageReaderTransforms",
    "StorageWriterTransforms",
]

#: torch's enumeration of formats, or None if this torch has none.
SerializationFormat: Final[Any] = getattr(filesystem, "SerializationFormat", None)


def set_version(metadata: Metadata) -> None:
    """Write torch's version of the format into a checkpoint's metadata, if this torch does."""
    if hasattr(metadata, "version"):
        metadata.version = getattr(filesystem, "CURRENT_DCP_VERSION", metadata.version)


def check_cpu_backend(group: dist.ProcessGroup | None) -> None:
    """Check that a process group, the default one if none is given, can send main memory.

    Raises:
        AttributeError: There is no default group.
        RuntimeError: The group has no backend for the CPU.
    """
    (group or dist.group.WORLD)._get_backend(torch.device("cpu"))  # type: ignore[union-attr]  # noqa: SLF001
