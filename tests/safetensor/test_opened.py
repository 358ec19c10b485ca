"""Many tensors with one call, and arrays of numpy."""

import json
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch

from osstorchconnector import (
    OssClient,
    OssConfigError,
    OssError,
    OssFormatError,
    OssIntegrityError,
    OssKeyError,
    OssNotFoundError,
    OssSafetensor,
)
from osstorchconnector.testing import Emulator
from tests.safetensor.test_safetensor import INDICES, all_types, filled, same


def several() -> dict[str, torch.Tensor]:
    return {**{f"layer.{n}": filled(torch.float32, 10, n + 1) for n in range(9)}, "empty": torch.empty(0, 3)}


@pytest.mark.parametrize("place", ["model.safetensors", "model/"])
def test_several_tensors_with_one_call(manager: OssSafetensor, bucket: str, place: str) -> None:
    tensors, uri = several(), f"oss://{bucket}/{place}"
    manager.save_file(tensors, uri, shard_bytes=500)
    with manager.safe_open(uri) as opened:
        wanted = ["layer.5", "empty", "layer.0", "layer.5", "layer.8"]
        found = opened.get_tensors(wanted)
        assert list(found) == ["layer.5", "empty", "layer.0", "layer.8"]
        assert all(same(found[name], tensors[name]) for name in found)
        every = opened.get_tensors()
        assert list(every) == opened.offset_keys()
        assert all(same(every[name], tensors[name]) for name in tensors)
        assert opened.get_tensors([]) == {}
        assert opened.get_tensors(iter(["layer.1"])).keys() == {"layer.1"}


def test_they_own_their_memory(manager: OssSafetensor, bucket: str) -> None:
    uri = f"oss://{bucket}/model.safetensors"
    manager.save_file(several(), uri)
    with manager.safe_open(uri) as opened:
        first, second = opened.get_tensors(), opened.get_tensors()
    first["layer.0"].fill_(7)
    assert same(second["layer.0"], several()["layer.0"])
    assert all(tensor.untyped_storage().nbytes() == tensor.nbytes for tensor in first.values())


def test_a_name_that_is_missing_is_reported_before_anything_is_fetched(
    manager: OssSafetensor, bucket: str, emulator: Emulator
) -> None:
    uri = f"oss://{bucket}/model.safetensors"
    manager.save_file(several(), uri)
    with manager.safe_open(uri) as opened:
        emulator.clear_requests()
        with pytest.raises(OssKeyError, match="has no tensor 'other'"):
            opened.get_tensors(["layer.0", "other"])
        with pytest.raises(OssConfigError, match=r"write \['layer\.0'\]"):
            opened.get_tensors("layer.0")
        assert emulator.requests(operation="GetObject") == []


def test_shards_are_fetched_at_the_same_time(manager: OssSafetensor, bucket: str, emulator: Emulator) -> None:
    uri = f"oss://{bucket}/model/"
    # The first megabyte comes with the header.
    manager.save_file({str(n): torch.zeros(2 << 20) for n in range(4)}, uri, shard_bytes=8 << 20)
    with emulator.fault(operation="GetObject", key="*.safetensors", delay=0.2), manager.safe_open(uri) as opened:
        emulator.clear_requests()
        opened.offset_keys()
        assert emulator.peak_concurrency() >= 4
        emulator.clear_requests()
        opened.get_tensors()
        assert len({request.key for request in emulator.requests(operation="GetObject")}) == 4
        assert emulator.peak_concurrency() >= 4


@pytest.mark.parametrize(
    "read",
    [
        lambda opened, _names: opened.get_tensors(),
        lambda opened, names: [opened.get_tensor(name) for name in names],
        lambda opened, names: [opened.get_tensors([name]) for name in names],
    ],
    ids=["all at once", "one by one", "in several calls"],
)
@pytest.mark.parametrize("place", ["model.safetensors", "model/"])
def test_the_checksum_of_each_file_is_compared_when_all_of_it_was_read(
    manager: OssSafetensor, bucket: str, emulator: Emulator, place: str, read: Any
) -> None:
    uri, tensors = f"oss://{bucket}/{place}", {"a": torch.zeros(1 << 18), "b": torch.zeros(1 << 18)}
    manager.save_file(tensors, uri, shard_bytes=1 << 20)
    with manager.safe_open(uri) as opened:
        names = opened.offset_keys()
        with emulator.fault(operation="GetObject", flip="middle", nth=1), pytest.raises(OssIntegrityError):
            read(opened, names)


def test_a_replaced_shard_is_an_error_and_nothing_is_returned(manager: OssSafetensor, bucket: str) -> None:
    uri = f"oss://{bucket}/model.safetensors"
    manager.save_file({"a": torch.zeros(1 << 20)}, uri)
    with manager.safe_open(uri) as opened:
        manager.save_file({"a": torch.ones(1 << 20)}, uri)
        with pytest.raises(OssError):
            opened.get_tensors()


@pytest.mark.parametrize("place", ["model.safetensors", "model/"])
def test_the_tensor_that_a_truncated_file_lacks_is_named(
    manager: OssSafetensor, client: OssClient, bucket: str, place: str
) -> None:
    uri = f"oss://{bucket}/{place}"
    manager.save_file({"a": torch.zeros(10), "b": torch.zeros(10)}, uri)
    (shard,) = [item.uri for item in client.list(uri) if item.uri.endswith(".safetensors")]
    client.put(shard, client.get(shard)[:-1])
    with pytest.raises(
        OssFormatError, match=f"{shard} is not a safetensors file: .* ends inside of tensor 'b', at byte"
    ):
        manager.load_file(uri)


