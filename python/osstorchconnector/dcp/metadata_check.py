"""Check that unpickled ``.metadata`` has the fields and types that torch gives it."""

from typing import Any

import torch
from torch.distributed.checkpoint.metadata import (
    BytesStorageMetadata,
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    StorageMeta,
    TensorStorageMetadata,
)

from osstorchconnector.exceptions import OssIntegrityError


def check_metadata(metadata: Metadata, uri: str) -> None:
    """Check each field that this package or torch reads.

    Raises:
        OssIntegrityError: A field is missing or has another type; the message names the entry.
    """
    entry: object = "its state dict"
    try:
        for entry, value in _dictionary(metadata.state_dict_metadata).items():
            _require(isinstance(entry, str))
            if not isinstance(value, BytesStorageMetadata):
                _check_tensor(value)
        entry = "its storage data"
        for entry, info in _dictionary(metadata.storage_data or {}).items():
            _check_item(entry, info)
        entry = "its storage meta"
        _require(metadata.storage_meta is None or isinstance(metadata.storage_meta, StorageMeta))
    except (AttributeError, TypeError, ValueError) as error:
        name = entry.__dict__.get("fqn") if isinstance(entry, MetadataIndex) else entry
        # Whatever else it is may take a long text.
        shown = name[:200] if isinstance(name, str) else type(name).__name__
        raise OssIntegrityError(f"{uri} is not the metadata of a checkpoint: {shown!r} in it cannot be read") from error


def _check_tensor(value: Any) -> None:  # noqa: ANN401 - whatever the object held
    _require(isinstance(value, TensorStorageMetadata) and isinstance(value.chunks, list))
    _require(isinstance(value.properties.dtype, torch.dtype))
    _check_numbers(value.size)
    for chunk in value.chunks:
        _require(isinstance(chunk, ChunkStorageMetadata) and len(chunk.offsets) == len(chunk.sizes) == len(value.size))
        _check_numbers(chunk.offsets)
        _check_numbers(chunk.sizes)


def _check_item(index: Any, info: Any) -> None:  # noqa: ANN401 - as above
    _require(isinstance(index, MetadataIndex) and isinstance(index.fqn, str))
    if index.offset is not None:
        _check_numbers(index.offset)
    _require(index.index is None or isinstance(index.index, int))
    _require(isinstance(info.relative_path, str) and info.relative_path)
    # The Hugging Face reader's description of an item has neither: the file's own header does.
    _check_numbers((getattr(info, "offset", 0), getattr(info, "length", 0)))
    descriptors = getattr(info, "transform_descriptors", None)
    _require(descriptors is None or (isinstance(descriptors, list | tuple) and all(map(_is_text, descriptors))))


def _check_numbers(numbers: Any) -> None:  # noqa: ANN401 - as above
    _require(isinstance(numbers, tuple | list) and all(isinstance(number, int) and number >= 0 for number in numbers))


def _dictionary(value: Any) -> dict[Any, Any]:  # noqa: ANN401 - as above
    _require(isinstance(value, dict))
    return value  # type: ignore[no-any-return]


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _require(condition: object) -> None:
    if not condition:
        raise ValueError
