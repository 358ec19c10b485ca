"""Models that are damaged, incomplete or replaced: an error names object and tensor, and nothing is returned."""

import json
import struct
from typing import Any

import pytest
import safetensors.torch
import torch

from osstorchconnector import OssClient, OssError, OssFormatError, OssIntegrityError, OssNotFoundError
from osstorchconnector.model import targets
from osstorchconnector.testing import Emulator
from tests.model.models import Tensors, opened, put, put_index, put_shards, random_tensors, same


def test_a_truncated_shard(emulator: Emulator, client: OssClient, bucket: str) -> None:
    body = safetensors.torch.save({"first": torch.ones(5), "second": torch.ones(500)})
    for cut in (1, 1500):
        client.put(f"oss://{bucket}/model.safetensors", body[:-cut])
        with pytest.raises(OssFormatError, match=r"model.safetensors is not.*ends inside of tensor 'second'"):
            opened(emulator, f"oss://{bucket}/")
    client.put(f"oss://{bucket}/model.safetensors", body[:20])
    with pytest.raises(OssFormatError, match=r"model\.safetensors is not a safetensors file"):
        opened(emulator, f"oss://{bucket}/")


def test_an_index_that_names_a_missing_shard_or_tensor(
    emulator: Emulator, client: OssClient, bucket: str, tensors: Tensors
) -> None:
    directory = f"oss://{bucket}/"
    index = put_shards(client, directory, tensors)
    put_index(client, f"{directory}model.safetensors.index.json", {**index, "lost": "model-00001-of-00003.safetensors"})
    with pytest.raises(
        OssFormatError, match=r"model-00001-of-00003.safetensors has no tensor 'lost', but .*index.json"
    ):
        opened(emulator, directory)
    put_index(client, f"{directory}model.safetensors.index.json", {**index, "lost": "other.safetensors"})
    with pytest.raises(
        OssNotFoundError, match=r"other.safetensors is missing, which .*index.json names for tensor 'lost'"
    ):
        opened(emulator, directory)


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"weight_map": {"a": "../b"}}', b'{"weight_map": {"a": 5}}'])
def test_a_malformed_index(emulator: Emulator, client: OssClient, bucket: str, content: bytes) -> None:
    client.put(f"oss://{bucket}/model.safetensors.index.json", content)
    with pytest.raises(OssFormatError, match=r"model\.safetensors\.index\.json is not an index of safetensors"):
        opened(emulator, f"oss://{bucket}/")


def entry(dtype: str, begin: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": [end - begin], "data_offsets": [begin, end]}


@pytest.mark.parametrize("offsets", [(0, 6, 4, 8), (0, 4, 6, 10), (2, 6, 6, 8)])
def test_tensors_that_overlap_or_leave_holes(
    emulator: Emulator, client: OssClient, bucket: str, offsets: tuple[int, int, int, int]
) -> None:
    header = json.dumps({"a": entry("U8", *offsets[:2]), "b": entry("U8", *offsets[2:])}).encode()
    client.put(f"oss://{bucket}/model.safetensors", struct.pack("<Q", len(header)) + header + bytes(10))
    with pytest.raises(OssFormatError, match=r"model\.safetensors is not a safetensors file"):
        opened(emulator, f"oss://{bucket}/")


def test_a_type_that_torch_lacks(
    emulator: Emulator, client: OssClient, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(client, f"oss://{bucket}/model.safetensors", {"good": torch.ones(3), "w": torch.ones(3, dtype=torch.uint16)})
    monkeypatch.delattr(torch, "uint16")
    with opened(emulator, f"oss://{bucket}/") as model:
        emulator.clear_requests()
        with pytest.raises(OssFormatError, match=r"tensor 'w' of oss://.*model.safetensors cannot be .*type for U16"):
            model.load()
        assert emulator.requests() == []
        assert model.tensors["w"].dtype == "U16"
        assert same(model.load(["good"]), {"good": torch.ones(3)})


def test_no_memory_in_the_middle(
    emulator: Emulator, model_uri: str, tensors: Tensors, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refusing:
        def __getattr__(self, name: str) -> Any:
            return getattr(torch, name)

        def empty(self, *arguments: Any, **options: Any) -> torch.Tensor:
            if options.get("device") != "meta" and arguments[0] == tensors["layer.1.experts"].shape:
                raise RuntimeError("can't allocate memory")
            return torch.empty(*arguments, **options)

    with opened(emulator, model_uri) as model:
        monkeypatch.setattr(targets, "torch", Refusing())
        with pytest.raises(
            MemoryError, match=r"'layer.1.experts' of oss://.*safetensors has 6144 bytes.*can't allocate"
        ):
            model.load()
        monkeypatch.undo()
        assert same(model.load(), tensors)


@pytest.mark.parametrize("same_size", [True, False])
def test_a_shard_that_is_replaced_while_it_is_read(
    emulator: Emulator,
    client: OssClient,
    bucket: str,
    same_size: bool,  # noqa: FBT001 - a case
) -> None:
    put(client, f"oss://{bucket}/model.safetensors", random_tensors(1))
    with opened(emulator, f"oss://{bucket}/") as model:
        put(client, f"oss://{bucket}/model.safetensors", random_tensors(2, 300 if same_size else 301))
        with pytest.raises(
            OssIntegrityError, match=r"tensor '.*' of oss://.*model.safetensors could not be read: .*replaced"
        ):
            model.load()
        client.delete(f"oss://{bucket}/model.safetensors")
        with pytest.raises(OssNotFoundError, match=r"tensor '.*' of oss://.*model.safetensors could not be read"):
            model.load()


def test_a_replaced_shard_in_the_middle_of_an_iteration(emulator: Emulator, client: OssClient, bucket: str) -> None:
    tensors = {f"{number}": torch.randn(600_000) for number in range(20)}
    put(client, f"oss://{bucket}/model.safetensors", tensors)
    with opened(emulator, f"oss://{bucket}/", concurrency=2) as model:
        iteration = iter(model)
        next(iteration)
        put(client, f"oss://{bucket}/model.safetensors", {name: tensor + 1 for name, tensor in tensors.items()})
        with pytest.raises(OssIntegrityError, match="replaced"):
            assert not [name for name, tensor in iteration if not torch.equal(tensor, tensors[name])]


def test_flipped_bytes_are_found_when_all_of_an_object_was_read(
    emulator: Emulator, model_uri: str, tensors: Tensors
) -> None:
    with opened(emulator, model_uri) as model:
        for _ in range(2):
            # Also a second pass over the same model compares what it has received.
            with (
                emulator.fault(operation="GetObject", key="*00002*", flip=100, times=1),
                pytest.raises(OssIntegrityError, match="corrupted on the way"),
            ):
                model.load()
            assert same(model.load(), tensors)


def test_a_refused_request_names_the_tensor(emulator: Emulator, model_uri: str) -> None:
    with (
        opened(emulator, model_uri) as model,
        emulator.fault(operation="GetObject", key="*00001*", error="AccessDenied"),
        pytest.raises(
            OssError, match=r"tensor '.*' of oss://.*-00001-of-00003.safetensors could not be read"
        ) as caught,
    ):
        model.load()
    assert caught.value.code == "AccessDenied"


def test_two_files_with_the_same_tensor(emulator: Emulator, client: OssClient, bucket: str) -> None:
    for number in (1, 2):
        put(client, f"oss://{bucket}/model-0000{number}-of-00002.safetensors", {"w": torch.ones(number, 2)})
    with pytest.raises(OssFormatError, match=r"00001-of-00002.* and .*00002-of-00002.* both hold tensor 'w'"):
        opened(emulator, f"oss://{bucket}/")
