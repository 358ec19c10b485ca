"""Files that release 2.0.0a1 wrote stay readable: states, cursors, snapshots, archives, checkpoints, rules, stores."""

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import oss2
import pytest
import torch
import torch.distributed.checkpoint as dcp

from osstorchconnector import OssFileSystem, OssIterableDataset, OssMapDataset
from osstorchconnector.testing import Emulator

FOLDER = Path(__file__).parent / "recorded" / "2.0.0a1"
BUCKET = "recorded"
NAMES = [f"class-{number % 3}/{number:03}" for number in range(30)]
STATES: dict[str, Any] = json.loads((FOLDER / "states.json").read_text())


def name_of(item: Any) -> str:
    return str(item.name)


@pytest.fixture(scope="module")
def server() -> Iterator[Emulator]:
    """A server with the objects that the recorded files describe."""
    with Emulator(buckets=[BUCKET]) as emulator:
        client = emulator.client()
        for name in NAMES:
            client.put(f"oss://{BUCKET}/train/{name}", name.encode())
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
