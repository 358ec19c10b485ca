"""Damage raises an error that names the file and the item, also if only a part is loaded."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint import FileSystemWriter

from osstorchconnector import OssClient, OssFileSystem, OssIntegrityError, OssNotFoundError, OssPermissionError
from osstorchconnector.dcp.integrity import BLOCK, CheckedStorageInfo, ItemRecord, Sidecar
from osstorchconnector.testing import Emulator
from tests.dcp.partial_loads import load_rows

STATE = {
    "large": torch.randn(5_000_000),
    "medium": torch.randn(300_000),
    "small": torch.randn(10),
    "other": {"step": 3},
}


@pytest.fixture
def file(file_system: OssFileSystem, client: OssClient, checkpoint_uri: str) -> str:
    """The URI of the only file of a checkpoint."""
    dcp.save(STATE, storage_writer=file_system.writer(checkpoint_uri))
    (uri,) = (item.uri for item in client.list(f"{checkpoint_uri}/") if item.uri.endswith(".distcp"))
    return uri


def load(file_system: OssFileSystem, checkpoint_uri: str, *names: str) -> dict[str, Any]:
    target: dict[str, Any] = {"large": torch.zeros(5_000_000), "medium": torch.zeros(300_000), "small": torch.zeros(10)}
    target["other"] = {"step": 0}
    target = {name: target[name] for name in names or target}
    dcp.load(target, storage_reader=file_system.reader(checkpoint_uri))
    return target


def cause_of(raised: pytest.ExceptionInfo[dcp.CheckpointException]) -> BaseException:
    error = raised.value.failures[0][0]
    assert isinstance(error, BaseException)
    return error


@pytest.mark.parametrize("name", ["large", "medium", "small", "other"])
def test_a_flipped_bit_is_reported_with_file_and_item(
    file_system: OssFileSystem, client: OssClient, checkpoint_uri: str, file: str, name: str
) -> None:
    item = "other.step" if name == "other" else name
    metadata = file_system.reader(checkpoint_uri).read_metadata()
    (info,) = (info for index, info in metadata.storage_data.items() if index.fqn == item)
    content = bytearray(client.get(file))
    content[info.offset + info.length // 2] ^= 1
    client.put(file, content)
    with pytest.raises(dcp.CheckpointException) as raised:
        load(file_system, checkpoint_uri, name)
    error = cause_of(raised)
    assert isinstance(error, OssIntegrityError)
    assert f"'{item}'" in str(error)
    assert file in str(error)
    # The other items load.
    others = [other for other in STATE if other != name]
    loaded = load(file_system, checkpoint_uri, *others)
    assert loaded.keys() == set(others)


def test_a_bit_that_flips_on_the_way_is_fetched_again(
    file_system: OssFileSystem, emulator: Emulator, checkpoint_uri: str, file: str
) -> None:
    with emulator.fault(operation="GetObject", key="*.distcp", flip="middle", nth=1) as fault:
        loaded = load(file_system, checkpoint_uri)
        assert fault.acted == 1
    assert torch.equal(loaded["large"], STATE["large"])  # type: ignore[arg-type]
    assert file


@pytest.mark.parametrize("keep", [0, 1000, -1])
def test_a_truncated_file_is_reported(
    file_system: OssFileSystem, client: OssClient, checkpoint_uri: str, file: str, keep: int
) -> None:
    client.put(file, client.get(file)[:keep])
    with pytest.raises(
        dcp.CheckpointException, match=r"was truncated, replaced or comes from another save; needed for"
    ):
        load(file_system, checkpoint_uri)
    with pytest.raises(dcp.CheckpointException, match="'small'"):
        load(file_system, checkpoint_uri, "small")


def test_a_truncated_file_of_torchs_writer_is_reported(
    file_system: OssFileSystem, client: OssClient, checkpoint_uri: str, file: str
) -> None:
    metadata = file_system.reader(checkpoint_uri).read_metadata()
    assert metadata.storage_meta is not None
    metadata.storage_meta.save_id = "of torch"
    client.put(f"{checkpoint_uri}/.metadata", pickle.dumps(metadata))
    client.put(file, client.get(file)[:1_000_000])
    with pytest.raises(dcp.CheckpointException, match="has 1000000 bytes, but had at least"):
        load(file_system, checkpoint_uri)


def test_a_bit_that_flips_in_a_checkpoint_of_torchs_writer_is_reported(
    file_system: OssFileSystem, client: OssClient, emulator: Emulator, checkpoint_uri: str, tmp_path: Path
) -> None:
    dcp.save(STATE, storage_writer=FileSystemWriter(tmp_path / "saved"))
    for path in (tmp_path / "saved").iterdir():
        client.put(f"{checkpoint_uri}/{path.name}", path.read_bytes())
    load(file_system, checkpoint_uri)
    with (
        emulator.fault(operation="GetObject", key="*.distcp", flip="middle", nth=1),
        pytest.raises(dcp.CheckpointException, match="CRC-64"),
    ):
        load(file_system, checkpoint_uri)


def test_a_file_of_another_save_is_reported(
    file_system: OssFileSystem, client: OssClient, checkpoint_uri: str, file: str, bucket: str
) -> None:
    elsewhere = f"oss://{bucket}/elsewhere"
    changed = {**STATE, "large": torch.randn(5_000_000)}
    dcp.save(changed, storage_writer=file_system.writer(elsewhere))
    (other,) = (item.uri for item in client.list(f"{elsewhere}/") if item.uri.endswith(".distcp"))
    client.copy(other, file)
    with pytest.raises(dcp.CheckpointException, match="does not hold what was saved for 'large'"):
        load(file_system, checkpoint_uri)


def test_a_missing_file_is_reported(
    file_system: OssFileSystem, client: OssClient, checkpoint_uri: str, file: str
) -> None:
    client.delete(file)
    with pytest.raises(dcp.CheckpointException, match=r"is missing, which holds 'large'") as raised:
        load(file_system, checkpoint_uri, "large")
    assert isinstance(cause_of(raised), OssNotFoundError)


def test_missing_checksums_are_reported(
    file_system: OssFileSystem, client: OssClient, checkpoint_uri: str, file: str
) -> None:
    (sidecar,) = (item.uri for item in client.list(f"{checkpoint_uri}/.items-"))
    client.delete(sidecar)
    with pytest.raises(dcp.CheckpointException, match=r"the checksums of .* are missing"):
        load(file_system, checkpoint_uri)
    for content in (b"", b"[]", b'{"version":2,"block":8388608}', b"\xff"):
        client.put(sidecar, content)
        with pytest.raises(dcp.CheckpointException, match=r"does not hold the checksums|this one does not know"):
            load(file_system, checkpoint_uri)
    assert file


def test_no_checkpoint_is_reported(file_system: OssFileSystem, client: OssClient, bucket: str) -> None:
    with pytest.raises(
        dcp.CheckpointException, match=r"there is no checkpoint at oss://.*/nothing: \.metadata"
    ) as raised:
        load(file_system, f"oss://{bucket}/nothing")
    assert type(cause_of(raised)) is OssNotFoundError
    client.put(f"oss://{bucket}/broken/.metadata", b"broken")
    with pytest.raises(dcp.CheckpointException, match="is not the metadata of a checkpoint"):
        load(file_system, f"oss://{bucket}/broken")
    with pytest.raises(OssNotFoundError):
        file_system.reader(f"oss://{bucket}/nothing").read_metadata()


def test_no_permission_is_reported(
    file_system: OssFileSystem, emulator: Emulator, checkpoint_uri: str, file: str
) -> None:
    with (
        emulator.fault(operation="GetObject", error="AccessDenied"),
        pytest.raises(dcp.CheckpointException, match="AccessDenied") as raised,
    ):
        load(file_system, checkpoint_uri)
    assert type(cause_of(raised)) is OssPermissionError
    assert file


def test_a_part_of_a_tensor_is_checked_by_its_blocks(
    file_system: OssFileSystem, client: OssClient, checkpoint_uri: str
) -> None:
    rows = torch.randn(3 * BLOCK // 4000, 1000)
    dcp.save({"w": rows}, storage_writer=file_system.writer(checkpoint_uri))
    (file,) = (item.uri for item in client.list(f"{checkpoint_uri}/") if item.uri.endswith(".distcp"))
    metadata = file_system.reader(checkpoint_uri).read_metadata()
    content = bytearray(client.get(file))
    content[-1_000_000] ^= 1
    client.put(file, content)
    # Plans for a part, as resharding makes them: rows in the first block, and rows in the last.
    target, report = load_rows(file_system, checkpoint_uri, metadata, "w", 10, 20)
    assert torch.equal(target, rows[10:20])
    assert report.read_bytes == BLOCK
    with pytest.raises(OssIntegrityError, match="does not hold what was saved for 'w'"):
        load_rows(file_system, checkpoint_uri, metadata, "w", len(rows) - 1000, len(rows))


def round_trip(sidecar: Sidecar) -> Sidecar:
    return Sidecar.from_bytes(sidecar.to_bytes(), "oss://bucket/c/.items")


@pytest.mark.parametrize("make", [list, lambda: [ItemRecord(1), ItemRecord(2**64 - 1, 640, 9, (0, 5))]])
def test_checksums_come_back_as_they_were(make: Callable[[], list[ItemRecord]]) -> None:
    infos = [
        CheckedStorageInfo(f"d/{number}", 10 * number, 100, None, record, 1000) for number, record in enumerate(make())
    ]
    sidecar = Sidecar.of_results("oss-1", "torch_save", infos)
    assert round_trip(sidecar) == sidecar


WRONG: dict[str, Any] = {
    "nested": b"[" * 200_000,
    "a list": b"[1]",
    "too many ranks": {"ranks": 10**12},
    "ranks that are a list": {"ranks": [1]},
    "a size that is a text": {"files": [["f", "1"]]},
    "a size without end": {"files": [["f", float("inf")]]},
    "a checksum that is a text": {"items": [[0, 0, 1, "a", 2, 3]]},
    "a checksum of 70 bits": {"items": [[0, 0, 1, 1 << 70, 2, 3]]},
    "a file that is not listed": {"items": [[5, 0, 1, 1, 2, 3]]},
    "a negative offset": {"items": [[0, -1, 1, 1, 2, 3]]},
    "a start that is a dictionary": {"items": [[0, 0, 1, 1, {}, 3]]},
    "no rows": {"items": 7},
}


@pytest.mark.parametrize("which", WRONG)
def test_hostile_checksums_are_an_error_of_ours(which: str) -> None:
    whole = Sidecar("oss-1", "torch_save", {"f": 9}, {("f", 0, 9): ItemRecord(1, 2, 3, (4,))}).to_bytes()
    assert Sidecar.from_bytes(whole, "oss://b/items").files == {"f": 9}
    change = WRONG[which]
    content = change if isinstance(change, bytes) else json.dumps({**json.loads(whole), **change}).encode()
    with pytest.raises(OssIntegrityError, match="oss://b/items"):
        Sidecar.from_bytes(content, "oss://b/items")
