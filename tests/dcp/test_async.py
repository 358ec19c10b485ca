"""``async_save`` and its future, in a thread and in a process of its own."""

import importlib.util
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict_saver import AsyncCheckpointerType

from osstorchconnector import OssFileSystem, OssPermissionError
from osstorchconnector.testing import Emulator


def saved(state: dict[str, Any], **options: Any) -> "Future[Any]":
    future = dcp.async_save(state, **options)
    assert isinstance(future, Future)
    return future


def load(file_system: OssFileSystem, checkpoint_uri: str, size: int) -> torch.Tensor:
    target = {"a": torch.zeros(size)}
    dcp.load(target, storage_reader=file_system.reader(checkpoint_uri))
    return target["a"]


@pytest.mark.parametrize("cached", [False, True])
def test_what_changes_after_the_call_is_not_saved(
    file_system: OssFileSystem, checkpoint_uri: str, *, cached: bool
) -> None:
    if cached and not torch.cuda.is_available():
        pytest.skip("torch pins the memory of a kept copy, and that needs an accelerator")
    state = {"a": torch.ones(3_000_000)}
    writer = file_system.writer(checkpoint_uri, cache_staged_state_dict=cached)
    for value in (1.0, 2.0):
        state["a"].fill_(value)
        future = saved(state, storage_writer=writer)
        state["a"].fill_(-1)
        future.result()
        assert torch.equal(load(file_system, checkpoint_uri, 3_000_000), torch.full((3_000_000,), value))


def test_the_future_fails_as_the_save_does(file_system: OssFileSystem, emulator: Emulator, checkpoint_uri: str) -> None:
    saved({"a": torch.ones(9)}, storage_writer=file_system.writer(checkpoint_uri)).result()
    with emulator.fault(operation="PutObject", error="AccessDenied"):
        future = saved({"a": torch.zeros(9)}, storage_writer=file_system.writer(checkpoint_uri))
        with pytest.raises(dcp.CheckpointException) as raised:
            future.result()
    assert isinstance(raised.value.failures[0][0], OssPermissionError)
    assert torch.equal(load(file_system, checkpoint_uri, 9), torch.ones(9))


@pytest.fixture
def _group(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Iterator[None]:
    # The process that saves finds the others by this address.
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.slow(120)
@pytest.mark.usefixtures("_group")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning")
@pytest.mark.skipif(
    importlib.util.find_spec("torch.distributed.checkpoint._async_process_executor") is None,
    reason="this torch saves in threads only",
)
def test_a_process_of_its_own_saves(file_system: OssFileSystem, emulator: Emulator, checkpoint_uri: str) -> None:
    state = {"a": torch.ones(500_000)}
    process = {"async_checkpointer_type": AsyncCheckpointerType.PROCESS}
    saved(state, storage_writer=file_system.writer(checkpoint_uri), **process).result()
    assert torch.equal(load(file_system, checkpoint_uri, 500_000), state["a"])
    with emulator.fault(operation="PutObject", error="AccessDenied"):
        future = saved({"a": torch.zeros(500_000)}, storage_writer=file_system.writer(checkpoint_uri), **process)
        with pytest.raises(dcp.CheckpointException, match="AccessDenied"):
            future.result()
    assert torch.equal(load(file_system, checkpoint_uri, 500_000), state["a"])
