"""The names of torch that the ``.metadata`` of a checkpoint may hold, with the versions that write them.

| name of torch | versions |
| --- | --- |
| ``torch.distributed.checkpoint.metadata``: its classes, also ``._MEM_FORMAT_ENCODING`` | all since 2.7 |
| ``torch.distributed.checkpoint.filesystem._StorageInfo`` | all since 2.7 |
| ``torch.distributed.checkpoint._hf_utils._HFStorageInfo`` | 2.8 and newer, for files of Hugging Face |
| ``torch.distributed._shard.sharded_tensor.metadata``: ``TensorProperties``, ``MEM_FORMAT_ENCODING`` | before 2.3 |
| ``torch.serialization._get_layout``, which takes the name of a layout | all since 2.7 |
| ``torch._utils`` with a dotted name such as ``torch.contiguous_format`` | all since 2.7, for memory formats |
"""

import importlib
from typing import Any, Final

import torch

_METADATA: Final = "torch.distributed.checkpoint.metadata"
_OLD_METADATA: Final = "torch.distributed._shard.sharded_tensor.metadata"
_CLASSES: Final = frozenset(
    [
        (_METADATA, "BytesStorageMetadata"),
        (_METADATA, "ChunkStorageMetadata"),
        (_METADATA, "Metadata"),
        (_METADATA, "MetadataIndex"),
        (_METADATA, "StorageMeta"),
        (_METADATA, "TensorProperties"),
        (_METADATA, "TensorStorageMetadata"),
        ("torch.distributed.checkpoint.filesystem", "_StorageInfo"),
        ("torch.distributed.checkpoint._hf_utils", "_HFStorageInfo"),
        (_OLD_METADATA, "TensorProperties"),
    ]
)
_ENUMERATIONS: Final = frozenset([(_METADATA, "_MEM_FORMAT_ENCODING"), (_OLD_METADATA, "MEM_FORMAT_ENCODING")])
#: The function that pickles name to make a layout.
LAYOUT: Final = ("torch.serialization", "_get_layout")


def metadata_class(module: str, name: str) -> type[Any] | None:
    """Return a class that metadata may hold instances of, or None."""
    return _named(module, name) if (module, name) in _CLASSES else None


def metadata_enumeration(module: str, name: str) -> type[Any] | None:
    """Return an enumeration that metadata may hold members of, or None."""
    return _named(module, name) if (module, name) in _ENUMERATIONS else None


def metadata_value(module: str, name: str) -> object | None:
    """Return the dtype or memory format of that name, or None."""
    if module == "torch._utils":
        module, _, name = name.partition(".")
    value = torch.__dict__.get(name) if module == "torch" else None
    return value if isinstance(value, (torch.dtype, torch.memory_format)) else None


def layout(name: str) -> torch.layout:
    """Return the layout with a name such as ``torch.strided``.

    Raises:
        ValueError: torch has no such layout.
    """
    value = torch.__dict__.get(name.removeprefix("torch."))
    if not isinstance(value, torch.layout):
        raise ValueError(f"torch has no layout {name!r}")  # noqa: TRY004 - the type is right
    return value


def _named(module: str, name: str) -> type[Any] | None:
    try:
        found: type[Any] | None = getattr(importlib.import_module(module), name, None)
    except ImportError:
        # Another version of torch has it.
        return None
    return found