def test_a_missing_shard_is_named(manager: OssSafetensor, client: OssClient, bucket: str) -> None:
    uri = f"oss://{bucket}/model/"
    manager.save_file(several(), uri, shard_bytes=500)
    index = json.loads(client.get(f"{uri}model.safetensors.index.json"))
    shard = index["weight_map"]["layer.8"]
    client.delete(uri + shard)
    with pytest.raises(OssNotFoundError, match=shard):
        manager.load_file(uri)


def test_a_type_that_torch_lacks_is_reported_before_anything_is_fetched(
    manager: OssSafetensor, client: OssClient, bucket: str, emulator: Emulator
) -> None:
    uri = f"oss://{bucket}/model.safetensors"
    header = b'{"a":{"dtype":"F6_E2M3","shape":[4],"data_offsets":[0,3]}}'
    client.put(uri, len(header).to_bytes(8, "little") + header + bytes(3))
    with manager.safe_open(uri) as opened:
        emulator.clear_requests()
        for act in (opened.get_tensors, lambda: opened.get_tensor("a")):
            with pytest.raises(OssFormatError, match="has no type for F6_E2M3"):
                act()
        assert emulator.requests(operation="GetObject") == []


def test_threads_may_fetch_several_tensors_at_the_same_time(manager: OssSafetensor, bucket: str) -> None:
    uri, tensors, together = f"oss://{bucket}/model/", several(), threading.Barrier(4)
    manager.save_file(tensors, uri, shard_bytes=500)
    right: list[bool] = []

    def load(opened: Any) -> None:
        together.wait()
        found = opened.get_tensors()
        right.append(all(same(found[name], tensors[name]) for name in tensors))

    with manager.safe_open(uri) as opened:
        threads = [threading.Thread(target=load, args=[opened]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert right == [True] * 4


def test_arrays_are_those_of_the_library(
    manager: OssSafetensor, client: OssClient, bucket: str, tmp_path: Path
) -> None:
    uri, path = f"oss://{bucket}/model.safetensors", tmp_path / "model.safetensors"
    manager.save_file(all_types(), uri)
    path.write_bytes(client.get(uri))
    compared = 0
    for framework in ("np", "numpy"):
        with manager.safe_open(uri, "cpu", framework) as ours, safetensors.safe_open(path, framework) as theirs:
            for name in ours.keys():  # noqa: SIM118 - it is no dictionary
                try:
                    expected = theirs.get_tensor(name)
                except (TypeError, AttributeError):
                    with pytest.raises(OssFormatError, match="numpy has no type for"):
                        ours.get_tensor(name)
                    continue
                found = ours.get_tensor(name)
                assert isinstance(found, np.ndarray)
                assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
                assert found.tobytes() == expected.tobytes()
                assert found.flags.writeable
                compared += 1
    assert compared >= 2 * 15


def test_a_type_that_numpy_has_from_a_library(
    manager: OssSafetensor, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"oss://{bucket}/model.safetensors"
    manager.save_file({"a": torch.ones(2, dtype=torch.bfloat16)}, uri)
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    complaint = "numpy has no type for BF16: open it with framework='pt', or install ml_dtypes"
    with manager.safe_open(uri, framework="np") as opened, pytest.raises(OssFormatError, match=complaint):
        opened.get_tensors()


def test_several_arrays_with_one_call(manager: OssSafetensor, bucket: str) -> None:
    uri, tensors = f"oss://{bucket}/model/", several()
    manager.save_file(tensors, uri, shard_bytes=500)
    with manager.safe_open(uri, framework="np") as opened:
        found = opened.get_tensors()
    assert all(np.array_equal(found[name], tensors[name].numpy()) for name in tensors)


@pytest.mark.parametrize("index", [index for index in INDICES if not isinstance(index, torch.Tensor)], ids=str)
def test_a_slice_is_that_of_an_array(manager: OssSafetensor, bucket: str, index: Any) -> None:
    uri, tensor = f"oss://{bucket}/model.safetensors", filled(torch.float32, 4, 5, 6)
    manager.save_file({"a": tensor}, uri)
    array_index: Any = index
    if isinstance(index, tuple):
        array_index = tuple(np.asarray(one) if isinstance(one, torch.Tensor) else one for one in index)
    with manager.safe_open(uri, framework="np") as opened:
        part = opened.get_slice("a")[array_index]
    expected = tensor.numpy()[array_index]
    assert np.array_equal(part, expected)
    assert np.shape(part) == np.shape(expected)
    # A small selection keeps no large memory alive.
    assert np.size(part) == tensor.numel() or not isinstance(part, np.ndarray) or part.size * 4 == memory_of(part)


def memory_of(array: "np.ndarray[Any, Any]") -> int:
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array.nbytes


@pytest.mark.parametrize(("framework", "device"), [("np", "meta"), ("np", "cuda:0"), ("tf", "cpu"), ("", "cpu")])
def test_frameworks_that_there_are_not(manager: OssSafetensor, bucket: str, framework: str, device: str) -> None:
    with pytest.raises(OssConfigError, match=r"device must be 'cpu', got|framework must be 'pt' or 'np', got"):
        manager.safe_open(f"oss://{bucket}/model.safetensors", device, framework)
