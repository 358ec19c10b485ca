"""Archives and their indexes, and other programs that read them."""

import hashlib
import io
import json
import os
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
import webdataset

from osstorchconnector import (
    OssClient,
    OssConfigError,
    OssError,
    OssFormatError,
    OssIntegrityError,
    OssNotFoundError,
    generate_tar_archive,
)
from osstorchconnector.archive.headers import members_of
from osstorchconnector.archive.index import TarIndexHeader, TarMember, read_members
from osstorchconnector.archive.positions import StoredPositions
from osstorchconnector.testing import Emulator

NAMES = [
    "a.txt",
    "b/c.bin",
    "b/empty",
    "deep/" + "directory/" * 30 + "file",
    "ä ö/日本 \t tab.txt",
    "x" * 150,
]


def content_of(name: str) -> bytes:
    return b"" if name.endswith("empty") else hashlib.sha256(name.encode()).digest() * (1 + len(name) % 50)


def index_of(data: bytes) -> tuple[TarIndexHeader, list[TarMember]]:
    reader = io.BytesIO(data)
    StoredPositions(reader, "index")
    header = TarIndexHeader.read(reader, "index")
    return header, list(read_members(reader, header, "index"))


@pytest.fixture
def source(client: OssClient, bucket: str) -> str:
    for name in NAMES:
        client.put(f"oss://{bucket}/data/{name}", content_of(name))
    return f"oss://{bucket}/data/"


@pytest.fixture
def arguments(emulator: Emulator) -> dict[str, Any]:
    return {
        "endpoint": emulator.endpoint,
        "cred_path": emulator.cred_path,
        "config_path": "",
        "region": emulator.region,
    }


def assert_index_matches(archive: bytes, index: bytes) -> None:
    header, members = index_of(index)
    assert header.size == len(archive)
    assert [member.name for member in members] == sorted(NAMES, key=str.encode)
    for member in members:
        assert archive[member.offset : member.offset + member.size] == content_of(member.name)


def test_a_prefix_becomes_an_archive_that_tar_reads(
    client: OssClient, bucket: str, source: str, arguments: dict[str, Any], tmp_path: Path
) -> None:
    tar, index = f"oss://{bucket}/out/all.tar", f"oss://{bucket}/out/all.idx"
    generate_tar_archive(tar_path=tar, index_path=index, source_path=source, **arguments)
    archive = client.get(tar)
    assert_index_matches(archive, client.get(index))
    header, _ = index_of(client.get(index))
    assert (header.archive, header.crc64) == ("all.tar", client.head(tar).crc64)

    (tmp_path / "all.tar").write_bytes(archive)
    listed = subprocess.run(
        ["tar", "-tf", tmp_path / "all.tar", "--quoting-style=literal"], capture_output=True, check=True
    )
    assert listed.stderr == b""
    assert listed.stdout.decode().splitlines() == sorted(NAMES, key=str.encode)
    with tarfile.open(fileobj=io.BytesIO(archive)) as read:
        for member in read:
            assert (member.mtime, member.uid, member.gid, member.uname) == (0, 0, 0, "")
            file = read.extractfile(member)
            assert file is not None
            assert file.read() == content_of(member.name)


