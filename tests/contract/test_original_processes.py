"""Processes of one ``uuid``, with the original and with this package: together they read each object once."""

import json
import uuid
from pathlib import Path
from typing import Any

import pytest

from osstorchconnector import OssClient
from osstorchconnector.testing import Emulator

from .original import ROOT, installed, named_endpoint, run

# Installing takes seconds if the package index is slow, and each run imports torch.
pytestmark = pytest.mark.slow(240)

COUNT = 40
PROCESSES = 3

# Each process writes the names of the objects that it got.
PROGRAM = """
import json, os, signal, sys
import osstorchconnector as package

bucket, connection, way, folder = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3], sys.argv[4]
COUNT, PROCESSES = 40, 3


def objects(client, number):
    if way == "prefix":
        return client.list_objects_with_preload(bucket, "data/")
    numbers = range(number, COUNT, PROCESSES) if way == "names of its own" else range(COUNT)
    named = [package.new_data_object(f"oss://{bucket}/data/{index:02}", 0, "") for index in numbers]
    return client.list_objects_from_uris_with_preload(named)


children = []
for number in range(PROCESSES):
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        paths = connection["cred_path"], connection["config_path"]
        client = package.OssClient(
            connection["endpoint"], *paths, f"{bucket} {way}", number, PROCESSES, None, connection["region"]
        )
        found = [item.key[-2:] for item in objects(client, number)]
        with open(f"{folder}/{number}", "w") as file:
            json.dump(found, file)
        # The original's iterators may wait for each other at their end.
        os._exit(0)
    children.append(child)
for child in children:
    status = os.waitpid(child, 0)[1]
    assert status == 0, status
"""


@pytest.fixture(scope="module")
def filled(client: OssClient) -> str:
    bucket = f"processes-{uuid.uuid4().hex[:16]}"
    client.create_bucket(bucket)
    for index in range(COUNT):
        client.put(f"oss://{bucket}/data/{index:02}", b"x" * (index + 1))
    return bucket


def read_by(package: Path, endpoint: str, emulator: Emulator, bucket: str, way: str, folder: Path) -> list[list[str]]:
    config = folder / "config.json"
    config.write_text(json.dumps({"logLevel": 2, "logPath": f"{folder}/log", "auditPath": f"{folder}/audit"}))
    connection: dict[str, Any] = {
        "endpoint": endpoint,
        "cred_path": emulator.cred_path,
        "config_path": str(config),
        "region": emulator.region,
    }
    run(package, PROGRAM, bucket, json.dumps(connection), way, str(folder))
    return [json.loads((folder / str(number)).read_text()) for number in range(PROCESSES)]


@pytest.mark.parametrize("way", ["prefix", "names"])
def test_they_read_each_object_once_with_both(emulator: Emulator, filled: str, way: str, tmp_path: Path) -> None:
    names = [f"{index:02}" for index in range(COUNT)]
    for package, endpoint in ((installed(), named_endpoint(emulator.endpoint)), (ROOT / "python", emulator.endpoint)):
        folder = tmp_path / package.name
        folder.mkdir()
        found = read_by(package, endpoint, emulator, filled, way, folder)
        assert sorted(name for each in found for name in each) == names


def test_only_the_names_of_the_first_count_with_the_original(emulator: Emulator, filled: str, tmp_path: Path) -> None:
    found = read_by(installed(), named_endpoint(emulator.endpoint), emulator, filled, "names of its own", tmp_path)
    assert sorted(name for each in found for name in each) == [f"{index:02}" for index in range(0, COUNT, PROCESSES)]


def test_each_process_has_its_share_of_what_it_names(emulator: Emulator, filled: str, tmp_path: Path) -> None:
    found = read_by(ROOT / "python", emulator.endpoint, emulator, filled, "names of its own", tmp_path)
    assert found == [[f"{i:02}" for i in range(first, COUNT, PROCESSES**2)] for first in (0, 4, 8)]
