"""The table of positions at the head of an index, and an index that has nothing else, as the original writes."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from osstorchconnector import OssClient, OssIntegrityError, OssIterableDataset, generate_tar_archive
from osstorchconnector.archive.index import TarMember
from osstorchconnector.archive.positions import PositionTable
from osstorchconnector.testing import Emulator

NAMES = ["a", "b/empty", "b/" + "x" * 150, "ä", "z"]


def members(archive: str, index: str) -> list[tuple[str, bytes]]:
    return [(item.name, item.read()) for item in OssIterableDataset.from_tar(archive, index, endpoint="")]


def made(folder: Path, names: list[str]) -> tuple[Path, Path]:
    """Make an archive and return it with an index that has only the table."""
    for name in names:
        file = folder / "data" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"" if name.endswith("empty") else name.encode() * 10)
    archive, index = folder / "a.tar", folder / "a.idx"
    generate_tar_archive("", "", "", str(archive), str(index), str(folder / "data"))
    whole = index.read_bytes()
    index.write_bytes(whole[: whole.index(b'{"format"')])
    return archive, index


def test_the_bytes_are_those_of_the_original() -> None:
    table = PositionTable()
    found = list(table.of([TarMember(512, 300, "a", header=0), TarMember(2560, 0, "b", header=1536)]))
    body = zlib.compress(struct.pack("<3I", 0, 3, 2))
    assert [member.name for member in found] == ["a", "b"]
    content = table.content()
    assert content[:36] == struct.pack("<8s4B3Q", b"TarIdx\0\0", 1, 0, 1, 6, 0, len(body), 3)
    assert content[512:] == body


def test_a_gap_that_the_format_cannot_say_leaves_the_table_out() -> None:
    table = PositionTable()
    list(table.of([TarMember(512, 3 << 40, "a", header=0)]))
    assert table.content() == b""


def test_an_index_without_names_is_read_with_the_headers(tmp_path: Path) -> None:
    archive, index = made(tmp_path, NAMES)
    assert members(str(archive), str(index)) == members(str(archive), "")
    assert len(members(str(archive), str(index))) == len(NAMES)


def test_the_table_of_another_archive_is_stale(tmp_path: Path) -> None:
    _, index = made(tmp_path / "1", NAMES)
    for names in (NAMES[:2], [*NAMES, "zz"], ["a" * 200, *NAMES]):
        archive, _ = made(tmp_path / str(len(names[0])) / str(len(names)), names)
        with pytest.raises(OssIntegrityError, match=r"a\.idx is stale.*index_only"):
            members(str(archive), str(index))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[:100], "its first 512 bytes have another checksum"),
        (lambda data: data[:30] + b"1" + data[31:], "its first 512 bytes have another checksum"),
        (lambda data: data[:-1], "was cut short"),
        (lambda data: data[:-1] + bytes([data[-1] ^ 1]), "cannot be read"),
        (lambda data: data[:515] + b"\xff" + data[516:], "cannot be read"),
    ],
)
def test_a_damaged_table_is_reported(change: Callable[[bytes], bytes], message: str, tmp_path: Path) -> None:
    archive, index = made(tmp_path, NAMES)
    index.write_bytes(change(index.read_bytes()))
    with pytest.raises(OssIntegrityError, match=message):
        members(str(archive), str(index))


def test_an_index_without_a_table_is_read(emulator: Emulator, client: OssClient, bucket: str) -> None:
    client.put(f"oss://{bucket}/data/a", b"12345")
    archive, index = f"oss://{bucket}/a.tar", f"oss://{bucket}/a.idx"
    client.gen_tar_archive(archive, index, f"oss://{bucket}/data/")
    whole = client.get(index)
    client.put(index, whole[whole.index(b'{"format"') :])
    dataset = OssIterableDataset.from_tar(
        archive, index, endpoint=emulator.endpoint, cred_path=emulator.cred_path, region=emulator.region
    )
    assert [item.read() for item in dataset] == [b"12345"]
