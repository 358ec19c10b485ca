"""Whole models with tied and shared weights, as `safetensors.torch` saves and loads them."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from osstorchconnector import OssClient, OssConfigError, OssError, OssFormatError, OssIntegrityError, OssSafetensor
from osstorchconnector.safetensor.tied import names_to_drop
from osstorchconnector.testing import Emulator


class Tied(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = torch.nn.Linear(10, 10)
        self.b = self.a


class TiedWeight(torch.nn.Module):
    """As language models have it: one parameter in two modules."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(16, 4)
        self.body = torch.nn.Linear(4, 4)
        self.head = torch.nn.Linear(4, 16, bias=False)
        self.head.weight = self.embedding.weight


class Untied(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = torch.nn.Linear(10, 10)
        self.b = torch.nn.Linear(10, 10)


class Copied(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = torch.nn.Linear(10, 10)
        self.b = copy.deepcopy(self.a)


class Transposed(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = torch.nn.Linear(10, 10)
        self.a.weight = torch.nn.Parameter(torch.rand(10, 10).transpose(0, 1))


class Viewed(torch.nn.Module):
    """A buffer that is a part of another one."""

    def __init__(self) -> None:
        super().__init__()
        whole = torch.rand(8, 2)
        self.register_buffer("z", whole)
        self.register_buffer("a", whole[2:4])


MODELS = [Tied, TiedWeight, Untied, Copied, Transposed, Viewed]


def same_state(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("place", ["model.safetensors", "model/"])
def test_a_model_comes_back(
    manager: OssSafetensor, bucket: str, kind: Callable[[], torch.nn.Module], place: str
) -> None:
    model, target, uri = kind(), kind(), f"oss://{bucket}/{place}"
    manager.save_model(model, uri)
    assert not same_state(model, target)
    assert manager.load_model(target, uri) == ([], [])
    assert same_state(model, target)


@pytest.mark.parametrize("kind", MODELS)
def test_the_bytes_are_those_of_the_library_and_each_reads_the_other(
    manager: OssSafetensor, client: OssClient, bucket: str, tmp_path: Path, kind: Callable[[], torch.nn.Module]
) -> None:
    model, path, uri = kind(), tmp_path / "model.safetensors", f"oss://{bucket}/model.safetensors"
    safetensors.torch.save_model(model, str(path))
    manager.save_model(model, uri)
    with manager.safe_open(uri) as ours, safetensors.safe_open(path, "pt") as theirs:
        assert ours.metadata() == (theirs.metadata() or {})
        assert ours.keys() == theirs.keys()
    client.put(uri, path.read_bytes())
    target, other = kind(), kind()
    manager.load_model(target, uri)
    assert same_state(model, target)
    path.write_bytes(client.get(uri))
    safetensors.torch.load_model(other, path)
    assert same_state(model, other)


def test_texts_of_the_caller_are_kept_and_its_dictionary_is_not_changed(manager: OssSafetensor, bucket: str) -> None:
    uri, texts = f"oss://{bucket}/model.safetensors", {"format": "pt", "b.bias": "mine"}
    manager.save_model(Tied(), uri, texts)
    assert texts == {"format": "pt", "b.bias": "mine"}
    with manager.safe_open(uri) as opened:
        assert opened.metadata() == {"format": "pt", "b.bias": "mine", "b.weight": "a.weight"}


def test_a_file_may_have_another_of_the_tied_names(manager: OssSafetensor, bucket: str) -> None:
    uri, model = f"oss://{bucket}/model.safetensors", Tied()
    state = model.state_dict()
    manager.save_file({name: state[name] for name in ("b.weight", "b.bias")}, uri)
    target = Tied()
    assert manager.load_model(target, uri) == ([], [])
    assert same_state(model, target)


def test_a_contiguous_copy_is_made_only_if_allowed(manager: OssSafetensor, client: OssClient, bucket: str) -> None:
    uri = f"oss://{bucket}/model.safetensors"
    with pytest.raises(
        ValueError, match=r"'a\.weight' is not contiguous.*use save_model\(\.\.\., force_contiguous=True"
    ):
        manager.save_model(Transposed(), uri, force_contiguous=False)
    assert list(client.list(f"oss://{bucket}/")) == []


@pytest.mark.parametrize(("stored", "wanted"), [(Tied, Untied), (Untied, Tied), (Tied, TiedWeight)])
def test_missing_and_unexpected_names_are_the_librarys_error(
    manager: OssSafetensor, client: OssClient, bucket: str, tmp_path: Path, stored: Any, wanted: Any
) -> None:
    uri, path = f"oss://{bucket}/model.safetensors", tmp_path / "model.safetensors"
    manager.save_model(stored(), uri)
    path.write_bytes(client.get(uri))
    with pytest.raises(RuntimeError) as theirs:
        safetensors.torch.load_model(wanted(), path)
    with pytest.raises(OssFormatError) as ours:
        manager.load_model(wanted(), uri)
    assert str(ours.value) == str(theirs.value)
    missing, unexpected = safetensors.torch.load_model(wanted(), path, strict=False)
    assert manager.load_model(wanted(), uri, strict=False) == (sorted(missing), unexpected)


def test_a_part_of_memory_that_no_tensor_covers_is_refused_as_by_the_library(
    manager: OssSafetensor, client: OssClient, bucket: str, tmp_path: Path
) -> None:
    model = Tied()
    model.a.weight = torch.nn.Parameter(torch.zeros(100, 10)[:10])
    for save, place in (
        (safetensors.torch.save_model, str(tmp_path / "model")),
        (manager.save_model, f"oss://{bucket}/model"),
    ):
        with pytest.raises(RuntimeError, match="found no suitable name to keep"):
            save(model, place)
    assert list(client.list(f"oss://{bucket}/")) == []


def test_tied_weights_that_are_not_contiguous(manager: OssSafetensor, bucket: str) -> None:
    # The library raises here: it looks for the end of a tensor by view().
    uri, model, target = f"oss://{bucket}/model.safetensors", Tied(), Tied()
    model.a.weight = torch.nn.Parameter(torch.rand(10, 10).transpose(0, 1))
    manager.save_model(model, uri)
    manager.load_model(target, uri)
    assert same_state(model, target)


def test_the_choice_of_names() -> None:
    whole, other = torch.zeros(3, 3), torch.zeros(2)
    tensors = {"A": whole, "B": whole[:1], "C": whole, "D": other, "M": torch.zeros(2, device="meta")}
    assert names_to_drop(tensors) == {"A": ["B", "C"]}
    assert names_to_drop(tensors, preferred={"C", "B"}) == {"C": ["A", "B"]}
    assert names_to_drop({"empty": torch.empty(0), "also": torch.empty(0)}) == {}
    for part in ({"B": whole[:1]}, {"B": whole[::2]}, {"B": whole[:1], "C": whole[1:]}):
        with pytest.raises(OssConfigError, match="covering the entire storage"):
            names_to_drop(part)


def test_a_model_is_not_touched_before_all_bytes_are_right(
    manager: OssSafetensor, bucket: str, emulator: Emulator
) -> None:
    uri, target = f"oss://{bucket}/model.safetensors", Untied()
    manager.save_model(Untied(), uri)
    before = copy.deepcopy(target)
    with (
        emulator.fault(operation="GetObject", key="model.safetensors", flip="middle"),
        pytest.raises(OssIntegrityError),
    ):
        manager.load_model(target, uri)
    assert same_state(before, target)


@pytest.mark.parametrize(("size", "shards"), [("1KB", 3), ("1.5 kb", 2), ("1000B", 3), ("1KiB", 3), (4000, 1), (1, 5)])
def test_the_size_of_shards_as_hugging_face_writes_it(
    manager: OssSafetensor, client: OssClient, bucket: str, size: Any, shards: int
) -> None:
    tensors, uri = {str(number): torch.full((100,), float(number)) for number in range(5)}, f"oss://{bucket}/model/"
    manager.save_file(tensors, uri, max_shard_size=size)
    index = json.loads(client.get(f"{uri}model.safetensors.index.json"))
    assert len(set(index["weight_map"].values())) == shards
    assert index["metadata"]["total_size"] == 2000
    assert manager.load_file(uri).keys() == tensors.keys()


@pytest.mark.parametrize("size", ["", "GB", "5", "5XB", "-1GB", "0GB", "1e9", 0, -1, 2.5, True, "5 G B"])
def test_what_is_no_size_is_reported(manager: OssSafetensor, client: OssClient, bucket: str, size: Any) -> None:
    with pytest.raises(OssConfigError, match=r"max_shard_size must be .*, got "):
        manager.save_model(Untied(), f"oss://{bucket}/model/", max_shard_size=size)
    assert list(client.list(f"oss://{bucket}/")) == []


def test_two_limits_or_one_for_an_object_are_reported(manager: OssSafetensor, bucket: str) -> None:
    tensors = {"a": torch.ones(2)}
    with pytest.raises(OssConfigError, match="give one of them"):
        manager.save_file(tensors, f"oss://{bucket}/model/", shard_bytes=5, max_shard_size=5)
    with pytest.raises(OssConfigError, match="end the URI with /"):
        manager.save_file(tensors, f"oss://{bucket}/model.safetensors", max_shard_size="5GB")


def test_the_index_is_written_last(manager: OssSafetensor, bucket: str, emulator: Emulator) -> None:
    uri, model = f"oss://{bucket}/model/", Untied()
    manager.save_model(model, uri, max_shard_size=400)
    emulator.clear_requests()
    manager.save_model(model, uri, max_shard_size=400)
    keys = [request.key for request in emulator.requests(operation="PutObject")]
    assert keys[-1] == "model/model.safetensors.index.json"
    assert len(keys) == 5
    with emulator.fault(operation="PutObject", key="model/*index*", error="AccessDenied"), pytest.raises(OssError):
        manager.save_model(Untied(), uri, max_shard_size=400)
    target = Untied()
    manager.load_model(target, uri)
    assert same_state(model, target)
