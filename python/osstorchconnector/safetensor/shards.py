"""A model in several safetensors objects, and the index that names them."""

import json
import uuid
from collections.abc import Mapping
from typing import Any, Final

import torch

from osstorchconnector._json import read_json
from osstorchconnector.exceptions import OssConfigError, OssFormatError

#: The index of a directory, and the only object of a directory without an index.
INDEX_NAME: Final = "model.safetensors.index.json"
SINGLE_NAME: Final = "model.safetensors"
#: The longest index that is read: a million tensors with names of a hundred characters.
LONGEST_INDEX: Final = 256 << 20


def split(
    tensors: Mapping[str, torch.Tensor], shard_bytes: int
) -> tuple[dict[str, dict[str, torch.Tensor]], dict[str, str]]:
    """Distribute tensors over shards, in their order.

    Returns:
        The tensors of each shard by the shard's name, and the shard's name of each tensor.

    Raises:
        OssConfigError: The size is not above 0.
    """
    if not isinstance(shard_bytes, int) or isinstance(shard_bytes, bool) or shard_bytes < 1:
        raise OssConfigError(f"shard_bytes must be a whole number above 0, got {shard_bytes!r}")
    shards: list[dict[str, torch.Tensor]] = [{}]
    filled = 0
    for name, tensor in tensors.items():
        length = tensor.numel() * tensor.element_size()
        if shards[-1] and filled + length > shard_bytes:
            shards.append({})
            filled = 0
        shards[-1][name] = tensor
        filled += length
    # New names for each save, so that the shards of a previous index stay as they are.
    save = uuid.uuid4().hex[:12]
    named = {
        f"model-{save}-{number:05}-of-{len(shards):05}.safetensors": shard
        for number, shard in enumerate(shards, start=1)
    }
    return named, {name: file for file, shard in named.items() for name in shard}


def write_index(index: Mapping[str, str], tensors: Mapping[str, torch.Tensor]) -> bytes:
    """Return the content of an index."""
    total = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    document = {"metadata": {"total_size": total}, "weight_map": dict(sorted(index.items()))}
    return json.dumps(document, indent=2).encode() + b"\n"


def read_index(content: bytes, uri: str) -> dict[str, str]:
    """Return the URI of each tensor's shard.

    Raises:
        OssFormatError: The content is not an index, or names an object outside of its directory.
    """
    try:
        document: Any = read_json(content)
    except ValueError:
        raise OssFormatError(f"{uri} is not an index of safetensors: it is not JSON") from None
    index = document.get("weight_map") if isinstance(document, dict) else None
    if not isinstance(index, dict):
        raise OssFormatError(f"{uri} is not an index of safetensors: it has no weight_map")
    directory = uri[: uri.rindex("/") + 1]
    for name, file in index.items():
        if not isinstance(file, str) or not file or "/" in file:
            raise OssFormatError(
                f"{uri} is not an index of safetensors: it does not name a file beside it for tensor {name!r}"
            )
    return {name: directory + file for name, file in index.items()}
