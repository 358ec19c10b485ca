"""Headers of safetensors files that hold shards. As in torch, a text of the header says where each shard begins."""

import json
from collections.abc import Mapping, Sequence
from typing import Final

import torch
from torch.distributed.checkpoint.planner import WriteItem

from osstorchconnector._json import read_json
from osstorchconnector.exceptions import OssConfigError, OssFormatError
from osstorchconnector.safetensor.header import write_header

SUFFIX: Final = ".safetensors"

_SHARDING_KEY: Final = "DCP_SHARDING_INFO"
_OFFSETS_KEY: Final = "saved_offsets"
_CONSTANT: Final = {"DCP_VERSION": "1.0", "format": "pt"}


def write_shard_header(items: Sequence[WriteItem]) -> tuple[bytes, list[WriteItem]]:
    """Return the first bytes of a file, and the order of the shards' elements after them.

    Args:
        items: Shards of different tensors.

    Raises:
        OssConfigError: The format cannot hold one of the items.
    """
    by_name = {}
    shards = {}
    offsets = {}
    for item in items:
        name, data = item.index.fqn, item.tensor_data
        if data is None:
            raise OssConfigError(f"{name!r} is not a tensor: the safetensors format holds tensors only")
        by_name[name] = item
        shards[name] = torch.empty(data.chunk.sizes, dtype=data.properties.dtype, device="meta")
        offsets[name] = {_OFFSETS_KEY: list(data.chunk.offsets)}
    head, order = write_header(shards, {_SHARDING_KEY: json.dumps(offsets), **_CONSTANT})
    return head, [by_name[name] for name in order]


def shard_offsets(metadata: Mapping[str, str], uri: str) -> dict[str, torch.Size]:
    """Return the offsets of each shard in its tensor; whole tensors may be left out.

    Raises:
        OssFormatError: The header's text about shards is malformed.
    """
    try:
        info = read_json(metadata.get(_SHARDING_KEY, "{}"))
        return {name: torch.Size(entry[_OFFSETS_KEY]) for name, entry in info.items()}
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise OssFormatError(f"{uri} has a malformed text about the offsets of its shards: {error!r}") from error
