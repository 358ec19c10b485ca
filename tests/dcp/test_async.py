"""``async_save`` and its future, in a thread and in a process of its own."""

import importlib.util
import pickle
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.state_dict_saver import AsyncCheckpointerType

from osstorchconnector import OssClient, OssFileSystem, OssPermissionError
from osstorchconnector.dcp.metadata import files_of, read_metadata
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


@pytest.mark.parametrize("serialization_format", ["torch_save", "safetensors"])
def test_saves_that_overlap_are_each_whole(
    file_system: OssFileSystem, emulator: Emulator, client: OssClient, bucket: str, serialization_format: str
) -> None:
    writer = file_system.writer(f"oss://{bucket}/own", serialization_format=serialization_format)
    places = [f"oss://{bucket}/run/{number}" for number in range(4)]
    futures = []
    with emulator.fault(operation="PutObject", bucket=bucket, delay=0.2):
        for number, place in enumerate(places):
            state = {"a": torch.full((1000,), float(number)), f"only {number}": torch.ones(number + 1)}
            futures.append(saved(state, checkpoint_id=place, storage_writer=writer))
        for future in futures:
            future.result()
    for number, place in enumerate(places):
        target = {"a": torch.zeros(1000), f"only {number}": torch.zeros(number + 1)}
        dcp.load(target, storage_reader=file_system.reader(place))
        assert target["a"].eq(number).all()
        assert target[f"only {number}"].eq(1).all()
        (metadata,) = (item for item in client.list(f"{place}/") if item.name.endswith(".metadata"))
        assert files_of(read_metadata(client, metadata.uri)) < {
            item.uri.removeprefix(f"{place}/") for item in client.list(f"{place}/")
        }
    assert not list(client.list(f"oss://{bucket}/own"))


class Meeting(DefaultSavePlanner):
    """A planner that waits for other saves between the steps of its own."""

    def __init__(self, meeting: threading.Barrier) -> None:
        super().__init__()
        self.meeting = meeting

    def create_local_plan(self) -> Any:
        self.meeting.wait()
        return super().create_local_plan()

    def finish_plan(self, new_plan: Any) -> Any:
        self.meeting.wait()
        return super().finish_plan(new_plan)

    def resolve_data(self, write_item: Any) -> Any:
        self.meeting.wait()
        return super().resolve_data(write_item)


def test_saves_that_meet_at_each_step_are_each_whole(file_system: OssFileSystem, bucket: str) -> None:
    writer = file_system.writer(f"oss://{bucket}/own")
    meeting = threading.Barrier(2, timeout=20)
    places = [f"oss://{bucket}/run/{number}" for number in range(2)]
    states = [{"a": torch.full((9,), float(number))} for number in range(2)]
    futures = [
        saved(state, checkpoint_id=place, storage_writer=writer, planner=Meeting(meeting))
        for state, place in zip(states, places, strict=True)
    ]
    for future in futures:
        future.result()
    for number, place in enumerate(places):
        assert load(file_system, place, 9).eq(number).all()


def test_saves_that_overlap_at_one_place_leave_a_whole_one(file_system: OssFileSystem, bucket: str) -> None:
    writer = file_system.writer(f"oss://{bucket}/own")
    meeting = threading.Barrier(2, timeout=20)
    futures = [
        saved({"a": torch.full((9,), value)}, storage_writer=writer, planner=Meeting(meeting)) for value in (1.0, 2.0)
    ]
    for future in futures:
        future.result()
    loaded = load(file_system, f"oss://{bucket}/own", 9)
    assert loaded[0].item() in {1.0, 2.0}
    assert loaded.eq(loaded[0]).all()


def test_kept_memory_is_not_used_while_a_save_reads_it(file_system: OssFileSystem, bucket: str) -> None:
    writer = file_system.writer(f"oss://{bucket}/own", cache_staged_state_dict=True)
    # torch pins it, which needs an accelerator.
    writer.state_dict_cache = {"a": torch.zeros(9)}
    kept = writer.state_dict_cache["a"].data_ptr()
    first = writer.stage({"a": torch.ones(9)})
    second = writer.stage({"a": torch.full((9,), 2.0)})
    assert (first["a"].data_ptr(), first["a"].sum()) == (kept, 9)
    assert second["a"].sum() == 18
    del first
    assert writer.stage({"a": torch.full((9,), 3.0)})["a"].data_ptr() == kept
    assert pickle.loads(pickle.dumps(writer)).cache_staged_state_dict


def test_a_save_without_a_place_goes_to_the_writers_own(file_system: OssFileSystem, bucket: str) -> None:
    writer = file_system.writer(f"oss://{bucket}/own")
    dcp.save({"a": torch.ones(1)}, checkpoint_id=f"oss://{bucket}/other", storage_writer=writer)
    assert writer.path == writer.checkpoint_id == f"oss://{bucket}/other"
    dcp.save({"a": torch.full((1,), 2.0)}, storage_writer=writer)
    assert load(file_system, f"oss://{bucket}/other", 1)[0] == 1
    assert load(file_system, f"oss://{bucket}/own", 1)[0] == 2
    writer.path = f"oss://{bucket}/named"
    saved({"a": torch.full((1,), 3.0)}, storage_writer=writer).result()
    assert load(file_system, f"oss://{bucket}/named", 1)[0] == 3
    assert pickle.loads(pickle.dumps(writer)).path == f"oss://{bucket}/named"
