"""What fails in dcp.save and dcp.load arrives with its class inside torch's exception, which every frame raises."""

import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp

from osstorchconnector import (
    OssClient,
    OssConfig,
    OssConnectionError,
    OssError,
    OssFileSystem,
    OssPermissionError,
    OssTimeoutError,
)
from osstorchconnector.testing import Emulator

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "distributed-checkpoints.md"
CONFIG = OssConfig(max_attempts=1, read_timeout=0.3, connect_timeout=2, total_timeout=4, part_size=100 * 1024)
FAULTS: dict[str, tuple[dict[str, Any], type[OssError]]] = {
    "refused": ({"error": "AccessDenied"}, OssPermissionError),
    "broken": ({"reset": "before"}, OssConnectionError),
    "silent": ({"stall": "before"}, OssTimeoutError),
}
# What the planner and the storage ask for, from the first request of a save or load to the last.
SAVING: dict[str, dict[str, Any]] = {
    "the previous metadata": {"operation": "GetObject", "key": "*/.metadata"},
    "the beginning of a file": {"operation": "InitiateMultipartUpload"},
    "a part of a file": {"operation": "UploadPart"},
    "the end of a file": {"operation": "CompleteMultipartUpload"},
    "the checksums": {"operation": "PutObject", "key": "*/.items-*"},
    "the metadata": {"operation": "PutObject", "key": "*/.metadata"},
}
LOADING: dict[str, dict[str, Any]] = {
    "the metadata": {"operation": "GetObject", "key": "*/.metadata"},
    "the checksums": {"operation": "GetObject", "key": "*/.items-*"},
    "a tensor": {"operation": "GetObject", "key": "*.distcp"},
    "everything": {},
}


def state() -> dict[str, Any]:
    return {"weight": torch.arange(300_000.0), "step": 3}


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    # A request that is never answered stays in flight, and other tests count those of their server.
    with Emulator() as server:
        yield server


@pytest.fixture(scope="module")
def client(emulator: Emulator) -> OssClient:
    return emulator.client()


@pytest.fixture
def file_system(emulator: Emulator) -> OssFileSystem:
    return OssFileSystem(**emulator.connection, config=CONFIG)


@pytest.fixture(params=["without a group", "gloo"])
def group(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Whether torch runs without a process group."""
    if request.param != "gloo":
        yield True
        return
    dist.init_process_group("gloo", store=torch._C._distributed_c10d.HashStore(), rank=0, world_size=1)
    yield False
    dist.destroy_process_group()


def assert_holds(raised: pytest.ExceptionInfo[dcp.CheckpointException], expected: type[OssError]) -> None:
    assert not isinstance(raised.value, Exception)
    assert list(raised.value.failures) == [0]
    (error, _frames) = raised.value.failures[0]
    assert type(error) is expected
    assert error.bucket
    assert error.key


# A save with a key that may not read succeeds, so this is no failure.
REFUSED_READ = ("the previous metadata", "refused")


@pytest.mark.parametrize(
    ("frame", "fault"), [(frame, fault) for frame in SAVING for fault in FAULTS if (frame, fault) != REFUSED_READ]
)
def test_a_failed_save_holds_the_cause(
    file_system: OssFileSystem,
    emulator: Emulator,
    bucket: str,
    checkpoint_uri: str,
    frame: str,
    fault: str,
    *,
    group: bool,
) -> None:
    rule, expected = FAULTS[fault]
    where = {"key": "*", **SAVING[frame]}
    dcp.save(state(), storage_writer=file_system.writer(checkpoint_uri), no_dist=group)
    with (
        emulator.fault(bucket=bucket, **where, **rule),
        pytest.raises(dcp.CheckpointException) as raised,
    ):
        dcp.save(state(), storage_writer=file_system.writer(checkpoint_uri), no_dist=group)
    assert_holds(raised, expected)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("frame", LOADING)
def test_a_failed_load_holds_the_cause(
    file_system: OssFileSystem,
    emulator: Emulator,
    bucket: str,
    checkpoint_uri: str,
    frame: str,
    fault: str,
    *,
    group: bool,
) -> None:
    rule, expected = FAULTS[fault]
    dcp.save(state(), storage_writer=file_system.writer(checkpoint_uri), no_dist=group)
    with (
        emulator.fault(bucket=bucket, **LOADING[frame], **rule),
        pytest.raises(dcp.CheckpointException) as raised,
    ):
        dcp.load(state(), storage_reader=file_system.reader(checkpoint_uri), no_dist=group)
    assert_holds(raised, expected)


def test_the_example_of_the_guide_catches_the_cause(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), flags=re.DOTALL)
    (example,) = (block for block in blocks if "CheckpointException" in block)
    path = tmp_path / "example.py"
    path.write_text(example)
    runpy.run_path(str(path))
    printed = capsys.readouterr().out
    assert "rank 0" in printed
    assert "OssNotFoundError" in printed
    assert "oss://checkpoints/run-7/step-1300" in printed