def test_the_same_objects_give_the_same_bytes_in_oss_and_in_a_directory(
    client: OssClient, bucket: str, source: str, arguments: dict[str, Any], tmp_path: Path
) -> None:
    directory = tmp_path / "data"
    for name in NAMES:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(content_of(name))
    local_tar, local_index = str(tmp_path / "all.tar"), str(tmp_path / "all.idx")
    generate_tar_archive("", "", "", local_tar, local_index, str(directory))
    written = Path(local_tar).read_bytes(), Path(local_index).read_bytes()
    assert_index_matches(*written)

    for source_path in (source, str(directory) + "/"):
        tar, index = f"oss://{bucket}/all.tar", f"oss://{bucket}/all.idx"
        generate_tar_archive(tar_path=tar, index_path=index, source_path=source_path, **arguments)
        assert (client.get(tar), client.get(index)) == written
    generate_tar_archive(tar_path=local_tar + "2", index_path=local_index + "2", source_path=source, **arguments)
    assert Path(local_tar + "2").read_bytes() == written[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.idx", "all.idx2", "all.tar", "all.tar2", "data"]


@pytest.mark.parametrize("tar_format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_an_index_is_made_for_an_existing_archive(
    client: OssClient, bucket: str, arguments: dict[str, Any], tmp_path: Path, tar_format: int
) -> None:
    tar, index = tmp_path / "all.tar", tmp_path / "all.idx"
    with tarfile.open(tar, "w", format=tar_format) as archive:
        for name in sorted(NAMES, key=str.encode):
            if "/" in name:
                folder = tarfile.TarInfo(name.rpartition("/")[0])
                folder.type = tarfile.DIRTYPE
                archive.addfile(folder)
            member = tarfile.TarInfo(name)
            member.size = len(content_of(name))
            archive.addfile(member, io.BytesIO(content_of(name)))
    generate_tar_archive("", "", "", str(tar), str(index), "", index_only=True)
    assert_index_matches(tar.read_bytes(), index.read_bytes())

    uri = f"oss://{bucket}/all.tar"
    client.put(uri, tar.read_bytes())
    generate_tar_archive(tar_path=uri, index_path=str(index) + "2", source_path="", index_only=True, **arguments)
    assert Path(str(index) + "2").read_bytes() == index.read_bytes()


# webdataset does not close the file that it has read.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_webdataset_reads_the_archive(
    bucket: str, client: OssClient, arguments: dict[str, Any], tmp_path: Path
) -> None:
    for number in range(20):
        client.put(f"oss://{bucket}/samples/{number:04}.txt", f"text {number}".encode())
        client.put(f"oss://{bucket}/samples/{number:04}.cls", str(number % 3).encode())
    tar = tmp_path / "samples.tar"
    generate_tar_archive(
        tar_path=str(tar), index_path=str(tmp_path / "i"), source_path=f"oss://{bucket}/samples/", **arguments
    )
    read = webdataset.WebDataset(str(tar), shardshuffle=False).decode().to_tuple("txt", "cls")
    assert list(read) == [(f"text {number}", number % 3) for number in range(20)]


def test_labels_are_the_first_directory(bucket: str, source: str, arguments: dict[str, Any], tmp_path: Path) -> None:
    del bucket
    index = tmp_path / "index"
    counts: list[tuple[int, int]] = []
    generate_tar_archive(
        tar_path=str(tmp_path / "tar"),
        index_path=str(index),
        source_path=source,
        labels_from_prefix=True,
        progress=lambda *count: counts.append(count),
        **arguments,
    )
    _, members = index_of(index.read_bytes())
    assert {member.name: member.label for member in members} == {
        name: name.partition("/")[0] if "/" in name else "" for name in NAMES
    }
    assert counts[-1] == (len(NAMES), sum(len(content_of(name)) for name in NAMES))


def test_a_member_larger_than_what_is_read_ahead_streams(
    client: OssClient, bucket: str, arguments: dict[str, Any], tmp_path: Path
) -> None:
    large = os.urandom(3_000_000)
    client.put(f"oss://{bucket}/data/large", large)
    config = tmp_path / "config.json"
    config.write_text('{"prefetchMB": 1}')
    tar = tmp_path / "all.tar"
    generate_tar_archive(
        tar_path=str(tar),
        index_path=str(tmp_path / "index"),
        source_path=f"oss://{bucket}/data/",
        **{**arguments, "config_path": str(config)},
    )
    with tarfile.open(tar) as archive:
        file = archive.extractfile("large")
        assert file is not None
        assert file.read() == large


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"tar_path": ""}, "tar_path must be"),
        ({"index_path": "oss://b"}, "is not a bucket name"),
        ({"index_path": "{tmp}/all.tar"}, "are the same"),
        ({"source_path": "{tmp}/absent"}, "is not a directory"),
        ({"source_path": ""}, "source_path must be"),
        ({"tar_path": "{tmp}/data/all.tar"}, "is inside source_path"),
        ({"tar_path": "{tmp}/absent/all.tar"}, "cannot be written"),
    ],
)
def test_wrong_arguments_are_reported(
    arguments: dict[str, Any], tmp_path: Path, changed: dict[str, str], reason: str
) -> None:
    (tmp_path / "data").mkdir()
    texts = {"tar_path": "{tmp}/all.tar", "index_path": "{tmp}/all.idx", "source_path": "{tmp}/data", **changed}
    given: dict[str, Any] = {name: text.format(tmp=tmp_path) for name, text in texts.items()}
    with pytest.raises(OssConfigError, match=reason):
        generate_tar_archive(**arguments, **given)


