"""A small model in a bucket."""

import json
import os

import pytest

from osstorchconnector import OssClient

FILES = {
    "config.json": b"{}",
    "tokenizer/vocab.txt": b"a\nb\n",
    "empty.txt": b"",
    "model-00001-of-00002.safetensors": os.urandom(9 << 20),
    "model-00002-of-00002.safetensors": os.urandom(3 << 20),
    "model.safetensors.index.json": json.dumps(
        {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    ).encode(),
}
TOTAL = sum(map(len, FILES.values()))


def store(client: OssClient, uri: str, files: dict[str, bytes] = FILES) -> None:
    for name, content in files.items():
        client.put(f"{uri}/{name}", content)


@pytest.fixture
def model(client: OssClient, bucket: str) -> str:
    uri = f"oss://{bucket}/models/llama"
    store(client, uri)
    return uri
