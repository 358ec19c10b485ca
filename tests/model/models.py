"""Models for tests, stored as other libraries store them."""

import json
from collections.abc import Mapping
from typing import Any

import safetensors.torch
import torch

from osstorchconnector import OssClient
from osstorchconnector.model import OssModel, open_model
from osstorchconnector.testing import Emulator

Tensors = dict[str, torch.Tensor]


def random_tensors(seed: int = 0, rows: int = 300) -> Tensors:
    """Return tensors of many shapes and types: one is received in its place, and many small ones lie together."""
    torch.manual_seed(seed)
    return {
        "embed.weight": torch.randn(rows, 1024, dtype=torch.float32),
        "layer.0.norm": torch.randn(64, dtype=torch.bfloat16),
        "layer.0.weight": torch.randn(128, 96, dtype=torch.bfloat16),
        "layer.0.ids": torch.arange(17, dtype=torch.int64),
        "layer.0.mask": torch.tensor([True, False, True]),
        "layer.0.scale": torch.randn(5).to(torch.float8_e4m3fn),
        "layer.1.experts": torch.randn(4, 24, 32, dtype=torch.float16),
        "layer.1.nothing": torch.empty(0, 7),
        "layer.1.scalar": torch.tensor(3.5),
        "layer.1.complex": torch.randn(9, dtype=torch.complex64),
    }


def shared_tensors() -> Tensors:
    """Return the tensors of a model that takes several rounds of several ranks."""
    large = {f"large.{number}": torch.full(((8 << 20) - number,), number, dtype=torch.uint8) for number in range(9)}
    return {**random_tensors(), **large}


def put(client: OssClient, uri: str, tensors: Mapping[str, torch.Tensor], **metadata: str) -> None:
    """Store tensors as one object."""
    client.put(uri, safetensors.torch.save(dict(tensors), metadata or None))


def put_shards(
    client: OssClient, directory: str, tensors: Mapping[str, torch.Tensor], count: int = 3, *, stem: str = "model"
) -> dict[str, str]:
    """Store tensors in turn as shards, and return the shard of each."""
    index = {name: f"{stem}-{number % count + 1:05}-of-{count:05}.safetensors" for number, name in enumerate(tensors)}
    for file in set(index.values()):
        put(client, directory + file, {name: tensors[name] for name in tensors if index[name] == file}, format="pt")
    return index


def put_index(client: OssClient, uri: str, index: Mapping[str, str]) -> None:
    """Store an index."""
    client.put(uri, json.dumps({"metadata": {"total_size": 1}, "weight_map": index}).encode())


def opened(emulator: Emulator, uri: str, **options: Any) -> OssModel:
    """Open a model of the emulator."""
    return open_model(uri, **emulator.connection, **options)


def same(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    """Return whether two models are equal, to the bit."""
    return one.keys() == other.keys() and all(same_tensor(one[name], other[name]) for name in one)


def same_tensor(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Return whether two tensors are equal, to the bit."""
    return one.dtype == other.dtype and one.shape == other.shape and raw(one) == raw(other)


def raw(tensor: torch.Tensor) -> bytes:
    """Return the bytes of a tensor."""
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
