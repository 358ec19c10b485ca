"""What a load reads: bytes, ranges, ranges in flight, and memory."""

from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from hypothesis import given
from hypothesis import strategies as st
from torch.distributed.checkpoint import DefaultLoadPlanner

from osstorchconnector import OssConfigError, OssFileSystem
from osstorchconnector.dcp import OssStorageReader
from osstorchconnector.dcp.integrity import BLOCK
from osstorchconnector.dcp.stored import blocks_of
from osstorchconnector.testing import Emulator
from tests.dcp.partial_loads import load_box


def model() -> dict[str, Any]:
    layers = {
        f"layer.{number}": {"weight": torch.randn(400, 500), "bias": torch.randn(500), "scale": torch.ones(())}
        for number in range(12)
    }
    return {"model": layers, "optimizer": {"moments": torch.randn(4_000_000), "step": 100}}


@pytest.fixture
def state(file_system: OssFileSystem, checkpoint_uri: str) -> dict[str, Any]:
    state = model()
    dcp.save(state, storage_writer=file_system.writer(checkpoint_uri, thread_count=2))
    return state


def load(reader: OssStorageReader, state: dict[str, Any]) -> dict[str, Any]:
    dcp.load(state, storage_reader=reader)
    return state


@pytest.mark.parametrize("gap", [0, 4096, 1 << 30])
def test_the_model_is_loaded_without_the_optimizer(
    file_system: OssFileSystem, emulator: Emulator, checkpoint_uri: str, state: dict[str, Any], gap: int
) -> None:
    reader = file_system.reader(checkpoint_uri, gap=gap)
    emulator.clear_requests()
    loaded = load(reader, {"model": model()["model"]})
    assert torch.equal(loaded["model"]["layer.7"]["weight"], state["model"]["layer.7"]["weight"])
    report = reader.report
    assert report is not None
    # The frame of each tensor is 1.5 KB; the scales are almost only frame.
    assert report.amplification < 1.02
    gets = [request for request in emulator.requests(operation="GetObject") if (request.key or "").endswith(".distcp")]
    assert sum(request.response_bytes for request in gets) == report.read_bytes
    assert len(gets) == report.ranges
    if gap:
        assert report.ranges < 12


def test_one_layer_is_loaded_with_few_ranges(
    file_system: OssFileSystem, checkpoint_uri: str, state: dict[str, Any]
) -> None:
    reader = file_system.reader(checkpoint_uri)
    loaded = load(reader, {"model": {"layer.3": model()["model"]["layer.3"]}})
    assert torch.equal(loaded["model"]["layer.3"]["bias"], state["model"]["layer.3"]["bias"])
    assert reader.report is not None
    assert reader.report.ranges <= 3
    assert reader.report.amplification < 1.4


def test_ranges_are_in_flight_together_and_within_the_bound(
    file_system: OssFileSystem, emulator: Emulator, checkpoint_uri: str, state: dict[str, Any]
) -> None:
    with emulator.fault(operation="GetObject", key="*.distcp", delay=0.1):
        emulator.clear_requests()
        load(file_system.reader(checkpoint_uri, concurrency=4, gap=0), model())
        assert emulator.peak_concurrency() == 4
        emulator.clear_requests()
        # A budget below one range allows one range at a time; ranges received directly in a tensor do not count.
        load(file_system.reader(checkpoint_uri, budget=1, gap=0), {"model": model()["model"]})
        assert emulator.peak_concurrency() == 1
    assert state


def test_only_the_blocks_of_a_part_are_fetched(file_system: OssFileSystem, checkpoint_uri: str) -> None:
    matrix = torch.randn(5000, 2000)
    dcp.save({"w": matrix}, storage_writer=file_system.writer(checkpoint_uri))
    metadata = file_system.reader(checkpoint_uri).read_metadata()
    # 40 MB in five blocks: rows of the second and third, and columns of all.
    part, report = load_box(file_system, checkpoint_uri, metadata, "w", (1200, 0), (1000, 2000))
    assert torch.equal(part, matrix[1200:2200])
    assert report.read_bytes == 2 * BLOCK
    part, report = load_box(file_system, checkpoint_uri, metadata, "w", (0, 700), (5000, 30))
    assert torch.equal(part, matrix[:, 700:730])
    assert report.read_bytes == matrix.nbytes
    part, report = load_box(file_system, checkpoint_uri, metadata, "w", (10, 700), (20, 30))
    assert torch.equal(part, matrix[10:30, 700:730])
    assert report.read_bytes == BLOCK


def test_planner_options_are_respected(file_system: OssFileSystem, checkpoint_uri: str, state: dict[str, Any]) -> None:
    target = {"optimizer": {"step": 0}, "unknown": torch.ones(3)}
    with pytest.raises(dcp.CheckpointException, match="Missing key"):
        load(file_system.reader(checkpoint_uri), target)
    planner = DefaultLoadPlanner(allow_partial_load=True)
    dcp.load(target, storage_reader=file_system.reader(checkpoint_uri), planner=planner)
    assert target["optimizer"] == {"step": 100}
    assert torch.equal(target["unknown"], torch.ones(3))  # type: ignore[arg-type]
    with pytest.raises(dcp.CheckpointException, match="Size mismatch"):
        load(file_system.reader(checkpoint_uri), {"optimizer": {"moments": torch.zeros(5)}})
    assert state


def test_autograd_notices_what_is_received_in_place(
    file_system: OssFileSystem, checkpoint_uri: str, state: dict[str, Any]
) -> None:
    weight = torch.nn.Parameter(torch.zeros(4_000_000))
    result = (weight * weight).sum()
    load(file_system.reader(checkpoint_uri), {"optimizer": {"moments": weight}})
    assert torch.equal(weight.detach(), state["optimizer"]["moments"])
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        result.backward()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("options", [{"budget": 0}, {"concurrency": 0}, {"gap": -1}])
def test_wrong_bounds_are_refused(file_system: OssFileSystem, checkpoint_uri: str, options: dict[str, int]) -> None:
    with pytest.raises(OssConfigError, match="out of range"):
        file_system.reader(checkpoint_uri, **options)


@given(st.integers(0, 4 * BLOCK), st.integers(0, 4 * BLOCK), st.integers(0, BLOCK))
def test_blocks_cover_what_is_wanted_and_no_more(one: int, other: int, beyond: int) -> None:
    start, end = sorted((one, other))
    blocks = list(blocks_of(start, end, end + beyond))
    if start == end:
        assert blocks == []
        return
    assert blocks[0][1] <= start < blocks[0][2]
    assert blocks[-1][1] < end <= blocks[-1][2]
    assert all(first[2] == second[1] for first, second in pairwise(blocks))
