"""Saving and loading in one process, compared with torch's own writer and reader."""

import re
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint import FileSystemReader, FileSystemWriter

from osstorchconnector import OssClient, OssFileSystem
from osstorchconnector.testing import Emulator

DTYPES = [
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.bool,
    torch.complex64,
    torch.float8_e4m3fn,
]


def state() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(1)
    tensors = {f"of {dtype}": torch.randint(0, 2, (3, 5), generator=generator).to(dtype) for dtype in DTYPES}
    return {
        **tensors,
        "large": torch.randn(3_000_000, generator=generator),
        "rows": torch.randn(700, 900, generator=generator),
        "transposed": torch.randn(600, 700, generator=generator).t(),
        "part of a storage": torch.randn(50, 50, generator=generator)[10:20, 5:9],
        "one row more": torch.randn(1001, 1000, generator=generator)[1:],
        "scalar": torch.tensor(7.5),
        "empty": torch.empty(0, 4),
        "nested": {"list": [torch.ones(2), 3, "text"], "number": 11},
        "bytes": b"\x00\xff",
        "none": None,
    }


def zeros(value: Any) -> Any:
    if isinstance(value, Tensor):
        return torch.zeros_like(value)
    if isinstance(value, dict):
        return {key: zeros(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [zeros(entry) for entry in value]
    return type(value)() if value is not None else 0


def same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        if one.dtype != other.dtype or one.shape != other.shape:
            return False
        # Bit for bit, because some types have no arithmetic.
        return one.numel() == 0 or torch.equal(
            *(tensor.contiguous().view(-1).view(torch.uint8) for tensor in (one, other))
        )
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("single_file_per_rank", [True, False])
def test_what_is_saved_is_loaded(
    file_system: OssFileSystem, checkpoint_uri: str, threads: int, *, single_file_per_rank: bool
) -> None:
    saved = state()
    writer = file_system.writer(checkpoint_uri, thread_count=threads, single_file_per_rank=single_file_per_rank)
    dcp.save(saved, storage_writer=writer)
    loaded = zeros(saved)
    reader = file_system.reader(checkpoint_uri)
    dcp.load(loaded, storage_reader=reader)
    assert same(saved, loaded)
    assert reader.report is not None
    assert reader.report.amplification < 1.02


@pytest.mark.parametrize("threads", [1, 3])
def test_torch_reads_what_was_saved(
    file_system: OssFileSystem, client: OssClient, checkpoint_uri: str, tmp_path: Path, threads: int
) -> None:
    saved = state()
    dcp.save(saved, storage_writer=file_system.writer(checkpoint_uri, thread_count=threads))
    for item in client.list(f"{checkpoint_uri}/"):
        (tmp_path / item.name.rpartition("/")[2]).write_bytes(client.get(item.uri))
    loaded = zeros(saved)
    dcp.load(loaded, storage_reader=FileSystemReader(tmp_path))
    assert same(saved, loaded)


@pytest.mark.parametrize("gap", [0, 1 << 30])
def test_what_torch_saved_is_read(
    file_system: OssFileSystem, client: OssClient, checkpoint_uri: str, tmp_path: Path, gap: int
) -> None:
    saved = state()
    dcp.save(saved, storage_writer=FileSystemWriter(tmp_path, thread_count=2))
    for path in tmp_path.iterdir():
        client.put(f"{checkpoint_uri}/{path.name}", path.read_bytes())
    loaded = zeros(saved)
    dcp.load(loaded, storage_reader=file_system.reader(checkpoint_uri, gap=gap))
    assert same(saved, loaded)


def test_a_tensor_that_is_not_in_one_piece_is_loaded(file_system: OssFileSystem, checkpoint_uri: str) -> None:
    saved = torch.randn(2000, 1500)
    dcp.save({"w": saved}, storage_writer=file_system.writer(checkpoint_uri))
    target = torch.zeros(1500, 2000).t()
    dcp.load({"w": target}, storage_reader=file_system.reader(checkpoint_uri))
    assert torch.equal(target, saved)


def test_loading_converts_types(file_system: OssFileSystem, checkpoint_uri: str) -> None:
    saved = torch.randn(1000, 1500)
    dcp.save({"w": saved}, storage_writer=file_system.writer(checkpoint_uri))
    target = torch.zeros(1000, 1500, dtype=torch.bfloat16)
    dcp.load({"w": target}, storage_reader=file_system.reader(checkpoint_uri))
    assert torch.equal(target, saved.bfloat16())


def test_the_example_of_the_documentation(emulator: Emulator, bucket: str) -> None:
    torchvision = pytest.importorskip("torchvision")
    model = torchvision.models.resnet18()
    fs = OssFileSystem(endpoint=emulator.endpoint, cred_path=emulator.cred_path, region=emulator.region)
    oss_storage_writer = fs.writer(f"oss://{bucket}/dcp-checkpoint-resnet18")
    checkpoint_future = dcp.async_save(state_dict=model.state_dict(), storage_writer=oss_storage_writer)
    assert isinstance(checkpoint_future, Future)
    checkpoint_future.result()
    loaded_state_dict = {key: torch.zeros_like(value) for key, value in model.state_dict().items()}
    oss_storage_reader = fs.reader(f"oss://{bucket}/dcp-checkpoint-resnet18")
    dcp.load(loaded_state_dict, storage_reader=oss_storage_reader)
    assert same(dict(model.state_dict()), loaded_state_dict)


class Trainer:
    """A ``Stateful``."""

    def __init__(self) -> None:
        self.model = nn.Linear(30, 20)
        self.step = 0

    def state_dict(self) -> dict[str, Any]:
        return {"model": self.model.state_dict(), "step": self.step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.model.load_state_dict(state_dict["model"])
        self.step = state_dict["step"]


def test_stateful_objects(file_system: OssFileSystem, checkpoint_uri: str) -> None:
    saved, loaded = Trainer(), Trainer()
    saved.step = 1200
    dcp.save({"trainer": saved}, storage_writer=file_system.writer(checkpoint_uri))
    dcp.load({"trainer": loaded}, storage_reader=file_system.reader(checkpoint_uri))
    assert loaded.step == 1200
    assert torch.equal(saved.model.weight, loaded.model.weight)


def test_the_safetensors_format(file_system: OssFileSystem, checkpoint_uri: str) -> None:
    saved = state()
    dcp.save(
        saved, storage_writer=file_system.writer(checkpoint_uri, serialization_format="safetensors", thread_count=2)
    )
    loaded = zeros(saved)
    reader = file_system.reader(checkpoint_uri)
    dcp.load(loaded, storage_reader=reader)
    assert same(saved, loaded)
    tensors = {name: value for name, value in saved.items() if isinstance(value, Tensor)}
    loaded = zeros(tensors)
    dcp.load(loaded, storage_reader=file_system.hugging_face_reader(checkpoint_uri))
    assert same(tensors, loaded)


def test_the_guides_code_runs() -> None:
    guide = Path(__file__).parents[2] / "docs" / "guides" / "distributed-checkpoints.md"
    # The other block is about failures: see test_failures.py.
    code, _ = re.findall(r"^```python\n(.*?)^```", guide.read_text(), flags=re.MULTILINE | re.DOTALL)
    exec(compile(code, str(guide), "exec"), {})
