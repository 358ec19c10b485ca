"""What a save leaves behind, both after success and after failure."""

import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint import DefaultSavePlanner
from torch.distributed.checkpoint.planner import SavePlan, WriteItem

from osstorchconnector import OssClient, OssConfigError, OssError, OssFileSystem
from osstorchconnector.dcp import HexadecimalPrefix, PrefixStrategy, RoundRobinPrefix
from osstorchconnector.testing import Emulator
from tests.dcp.extension import Deflate, registry


def names(client: OssClient, checkpoint_uri: str) -> set[str]:
    return {item.uri.removeprefix(f"{checkpoint_uri}/") for item in client.list(f"{checkpoint_uri}/")}


def loaded(file_system: OssFileSystem, checkpoint_uri: str, **like: torch.Tensor) -> dict[str, Any]:
    target = {name: torch.zeros_like(tensor) for name, tensor in like.items()}
    dcp.load(target, storage_reader=file_system.reader(checkpoint_uri))
    return target


def test_a_second_save_uses_no_name_of_the_first_and_replaces_it(
    file_system: OssFileSystem, client: OssClient, checkpoint_uri: str
) -> None:
    writer = file_system.writer(checkpoint_uri, thread_count=2)
    dcp.save({"a": torch.ones(10), "b": torch.ones(3)}, storage_writer=writer)
    first = names(client, checkpoint_uri)
    dcp.save({"a": torch.full((10,), 2.0), "b": torch.ones(3)}, storage_writer=writer)
    second = names(client, checkpoint_uri)
    assert first & second == {".metadata"}
    assert len(first) == len(second) == 4
    assert torch.equal(loaded(file_system, checkpoint_uri, a=torch.ones(10))["a"], torch.full((10,), 2.0))


def test_no_key_is_written_twice(file_system: OssFileSystem, emulator: Emulator, checkpoint_uri: str) -> None:
    emulator.clear_requests()
    for number in range(3):
        dcp.save({"a": torch.full((10,), float(number))}, storage_writer=file_system.writer(checkpoint_uri))
    written = [request.key for request in emulator.requests(operation="PutObject")]
    others = [key for key in written if key is not None and not key.endswith("/.metadata")]
    assert len(others) == len(set(others)) == 6
    # The metadata is the last object of each save.
    assert [key for key in written if key not in others] == written[2::3]


def test_a_planner_that_caches_plans_writes_to_new_names_too(
    file_system: OssFileSystem, client: OssClient, checkpoint_uri: str
) -> None:
    class Caching(DefaultSavePlanner):
        """torch caches by the class's name."""

    seen: set[str] = set()
    for number in range(3):
        state = {"a": torch.full((10,), float(number))}
        try:
            planner = Caching(enable_plan_caching=True)
        except TypeError:
            pytest.skip("this torch does not cache plans")
        dcp.save(state, storage_writer=file_system.writer(checkpoint_uri), planner=planner)
        files = names(client, checkpoint_uri) - {".metadata"}
        assert not files & seen
        seen |= files
        assert torch.equal(loaded(file_system, checkpoint_uri, a=state["a"])["a"], state["a"])


@pytest.mark.parametrize("operation", ["PutObject", "UploadPart", "CompleteMultipartUpload"])
def test_a_failed_save_leaves_the_previous_checkpoint(
    file_system: OssFileSystem, client: OssClient, emulator: Emulator, checkpoint_uri: str, operation: str
) -> None:
    # Larger than one part, so every operation is used.
    state = {"a": torch.ones(6_000_000), "b": torch.ones(6_000_000)}
    dcp.save(state, storage_writer=file_system.writer(checkpoint_uri, thread_count=2))
    before = names(client, checkpoint_uri)
    changed = {name: tensor * 2 for name, tensor in state.items()}
    for nth in (1, 2) if operation != "PutObject" else (1,):
        with (
            emulator.fault(operation=operation, nth=nth, error="AccessDenied"),
            pytest.raises(dcp.CheckpointException, match="AccessDenied") as raised,
        ):
            dcp.save(changed, storage_writer=file_system.writer(checkpoint_uri, thread_count=2))
        assert isinstance(raised.value.failures[0][0], OssError)
        now = loaded(file_system, checkpoint_uri, **state)
        assert all(torch.equal(now[name], state[name]) for name in state)
    # The files that the failed saves uploaded were deleted.
    assert names(client, checkpoint_uri) == before


