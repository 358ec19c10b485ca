"""Files that release 2.0.0a1 wrote stay readable: states, cursors, snapshots, archives, checkpoints, rules, stores.

States, snapshots, archives with their indexes, and sidecars are also written byte for byte as that release wrote them.
torch writes the other files of a checkpoint, and each of its versions in its own way.
"""

import json
import pickle
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import oss2
import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.torch_version import TorchVersion

from osstorchconnector import OssFileSystem, OssIterableDataset, OssMapDataset
from osstorchconnector.dcp.integrity import Sidecar
from osstorchconnector.dcp.metadata import read_metadata
from osstorchconnector.testing import Emulator
from tests.recorded.record import BUCKET, NAMES, put_objects, write_archive, write_snapshot
from tests.recorded.record_torch import TENSORS, plain

FOLDER = Path(__file__).parent / "recorded" / "2.0.0a1"
STATES: dict[str, Any] = json.loads((FOLDER / "states.json").read_text())


def name_of(item: Any) -> str:
    return str(item.name)


@pytest.fixture(scope="module")
def server() -> Iterator[Emulator]:
    """A server with the objects that the recorded files describe."""
    with Emulator(buckets=[BUCKET]) as emulator:
        put_objects(emulator)
        yield emulator


def dataset_with(server: Emulator, options: dict[str, Any]) -> OssIterableDataset:
    # JSON has no tuples.
    given: dict[str, Any] = {name: tuple(value) if name == "shard" else value for name, value in options.items()}
    return OssIterableDataset.from_prefix(f"oss://{BUCKET}/train/", **server.connection, transform=name_of, **given)


@pytest.mark.parametrize("which", STATES)
def test_a_state_resumes_where_it_was_taken(server: Emulator, which: str) -> None:
    recorded = STATES[which]
    dataset = dataset_with(server, recorded["options"])
    state = recorded["state"]
    if "_snapshot" in state:
        # A dataset must have listed its objects before it makes a cursor from a loader's state.
        assert sorted(dataset) == [f"train/{name}" for name in sorted(NAMES)]
        state = dataset.cursor_from(state)
    dataset.load_state_dict(state)
    assert list(dataset) == recorded["remaining"]


@pytest.mark.parametrize("which", [which for which in STATES if which not in {"cursor", "loader"}])
def test_a_state_is_still_written_as_it_was(server: Emulator, which: str) -> None:
    recorded = STATES[which]
    dataset = dataset_with(server, recorded["options"])
    iterator = iter(dataset)
    for _ in range(recorded["state"]["consumed"]):
        next(iterator)
    assert json.dumps(dataset.state_dict()) == json.dumps(recorded["state"])


def test_a_snapshot_names_the_objects(server: Emulator) -> None:
    dataset = OssMapDataset.from_manifest_file(str(FOLDER / "snapshot"), None, f"oss://{BUCKET}/", **server.connection)
    server.clear_requests()
    assert [(item.name, item.label, item.read()) for item in dataset] == [
        (f"train/{name}", name.partition("/")[0], name.encode()) for name in sorted(NAMES)
    ]
    assert not server.requests(operation="ListObjectsV2")


def test_a_snapshot_is_still_written_as_it_was(server: Emulator, tmp_path: Path) -> None:
    write_snapshot(server, tmp_path)
    assert (tmp_path / "snapshot").read_bytes() == (FOLDER / "snapshot").read_bytes()


def test_an_archive_and_its_index_are_still_written_as_they_were(server: Emulator, tmp_path: Path) -> None:
    write_archive(server, tmp_path)
    assert (tmp_path / "archive.tar").read_bytes() == (FOLDER / "archive.tar").read_bytes()
    # The table that the original reads stands before it.
    index, recorded = (tmp_path / "archive.index").read_bytes(), (FOLDER / "archive.index").read_bytes()
    assert index.startswith(b"TarIdx")
    assert index.endswith(recorded)


def test_a_sidecar_is_still_written_as_it_was() -> None:
    (sidecar,) = (FOLDER / "checkpoint").glob(".items-*.json")
    content = sidecar.read_bytes()
    assert Sidecar.from_bytes(content, sidecar.name).to_bytes() == content


def test_an_archive_is_read_by_its_index(server: Emulator) -> None:
    server.client().put(f"oss://{BUCKET}/archive.tar", (FOLDER / "archive.tar").read_bytes())
    dataset = OssMapDataset.from_tar(f"oss://{BUCKET}/archive.tar", str(FOLDER / "archive.index"), **server.connection)
    assert [(item.label, item.read()) for item in dataset] == [
        (name.partition("/")[0], name.encode()) for name in sorted(NAMES)
    ]


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled:UserWarning")
def test_a_distributed_checkpoint_is_loaded_and_checked(server: Emulator) -> None:
    client = server.client()
    for path in (FOLDER / "checkpoint").iterdir():
        client.put(f"oss://{BUCKET}/checkpoint/{path.name}", path.read_bytes())
    state: dict[str, Any] = {"weight": torch.zeros(2, 3), "step": 0}
    reader = OssFileSystem(**server.connection).reader(f"oss://{BUCKET}/checkpoint")
    dcp.load(state, storage_reader=reader)
    assert state["step"] == 7
    assert torch.equal(state["weight"], torch.arange(6.0).reshape(2, 3))
    assert reader.report is not None
    assert reader.report.read_bytes >= 24
    (content,) = (path for path in (FOLDER / "checkpoint").iterdir() if path.suffix == ".distcp")
    damaged = bytearray(content.read_bytes())
    damaged[100] ^= 1
    client.put(f"oss://{BUCKET}/checkpoint/{content.name}", damaged)
    with pytest.raises(dcp.CheckpointException, match="OssIntegrityError"):
        dcp.load(state, storage_reader=OssFileSystem(**server.connection).reader(f"oss://{BUCKET}/checkpoint"))


