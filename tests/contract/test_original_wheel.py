"""The published wheel of the original reads datasets from the emulator, in processes of its own.

Its client always puts the bucket into the host name, so ``bucket.localhost`` must resolve.
"""

import ctypes
import errno
import json
import os
import uuid
from pathlib import Path
from typing import Any

import pytest

from osstorchconnector import OssClient
from osstorchconnector.testing import Emulator

from .keys import HOSTILE_KEYS
from .original import FOLDER, installed, named_endpoint, run

# Installing takes seconds if the package index is slow, and each process imports torch.
pytestmark = pytest.mark.slow(180)

NUMBERED = {f"data/{number:04}": bytes([number % 256]) * number for number in range(1, 1100)}
HOSTILE = {f"hostile/{key}"[:510]: f"content of {key}".encode() for key in HOSTILE_KEYS.values()}
CHECKPOINT = bytes(range(256)) * 41_000 + b"the end"

READ_DATASETS = """
import json, sys
from torch.utils.data import DataLoader
import osstorchconnector
from osstorchconnector import OssIterableDataset, OssMapDataset

bucket, connection, result = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]

def described(item):
    return item.key, item.size, item.read().hex()

def dataset(kind, prefix):
    return kind.from_prefix(f"oss://{bucket}/{prefix}", transform=described, **connection)

numbered = dataset(OssMapDataset, "data/")
found = {
    "module": osstorchconnector.__file__,
    "iterable": list(dataset(OssIterableDataset, "data/")),
    "again": list(dataset(OssIterableDataset, "data/")),
    "workers": list(DataLoader(dataset(OssIterableDataset, "data/"), batch_size=None, num_workers=2)),
    "map": [numbered[index] for index in range(len(numbered))],
    "hostile": list(dataset(OssIterableDataset, "hostile/")),
    "objects": list(
        OssIterableDataset.from_objects(
            [f"oss://{bucket}/data/0003", f"oss://{bucket}/data/0001"], transform=described, **connection
        )
    ),
}
with open(result, "w") as file:
    json.dump(found, file)
"""

COPY_CHECKPOINT = """
import json, sys
from osstorchconnector import OssCheckpoint

bucket, connection, source, target = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3], sys.argv[4]
checkpoint = OssCheckpoint(**connection)
with open(source, "rb") as file, checkpoint.writer(f"oss://{bucket}/checkpoint") as writer:
    while data := file.read(1_000_000):
        writer.write(data)
if target:
    with open(target, "wb") as file, checkpoint.reader(f"oss://{bucket}/checkpoint") as reader:
        file.write(reader.read())
"""


@pytest.fixture(scope="module")
def original() -> Path:
    return installed()


@pytest.fixture(scope="module")
def endpoint(emulator: Emulator) -> str:
    return named_endpoint(emulator.endpoint)


@pytest.fixture(scope="module")
def filled(client: OssClient) -> str:
    bucket = f"original-{uuid.uuid4().hex[:16]}"
    client.create_bucket(bucket)
    for key, content in {**NUMBERED, **HOSTILE}.items():
        client.put(f"oss://{bucket}/{key}", content)
    # It leaves these two out of every listing.
    client.put(f"oss://{bucket}/data/empty", b"")
    client.put(f"oss://{bucket}/data/directory/", b"content")
    return bucket


@pytest.fixture(scope="module")
def connection(emulator: Emulator, endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("original")
    config_path = folder / "config.json"
    # Without this file it does not start, and without these paths it writes its logs to system folders.
    config_path.write_text(json.dumps({"logLevel": 2, "logPath": f"{folder}/log", "auditPath": f"{folder}/audit"}))
    return {
        "endpoint": endpoint,
        "cred_path": emulator.cred_path,
        "config_path": str(config_path),
        "region": emulator.region,
    }


@pytest.fixture(scope="module")
def found(original: Path, filled: str, connection: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return the objects that its datasets deliver."""
    result = tmp_path_factory.mktemp("found") / "found.json"
    run(original, READ_DATASETS, filled, json.dumps(connection), str(result))
    return json.loads(result.read_text())


def expected(bucket: str, contents: dict[str, bytes]) -> list[list[object]]:
    return [[f"/{bucket}/{key}", len(content), content.hex()] for key, content in sorted(contents.items())]


def test_it_is_the_original_that_runs(found: Any) -> None:
    assert Path(found["module"]).is_relative_to(FOLDER)


@pytest.mark.parametrize("way", ["iterable", "again", "workers", "map"])
def test_a_dataset_has_every_object(found: Any, filled: str, way: str) -> None:
    assert sorted(found[way]) == expected(filled, NUMBERED)


def test_hostile_keys_are_read(found: Any, filled: str) -> None:
    assert sorted(found["hostile"]) == expected(filled, HOSTILE)


def test_objects_are_read_as_named(found: Any, filled: str) -> None:
    assert sorted(found["objects"]) == expected(filled, {key: NUMBERED[key] for key in ("data/0001", "data/0003")})


def test_its_checkpoint_is_written_and_read(
    original: Path, client: OssClient, filled: str, connection: dict[str, str], tmp_path: Path
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(CHECKPOINT)
    reads = userfaultfd_works()
    run(original, COPY_CHECKPOINT, filled, json.dumps(connection), str(source), str(target) if reads else "")
    assert client.get(f"oss://{filled}/checkpoint") == CHECKPOINT
    if not reads:
        pytest.skip("it was written; this kernel refuses userfaultfd, with which the original reads it")
    assert target.read_bytes() == CHECKPOINT


def userfaultfd_works() -> bool:
    # The number of the system call on x86-64, the only processor that the wheel is for.
    descriptor = ctypes.CDLL(None, use_errno=True).syscall(323, os.O_CLOEXEC | os.O_NONBLOCK)
    if descriptor < 0:
        assert ctypes.get_errno() in {errno.EPERM, errno.ENOSYS}
        return False
    os.close(descriptor)
    return True