def test_files_stay_if_they_may_have_been_published(
    file_system: OssFileSystem, client: OssClient, emulator: Emulator, checkpoint_uri: str
) -> None:
    dcp.save({"a": torch.ones(2)}, storage_writer=file_system.writer(checkpoint_uri))
    before = names(client, checkpoint_uri)
    with (
        emulator.fault(key="*/.metadata", operation="PutObject", error="AccessDenied"),
        pytest.raises(dcp.CheckpointException, match="AccessDenied"),
    ):
        dcp.save({"a": torch.zeros(2)}, storage_writer=file_system.writer(checkpoint_uri))
    assert before < names(client, checkpoint_uri)
    assert torch.equal(loaded(file_system, checkpoint_uri, a=torch.ones(2))["a"], torch.ones(2))


def test_an_item_that_was_not_written_is_reported_and_nothing_is_published(
    file_system: OssFileSystem, client: OssClient, checkpoint_uri: str
) -> None:
    class Forgetful(DefaultSavePlanner):
        def finish_plan(self, new_plan: SavePlan) -> SavePlan:
            return SavePlan(new_plan.items[:-1], new_plan.storage_data, new_plan.planner_data)

    with pytest.raises(dcp.CheckpointException, match=r"1 of 2 items .* were not written: 'b'"):
        dcp.save(
            {"a": torch.ones(1), "b": torch.ones(1)},
            storage_writer=file_system.writer(checkpoint_uri),
            planner=Forgetful(),
        )
    assert ".metadata" not in names(client, checkpoint_uri)


class UnsendableError(Exception):
    def __init__(self, lock: object) -> None:
        super().__init__("cannot be sent", lock)


def test_an_error_that_cannot_be_sent_to_other_ranks_is_replaced(
    file_system: OssFileSystem, checkpoint_uri: str
) -> None:
    class Failing(DefaultSavePlanner):
        def resolve_data(self, write_item: WriteItem) -> Any:  # noqa: ARG002
            raise UnsendableError(threading.Lock())

    with pytest.raises(dcp.CheckpointException, match="cannot be sent") as raised:
        dcp.save({"a": torch.ones(1)}, storage_writer=file_system.writer(checkpoint_uri), planner=Failing())
    assert type(raised.value.failures[0][0]) is OssError


def test_overwriting_can_be_refused(file_system: OssFileSystem, client: OssClient, checkpoint_uri: str) -> None:
    dcp.save({"a": torch.ones(1)}, storage_writer=file_system.writer(checkpoint_uri, overwrite=False))
    before = names(client, checkpoint_uri)
    with pytest.raises(dcp.CheckpointException, match="already exists and overwrite=False: overwrite=True replaces it"):
        dcp.save({"a": torch.ones(1)}, storage_writer=file_system.writer(checkpoint_uri, overwrite=False))
    assert names(client, checkpoint_uri) == before