def test_nothing_is_left_if_the_source_fails(
    client: OssClient, bucket: str, arguments: dict[str, Any], tmp_path: Path
) -> None:
    client.put(f"oss://{bucket}/all.tar", b"before")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a").write_bytes(b"content")
    (tmp_path / "data" / "b").symlink_to("nowhere")
    for tar in (f"oss://{bucket}/all.tar", str(tmp_path / "all.tar")):
        with pytest.raises(OssNotFoundError, match="/b: No such file"):
            generate_tar_archive(
                tar_path=tar, index_path=str(tmp_path / "index"), source_path=str(tmp_path / "data"), **arguments
            )
    assert client.get(f"oss://{bucket}/all.tar") == b"before"
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_nothing_appears_if_the_index_cannot_be_written(
    client: OssClient, bucket: str, source: str, arguments: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "before").write_bytes(b"before")
    for tar in (f"oss://{bucket}/all.tar", str(tmp_path / "all.tar")):
        for index in (str(tmp_path / "absent" / "index"), str(tmp_path)):
            with pytest.raises(OssConfigError, match="cannot be written"):
                generate_tar_archive(tar_path=tar, index_path=index, source_path=source, **arguments)
    assert [item.name for item in client.list(f"oss://{bucket}/") if not item.name.startswith("data/")] == []
    assert [path.name for path in tmp_path.iterdir()] == ["before"]


def test_an_index_that_is_not_stored_leaves_the_whole_archive(
    client: OssClient, bucket: str, source: str, arguments: dict[str, Any]
) -> None:
    tar, index = f"oss://{bucket}/all.tar", f"oss://{bucket}/all.idx"
    with pytest.raises(OssNotFoundError, match="NoSuchBucket"):
        generate_tar_archive(tar_path=tar, index_path=f"oss://{bucket}-2/index", source_path=source, **arguments)
    generate_tar_archive(tar_path=tar, index_path=index, source_path="", index_only=True, **arguments)
    assert_index_matches(client.get(tar), client.get(index))


@pytest.mark.parametrize("name", ["", "sub/"])
def test_a_name_that_tar_takes_for_a_directory_is_reported(
    client: OssClient, bucket: str, arguments: dict[str, Any], tmp_path: Path, name: str
) -> None:
    client.put(f"oss://{bucket}/data/{name}", b"bytes")
    with pytest.raises(
        OssConfigError, match=rf"oss://{bucket}/data/{name} has 5 bytes, and tar takes its name .* for a directory"
    ):
        generate_tar_archive(
            tar_path=str(tmp_path / "tar"),
            index_path=str(tmp_path / "index"),
            source_path=f"oss://{bucket}/data/",
            **arguments,
        )
    assert list(tmp_path.iterdir()) == []


def archive_with(*names: str) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = 5000
            archive.addfile(member, io.BytesIO(bytes(5000)))
    return target.getvalue()


def test_a_damaged_or_shortened_archive_is_reported() -> None:
    whole = archive_with("a", "b", "c")
    assert [member.name for member in members_of(io.BytesIO(whole), "it")] == ["a", "b", "c"]
    second = 512 + 5120
    damaged = whole[: second + 100] + b"damage" + whole[second + 106 :]
    for archive in (damaged, whole[:second], whole[: second + 300], whole[: second + 600]):
        with pytest.raises(OssIntegrityError, match="it is damaged or cut short"):
            list(members_of(io.BytesIO(archive), "it"))
    for archive in (b"", b"x" * 1000, whole[:100]):
        with pytest.raises(OssConfigError, match="it is not an uncompressed tar archive"):
            list(members_of(io.BytesIO(archive), "it"))


def test_links_are_left_out_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "elsewhere"
        archive.addfile(link)
    target.seek(0)
    assert list(members_of(target, "it")) == []
    assert "it: 1 links or special files are left out" in caplog.text


