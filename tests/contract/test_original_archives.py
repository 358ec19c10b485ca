"""Archives and indexes that one of the two made, the original or this package, are read by the other."""

import io
import json
import tarfile
import uuid
from pathlib import Path

import pytest

from osstorchconnector import OssClient, OssIterableDataset
from osstorchconnector.testing import Emulator

from .original import installed, named_endpoint, run

pytestmark = pytest.mark.slow(240)

PROGRAM = """
import json, os, signal, sys
import osstorchconnector

connection, bucket, way, result = json.loads(sys.argv[1]), *sys.argv[2:]
signal.alarm(60)
client = osstorchconnector.OssClient(**connection)
uri = f"oss://{bucket}"
if way == "make":
    found = client.gen_tar_archive(f"{uri}/theirs.tar", f"{uri}/theirs.index", f"{uri}/data/")
    found += client.gen_tar_archive(f"{uri}/other.tar", f"{uri}/other.index", "", True)
else:
    found = []
    for name in ("ours", "other"):
        # A client of the original reads the first archive again, whatever the second call names.
        client = osstorchconnector.OssClient(**connection)
        items = client.list_objects_from_tar(bucket, f"{name}.tar", f"{name}.index")
        found.append([[item.key, item.read().hex()] for item in items])
with open(result, "w") as file:
    json.dump(found, file)
os._exit(0)
"""
DATA = {"a": b"1" * 300, "b/c": b"2", "b/" + "x" * 150: b"3" * 600, "ä": b"4" * 512}

MEMBERS = (
    ("dir", tarfile.DIRTYPE, ""),
    ("first", tarfile.REGTYPE, ""),
    ("link", tarfile.SYMTYPE, "first"),
    ("last", tarfile.REGTYPE, ""),
    ("hard", tarfile.LNKTYPE, "first"),
)


@pytest.fixture
def filled(client: OssClient) -> str:
    bucket = f"archives-{uuid.uuid4().hex[:16]}"
    client.create_bucket(bucket)
    for name, data in DATA.items():
        client.put(f"oss://{bucket}/data/{name}", data)
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, kind, target in MEMBERS:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            member.size = len(name) if kind == tarfile.REGTYPE else 0
            archive.addfile(member, io.BytesIO(name.encode()))
    client.put(f"oss://{bucket}/other.tar", made.getvalue())
    return bucket


def original(emulator: Emulator, bucket: str, way: str, folder: Path) -> object:
    config, result = folder / "config.json", folder / way
    config.write_text(json.dumps({"logLevel": 2, "logPath": f"{folder}/log", "auditPath": f"{folder}/audit"}))
    connection = {
        "endpoint": named_endpoint(emulator.endpoint),
        "cred_path": emulator.cred_path,
        "config_path": str(config),
        "region": emulator.region,
    }
    run(installed(), PROGRAM, json.dumps(connection), bucket, way, str(result))
    return json.loads(result.read_text())


def test_the_original_reads_our_index(emulator: Emulator, client: OssClient, filled: str, tmp_path: Path) -> None:
    uri = f"oss://{filled}"
    client.gen_tar_archive(f"{uri}/ours.tar", f"{uri}/ours.index", f"{uri}/data/")
    client.gen_tar_archive(f"{uri}/other.tar", f"{uri}/other.index", "", index_only=True)
    assert original(emulator, filled, "read", tmp_path) == [
        [[name, data.hex()] for name, data in sorted(DATA.items())],
        [["first", b"first".hex()], ["last", b"last".hex()]],
    ]


def test_the_index_of_the_original_is_read(emulator: Emulator, client: OssClient, filled: str, tmp_path: Path) -> None:
    uri = f"oss://{filled}"
    assert original(emulator, filled, "make", tmp_path) == 0
    found = [list(client.list_objects_from_tar(filled, f"{name}.tar", f"{name}.index")) for name in ("theirs", "other")]
    # It archives in the order of arrival, with the names of whole keys.
    assert sorted((item.name, item.read()) for item in found[0]) == sorted(
        (f"/{filled}/data/{name}", data) for name, data in DATA.items()
    )
    assert [(item.name, item.read()) for item in found[1]] == [("first", b"first"), ("last", b"last")]
    # A table of the same members is the same: ours is what the original wrote, and a text.
    client.gen_tar_archive(f"{uri}/theirs.tar", f"{uri}/mine.index", "", index_only=True)
    assert client.get(f"{uri}/mine.index").startswith(client.get(f"{uri}/theirs.index"))
    dataset = OssIterableDataset.from_tar(
        f"{uri}/theirs.tar",
        f"{uri}/theirs.index",
        endpoint=emulator.endpoint,
        cred_path=emulator.cred_path,
        region=emulator.region,
    )
    assert sorted(item.read() for item in dataset) == sorted(DATA.values())