def test_a_key_that_may_only_write_saves(
    file_system: OssFileSystem,
    client: OssClient,
    emulator: Emulator,
    checkpoint_uri: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    bucket = checkpoint_uri.split("/")[2]
    reading = ["GetObject", "HeadObject", "ListObjects", "ListObjectsV2"]
    for value in (1.0, 2.0):
        with emulator.fault(bucket=bucket, operation=reading, error="AccessDenied"):
            dcp.save({"a": torch.full((9,), value)}, storage_writer=file_system.writer(checkpoint_uri))
        assert loaded(file_system, checkpoint_uri, a=torch.ones(9))["a"].eq(value).all()
    assert f"osst checkpoint rm --leftovers {checkpoint_uri}" in caplog.text
    before = names(client, checkpoint_uri)
    # It cannot find out whether there is a checkpoint, so it uploads nothing.
    writer = file_system.writer(checkpoint_uri, overwrite=False)
    with (
        emulator.fault(bucket=bucket, operation=reading, error="AccessDenied"),
        pytest.raises(dcp.CheckpointException, match="AccessDenied"),
    ):
        dcp.save({"a": torch.zeros(9)}, storage_writer=writer)
    assert names(client, checkpoint_uri) == before


def test_old_files_that_cannot_be_deleted_do_not_fail_the_save(
    file_system: OssFileSystem,
    client: OssClient,
    emulator: Emulator,
    checkpoint_uri: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    dcp.save({"a": torch.ones(2)}, storage_writer=file_system.writer(checkpoint_uri))
    with emulator.fault(operation="DeleteMultipleObjects", error="AccessDenied"), caplog.at_level(logging.WARNING):
        dcp.save({"a": torch.zeros(2)}, storage_writer=file_system.writer(checkpoint_uri))
    assert "osst checkpoint rm --leftovers" in caplog.text
    assert len(names(client, checkpoint_uri)) == 5
    assert torch.equal(loaded(file_system, checkpoint_uri, a=torch.ones(2))["a"], torch.zeros(2))


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        (None, ""),
        (HexadecimalPrefix(), "00/"),
        (HexadecimalPrefix(digits=4, epoch=3), "0000/epoch-3/"),
        (RoundRobinPrefix(["x", "y/z"], epoch=0), "x/epoch-0/"),
        (lambda rank: f"of/rank {rank}/", "of/rank 0/"),
    ],
)
def test_files_go_where_the_prefix_strategy_says(
    file_system: OssFileSystem, client: OssClient, checkpoint_uri: str, strategy: PrefixStrategy | None, expected: str
) -> None:
    state = {"a": torch.arange(5.0)}
    dcp.save(state, storage_writer=file_system.writer(checkpoint_uri, prefix_strategy=strategy))
    (file,) = (name for name in names(client, checkpoint_uri) if name.endswith(".distcp"))
    assert file.rpartition("__0_")[0] == expected
    assert torch.equal(loaded(file_system, checkpoint_uri, **state)["a"], state["a"])


def test_prefixes_of_neighbouring_ranks_differ_at_their_beginning() -> None:
    assert [HexadecimalPrefix()(rank) for rank in (0, 1, 2, 16, 255, 256)] == ["00", "10", "20", "01", "ff", "00"]
    assert [RoundRobinPrefix(["x", "y"])(rank) for rank in range(3)] == ["x", "y", "x"]


@pytest.mark.parametrize(
    "make",
    [
        lambda: HexadecimalPrefix(0),
        lambda: RoundRobinPrefix([]),
        lambda: RoundRobinPrefix("abc"),
    ],
)
def test_wrong_strategies_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(OssConfigError):
        make()


@pytest.mark.parametrize("options", [{"thread_count": 0}, {"serialization_format": "zip"}])
def test_wrong_options_are_refused(file_system: OssFileSystem, checkpoint_uri: str, options: dict[str, Any]) -> None:
    with pytest.raises(OssConfigError):
        file_system.writer(checkpoint_uri, **options)
    with pytest.raises(OssConfigError):
        file_system.writer(checkpoint_uri, serialization_format="safetensors", _extensions=[Deflate()])


@pytest.mark.parametrize("directory", ["/absolute", 3, "oss://other/x"])
def test_a_strategy_that_leaves_the_checkpoint_is_reported(
    file_system: OssFileSystem, checkpoint_uri: str, directory: Any
) -> None:
    writer = file_system.writer(checkpoint_uri, prefix_strategy=lambda _rank: directory)
    with pytest.raises(dcp.CheckpointException, match="a path below the checkpoint is needed"):
        dcp.save({"a": torch.ones(1)}, storage_writer=writer)


def test_compressed_items_are_loaded_also_in_part(
    file_system: OssFileSystem, client: OssClient, checkpoint_uri: str
) -> None:
    state = {"a": torch.zeros(1_000_000), "b": torch.arange(1000.0), "c": "text"}
    dcp.save(state, storage_writer=file_system.writer(checkpoint_uri, _extensions=[Deflate()]))
    assert sum(item.size for item in client.list(f"{checkpoint_uri}/")) < 100_000
    target: dict[str, Any] = {"a": torch.ones(1_000_000), "b": torch.zeros(1000), "c": ""}
    dcp.load(target, storage_reader=file_system.reader(checkpoint_uri, _extension_registry=registry()))
    assert torch.equal(target["a"], state["a"])  # type: ignore[arg-type]
    assert target["c"] == "text"
    part = {"b": torch.zeros(1000)}
    reader = file_system.reader(checkpoint_uri, _extension_registry=registry())
    dcp.load(part, storage_reader=reader)
    assert torch.equal(part["b"], state["b"])  # type: ignore[arg-type]