def test_an_index_that_does_not_fit_is_reported() -> None:
    header = TarIndexHeader("a.tar", 10_240, 7, 2)
    lines = b"512\t5\ta\n1536\t6\tb\tlabel\n"
    assert index_of(header.line() + lines) == (header, [TarMember(512, 5, "a"), TarMember(1536, 6, "b", "label")])
    header.check(10_240, 7, "index", "a.tar")
    header.check(10_240, None, "index", "a.tar")
    for size, crc64 in [(10_241, 7), (10_240, 8)]:
        with pytest.raises(OssIntegrityError, match=r"index is stale.*index_only"):
            header.check(size, crc64, "index", "a.tar")
    for broken in (
        b"512\t5\ta\n",
        lines + b"3000\t1\tc\n",
        lines[:-1],
        b"512\t5\ta\n10235\t6\tb\n",
        b"512\t5\ta\n-1\t6\tb\n",
        b"512\t5\ta\n512\t5\n",
        b"512\t5\ta\n512\t5\tb\\x\n",
        b"512\t5\ta\n512\t5\t\xff\n",
    ):
        with pytest.raises(OssIntegrityError):
            index_of(header.line() + broken)
    for first in (b"", b"\n", b"{}\n", b'{"format": "osst-tar-index"}\n', b"\x1f\x8b\n", b"[1]\n"):
        with pytest.raises(OssConfigError, match="index is not a tar index"):
            index_of(first + lines)
    document = json.loads(header.line())
    with pytest.raises(OssConfigError, match="version 2"):
        index_of(json.dumps({**document, "version": 2}).encode() + b"\n" + lines)
    with pytest.raises(OssConfigError, match="lacks a field"):
        index_of(json.dumps({**document, "size": "1"}).encode() + b"\n" + lines)


def header(name: str = "b", *, size: bytes | None = None, kind: bytes = b"0", body: bytes = b"abc") -> bytes:
    """Return a member with a valid checksum, whose header states `size` as 12 bytes."""
    info = tarfile.TarInfo(name)
    info.size, info.type = len(body), kind
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT)[:512])
    if size is not None:
        block[124:136] = size
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + body + bytes(-len(body) % 512)


def attributes(text: str) -> bytes:
    """Return a member that states an attribute of the next one."""
    length = len(text) + 3
    record = f"{length + len(str(length + 2))} {text}\n".encode()
    return header("attributes", kind=b"x", body=record)


NEGATIVE = b"\xff" * 12
ENDLESS = b"\x80" + bytes(3) + b"\x7f" * 8
HOSTILE = {
    "a negative size": header(size=NEGATIVE),
    "a negative size that leads back": header(size=b"\xff" * 10 + b"\xf8\x00"),
    "a negative size of an unknown kind": header(size=b"\xff" * 10 + b"\xf8\x00", kind=b"Z"),
    "a size beyond the archive": header(size=ENDLESS),
    "a size of more than 64 bits": header(size=b"\x80" + b"\x7f" * 11),
    "a long name beyond memory": header(kind=b"L", size=ENDLESS),
    "attributes beyond memory": header(kind=b"x", size=ENDLESS),
    "attributes of all beyond memory": header(kind=b"g", size=ENDLESS),
    "attributes of a negative size": header(kind=b"x", size=b"\xff" * 10 + b"\xf8\x00"),
    "long names without end": header(kind=b"L") * 3000,
    "a negative size as attribute": attributes("size=-5") + header(),
    "a size of many digits as attribute": attributes("size=99999999999999999999") + header(),
    "a map of holes that is no number": attributes("GNU.sparse.map=1,x") + header(),
    "a name that is not UTF-8": header("b\udcff"),
    "no name": header(""),
}


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("which", HOSTILE)
def test_a_hostile_header_is_an_error_of_ours(which: str, *, first: bool) -> None:
    archive = HOSTILE[which] + header("c") + bytes(1024)
    if not first:
        archive = header("a") + archive
    with pytest.raises(OssError, match=r"x\.tar"):
        list(members_of(io.BytesIO(archive), "x.tar"))


def test_a_long_name_and_long_attributes_are_read() -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("n" * 100_000)
        info.pax_headers = {"comment": "c" * 5_000_000}
        tar.addfile(info, io.BytesIO())
    archive.seek(0)
    assert [member.name for member in members_of(archive, "x.tar")] == ["n" * 100_000]


@pytest.mark.parametrize("start", [b"", b"a" * (2 << 20), b'{"format": "osst-tar-index", "a": '])
def test_a_hostile_index_is_an_error_of_ours(start: bytes) -> None:
    with pytest.raises(OssConfigError, match="tar index"):
        index_of(start + b"[" * 200_000)


def test_a_line_without_end_is_not_kept_in_memory() -> None:
    with pytest.raises(OssFormatError, match="line 1 has more than"):
        index_of(TarIndexHeader("x.tar", 10, 1, 1).line() + b"1" * (3 << 20))