def test_every_rule_is_accepted() -> None:
    rules = json.loads((FOLDER / "rules.json").read_text())
    with Emulator(buckets=[BUCKET], faults=rules) as emulator:
        client = emulator.client()
        client.put(f"oss://{BUCKET}/train/a", b"a")
        assert client.get(f"oss://{BUCKET}/train/a") == b"a"


def test_a_store_is_opened(tmp_path: Path) -> None:
    with tarfile.open(FOLDER / "store.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    with Emulator(root=tmp_path / "store") as emulator:
        client = emulator.client()
        assert {item.name: item.size for item in client.list(f"oss://{BUCKET}/")} == {
            "../数据": 14,
            "a": 1,
            "a/b": 7,
            "link": 0,
            "parts": 9 << 20,
        }
        assert client.get(f"oss://{BUCKET}/a") == b"a"
        assert client.get(f"oss://{BUCKET}/parts") == bytes(9 << 20)
        auth = oss2.Auth(emulator.access_key_id, emulator.access_key_secret)
        bucket = oss2.Bucket(auth, emulator.endpoint, BUCKET)
        assert bucket.head_object("a").content_type == "text/plain"
        assert bucket.get_symlink("link").target_key == "a"
        assert bucket.get_object_tagging("a").tag_set.tagging_rule == {"kind": "letter"}
        (upload,) = oss2.MultipartUploadIterator(bucket)
        (part,) = oss2.PartIterator(bucket, upload.key, upload.upload_id)
        bucket.complete_multipart_upload(upload.key, upload.upload_id, [oss2.models.PartInfo(1, part.etag)])
        assert client.get(f"oss://{BUCKET}/unfinished") == b"a part"


TORCH = Path(__file__).parent / "recorded" / "torch"


def recorded_by_torch(name: str) -> list[Any]:
    """Return the folders that this and older versions of torch wrote."""
    ours = TorchVersion(torch.__version__)
    folders = [folder for folder in sorted(TORCH.iterdir()) if (folder / name).exists()]
    return [pytest.param(folder / name, id=folder.name) for folder in folders if ours >= folder.name]


def stored(server: Emulator, folder: Path) -> str:
    uri = f"oss://{BUCKET}/torch/{folder.parent.name}/{folder.name}"
    for file in folder.iterdir():
        server.client().put(f"{uri}/{file.name}", file.read_bytes())
    return uri


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled:UserWarning")
@pytest.mark.parametrize("folder", recorded_by_torch("plain"))
def test_a_checkpoint_of_an_older_torch_is_loaded(server: Emulator, folder: Path) -> None:
    uri = stored(server, folder)
    expected = plain()
    nested: dict[str, list[Any]] = {"list": [torch.ones(2), 0]}
    state: dict[str, Any] = {
        **{name: torch.zeros_like(tensor) for name, tensor in TENSORS.items()},
        "step": 0,
        "text": "",
    }
    dcp.load(state | {"nested": nested}, storage_reader=OssFileSystem(**server.connection).reader(uri))
    dcp.load(state, storage_reader=OssFileSystem(**server.connection).reader(uri))
    assert (state["step"], state["text"], nested["list"][1]) == (7, "word", 1)
    assert all(torch.equal(state[name], expected[name]) for name in TENSORS)
    assert torch.equal(nested["list"][0], torch.zeros(2))


@pytest.mark.parametrize("folder", recorded_by_torch("trained"))
def test_the_metadata_of_an_older_torch_names_nothing_that_is_refused(server: Emulator, folder: Path) -> None:
    metadata = read_metadata(server.client(), f"{stored(server, folder)}/.metadata")
    own = pickle.loads((folder / ".metadata").read_bytes())
    assert metadata.state_dict_metadata == own.state_dict_metadata
    assert metadata.planner_data == own.planner_data
    assert {"model.weight", "model.bias", "sharded"} <= set(metadata.state_dict_metadata)


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled:UserWarning")
@pytest.mark.parametrize("folder", recorded_by_torch("hf"))
def test_what_the_hugging_face_writer_of_an_older_torch_wrote_is_loaded(server: Emulator, folder: Path) -> None:
    uri = stored(server, folder)
    state = {name: torch.zeros_like(tensor) for name, tensor in TENSORS.items()}
    dcp.load(state, storage_reader=OssFileSystem(**server.connection).hugging_face_reader(uri))
    assert all(torch.equal(state[name], tensor) for name, tensor in TENSORS.items())
