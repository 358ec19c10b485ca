"""Directories of safetensors files, compared with torch's own reader."""

from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import save_file

from osstorchconnector import OssClient, OssFileSystem, OssFormatError, OssHuggingFaceStorageReader, OssNotFoundError
from osstorchconnector.testing import Emulator


def model() -> dict[str, torch.Tensor]:
    return {
        "embedding": torch.randn(5000, 512),
        "layer.0.weight": torch.randn(300, 200).bfloat16(),
        "layer.0.bias": torch.arange(300, dtype=torch.int8),
        "scalar": torch.tensor(3.5),
        "empty": torch.empty(0, 7),
    }


@pytest.fixture
def directory(client: OssClient, bucket: str, tmp_path: Path) -> tuple[str, Path]:
    """The same model on OSS and in a local directory, in two files."""
    tensors = model()
    names = sorted(tensors)
    for number, part in enumerate((names[:2], names[2:]), 1):
        path = tmp_path / f"model-0000{number}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, path)
        client.put(f"oss://{bucket}/models/small/{path.name}", path.read_bytes())
    client.put(f"oss://{bucket}/models/small/config.json", b"{}")
    return f"oss://{bucket}/models/small", tmp_path


def test_it_describes_and_loads_what_torchs_reader_does(
    file_system: OssFileSystem, directory: tuple[str, Path]
) -> None:
    torchs_module = pytest.importorskip("torch.distributed.checkpoint.hf_storage")
    uri, path = directory
    ours = OssHuggingFaceStorageReader(uri, 2, file_system=file_system)
    torchs = torchs_module.HuggingFaceStorageReader(str(path), 2)
    described, expected = ours.read_metadata(), torchs.read_metadata()
    assert described.state_dict_metadata == expected.state_dict_metadata
    assert described.storage_data.keys() == expected.storage_data.keys()
    loaded = {name: torch.zeros_like(tensor) for name, tensor in model().items()}
    by_torch = {name: torch.zeros_like(tensor) for name, tensor in model().items()}
    dcp.load(loaded, storage_reader=ours)
    dcp.load(by_torch, storage_reader=torchs)
    assert all(torch.equal(loaded[name], by_torch[name]) for name in by_torch)


def test_a_part_is_loaded_with_its_bytes_only(
    file_system: OssFileSystem, emulator: Emulator, directory: tuple[str, Path]
) -> None:
    reader = file_system.hugging_face_reader(directory[0])
    target = {"layer.0.weight": torch.zeros(300, 200, dtype=torch.bfloat16)}
    emulator.clear_requests()
    dcp.load(target, storage_reader=reader)
    assert reader.report is not None
    assert reader.report.amplification == 1.0
    # And the first bytes of two files.
    fetched = sum(request.response_bytes for request in emulator.requests(operation="GetObject"))
    assert fetched < 120_000 + 2 * 65_536 + 1


def test_a_directory_without_a_model_is_reported(file_system: OssFileSystem, client: OssClient, bucket: str) -> None:
    with pytest.raises(dcp.CheckpointException, match=r"there is no \.safetensors file directly below"):
        dcp.load({"a": torch.zeros(1)}, storage_reader=file_system.hugging_face_reader(f"oss://{bucket}/nothing"))
    client.put(f"oss://{bucket}/m/a.safetensors", b"\xff" * 100)
    with pytest.raises(OssFormatError, match=r"m/a\.safetensors is not a safetensors file"):
        file_system.hugging_face_reader(f"oss://{bucket}/m").read_metadata()
    client.put(f"oss://{bucket}/e/a.safetensors", b"")
    with pytest.raises(OssFormatError, match=r"e/a\.safetensors is not a safetensors file"):
        file_system.hugging_face_reader(f"oss://{bucket}/e").read_metadata()
    with pytest.raises(OssNotFoundError):
        file_system.hugging_face_reader(f"oss://{bucket}/nothing").read_metadata()
