"""Folders of models, whose small files are copied and whose weights are not, and saving over an earlier model."""

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch

from osstorchconnector import OssClient, OssConfigError
from osstorchconnector.model import pretrained
from osstorchconnector.model.hugging_face import save_pretrained
from osstorchconnector.testing import Emulator
from tests.model.models import opened, put, put_index, put_shards, same


class Saving:
    """What saves tensors as libraries do: one file, or shards and an index."""

    def __init__(self, files: dict[str, dict[str, torch.Tensor]], index: str | None = None) -> None:
        self.files = files
        self.index = index

    def save_pretrained(self, folder: str) -> None:
        for file, tensors in self.files.items():
            path = Path(folder, file)
            path.parent.mkdir(parents=True, exist_ok=True)
            safetensors.torch.save_file(tensors, path)
        if self.index is not None:
            weights = {name: file for file, tensors in self.files.items() for name in tensors}
            Path(folder, self.index).write_text(json.dumps({"weight_map": weights}), encoding="utf-8")


@pytest.mark.parametrize(
    ("file", "index"),
    [
        ("model.safetensors", "model.safetensors.index.json"),
        ("model.fp16.safetensors", "model.safetensors.index.fp16.json"),
        ("model.fp16.safetensors", "model.fp16.safetensors.index.json"),
        ("unet/diffusion_pytorch_model.safetensors", "unet/diffusion_pytorch_model.safetensors.index.json"),
    ],
)
def test_a_file_that_an_earlier_index_would_hide_is_refused(
    emulator: Emulator, client: OssClient, bucket: str, file: str, index: str
) -> None:
    uri, older, newer = f"oss://{bucket}/saved/", {"w": torch.zeros(3)}, {"w": torch.ones(3)}
    put_index(client, uri + index, {"w": "model-00001-of-00001.safetensors"})
    with pytest.raises(OssConfigError, match=rf"{index} is of another save, .* in place of {file.rpartition('/')[2]}"):
        save_pretrained(Saving({file: newer}), uri, **emulator.connection)
    assert [item.uri for item in client.list(uri)] == [uri + index]
    client.delete(uri + index)
    save_pretrained(Saving({file: older}), uri, **emulator.connection)
    save_pretrained(Saving({file: newer}), uri, **emulator.connection)
    with opened(emulator, uri + file) as model:
        assert same(model.load(), newer)


def test_shards_and_their_index_replace_an_earlier_model(emulator: Emulator, client: OssClient, bucket: str) -> None:
    uri, newer = f"oss://{bucket}/saved/", {"a": torch.ones(3), "b": torch.ones(4)}
    put_index(client, f"{uri}model.safetensors.index.json", put_shards(client, uri, {"a": torch.zeros(3)}, 1))
    put(client, f"{uri}model.safetensors", {"a": torch.zeros(3)})
    files = {f"model-0000{number}-of-00002.safetensors": {name: newer[name]} for number, name in enumerate("ab", 1)}
    save_pretrained(Saving(files, "model.safetensors.index.json"), uri, **emulator.connection)
    with opened(emulator, uri) as model:
        assert same(model.load(), newer)


def test_small_files_alone_are_copied(
    client: OssClient, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrained, "_LARGEST", 100)
    uri = f"oss://{bucket}/model/"
    for name, size in {"config.json": 2, "sub/tokenizer.json": 100, "vectors.npz": 101, "pytorch_model.bin": 3}.items():
        client.put(uri + name, bytes(size))
    pretrained.fetch_small_files(client, uri, tmp_path)
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {"config.json", "sub/tokenizer.json"}
    monkeypatch.setattr(pretrained, "_MOST_FILES", 3)
    with pytest.raises(OssConfigError, match="holds more than 3 objects"):
        pretrained.fetch_small_files(client, uri, tmp_path)
