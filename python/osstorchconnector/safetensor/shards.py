"""A model in several safetensors objects, and the index that names them."""

import itertools
import json
import re
import uuid
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from osstorchconnector._json import read_json
from osstorchconnector.connection.nearest import nothing_below
from osstorchconnector.connection.uri import split_prefix
from osstorchconnector.exceptions import OssFormatError, OssNotFoundError, OssPermissionError

if TYPE_CHECKING:
    import torch

    from osstorchconnector.connection.client import OssClient

#: The index of a directory, and the only object of a directory without an index.
INDEX_NAME: Final = "model.safetensors.index.json"
SINGLE_NAME: Final = "model.safetensors"
#: The longest index that is read: a million tensors with names of a hundred characters.
LONGEST_INDEX: Final = 256 << 20


# Names that a message shows of a directory.
_SHOWN: Final = 8
# A directory of a model has some hundred objects; a prefix of a dataset may have millions.
_MOST_LISTED: Final = 10_000
_METADATA_NAME: Final = ".metadata"
# As Hugging Face and this package name shards.
_NUMBERED: Final = re.compile(r"(.*-)(\d+)-of-(\d+)\.safetensors")
# What each process puts before the names of its files, in a distributed save of torch.
_OF_PROCESS: Final = re.compile(r"shard-\d+-")


def other_object(client: "OssClient", uri: str, missing: OssNotFoundError) -> tuple[str, bool]:
    """Return the object of a directory without the usual names, and whether it is an index.

    It is the only index, or the only safetensors object.

    Args:
        client: Lists the directory.
        uri: The directory.
        missing: Raised if the directory may not be listed.

    Raises:
        OssNotFoundError: There is none, or not only one; the message names what the directory holds.
    """
    bucket, prefix = split_prefix(uri)
    try:
        listed = itertools.islice(client.list(uri), _MOST_LISTED)
        names = [name for item in listed if (name := item.name.removeprefix(prefix)) and "/" not in name]
    except OssPermissionError:
        # Some keys may read objects and not list them.
        raise missing from None
    indices = [name for name in names if name.endswith(".safetensors.index.json")]
    models = [name for name in names if name.endswith(".safetensors")]
    if len(indices) == 1:
        return uri + indices[0], True
    absent = missing_shard(models)
    if len(models) == 1 and absent is None and not indices and _METADATA_NAME not in names:
        return uri + models[0], False
    said = f"{uri} has neither {INDEX_NAME} nor {SINGLE_NAME}"
    if not names:
        raise OssNotFoundError(f"{said}: {nothing_below(client, bucket, prefix)}", bucket=bucket, key=prefix)
    shown = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    if _METADATA_NAME in names:
        remedy = "it is a distributed checkpoint: load it with torch.distributed.checkpoint and OssFileSystem.reader"
    elif absent is not None:
        remedy = f"{absent} is missing: the model is not complete"
    elif models:
        remedy = f"give the URI of one object, or make an index that names the shard of each tensor ({INDEX_NAME})"
    else:
        remedy = "none of them is a safetensors object: give another directory"
    raise OssNotFoundError(f"{said}, but {shown}; {remedy}", bucket=bucket, key=prefix)


def first_of_each_model(names: Iterable[str]) -> list[str]:
    """Return the first file of each numbered series, and of all files without numbers: as many models as names show."""
    models: dict[tuple[str, str] | None, str] = {}
    for name in sorted(names):
        match = _NUMBERED.fullmatch(_OF_PROCESS.sub("", name, count=1))
        models.setdefault(match and (match[1], match[3]), name)
    return list(models.values())


def missing_shard(names: Iterable[str]) -> str | None:
    """Return a file that is missing beside others, if their names say how many they are; else None."""
    known = set(names)
    for name in sorted(known):
        if (match := _NUMBERED.fullmatch(name)) is None:
            continue
        start, number, count = match.groups()
        for other in range(1, min(int(count), _MOST_LISTED) + 1):
            expected = f"{start}{other:0{len(number)}}-of-{count}.safetensors"
            if expected not in known:
                return expected
    return None


def split(
    tensors: "Mapping[str, torch.Tensor]", shard_bytes: int
) -> "tuple[dict[str, dict[str, torch.Tensor]], dict[str, str]]":
    """Distribute tensors over shards, in their order.

    Returns:
        The tensors of each shard by the shard's name, and the shard's name of each tensor.
    """
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


def write_index(index: Mapping[str, str], tensors: "Mapping[str, torch.Tensor]") -> bytes:
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
