import errno
import io
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from osstorchconnector import (
    DataObject,
    OssCheckpoint,
    OssClient,
    OssConfigError,
    OssMapDataset,
    OssNotFoundError,
    OssPermissionError,
    OssSafetensor,
    new_data_object,
)
from osstorchconnector.testing import Emulator

NAMES = [f"{number:02}" for number in range(10)]


@pytest.fixture
def filled(client: OssClient, bucket: str) -> str:
    for name in NAMES:
        client.put(f"oss://{bucket}/data/{name}", name.encode())
    return bucket


def objects(bucket: str, *names: str) -> list[DataObject]:
    return [new_data_object(f"oss://{bucket}/data/{name}", 0, f"label {name}") for name in names]


def contents(items: Iterable[DataObject]) -> list[bytes]:
    return [item.read() for item in items]


def test_a_prefix_is_fetched_ahead(client: OssClient, filled: str) -> None:
    assert contents(client.list_objects_with_preload(filled, "data/")) == [name.encode() for name in NAMES]
    assert contents(client.list_objects_with_preload(filled)) == [name.encode() for name in NAMES]


Listing = Callable[[OssClient, str], Iterator[DataObject]]
SHARED: list[Listing] = [
    lambda client, bucket: client.list_objects_with_preload(bucket, "data/"),
    lambda client, bucket: client.list_objects_from_uris_with_preload(objects(bucket, *NAMES)),
]


@pytest.mark.parametrize("listing", SHARED)
@pytest.mark.parametrize("total", [1, 3])
def test_shares_are_everything_once(emulator: Emulator, filled: str, listing: Listing, total: int) -> None:
    clients = [OssClient(uuid="one", id=number, total=total, **emulator.connection) for number in range(total)]
    shares = [[item.name for item in listing(client, filled)] for client in clients]
    assert sorted(name for share in shares for name in share) == [f"data/{name}" for name in NAMES]
    assert all(shares)


@pytest.mark.parametrize("prefetch", [False, True])
@pytest.mark.parametrize("once", [False, True])
def test_named_objects_come_in_order_with_their_labels(
    client: OssClient, filled: str, *, prefetch: bool, once: bool
) -> None:
    named = objects(filled, "03", "01", "03")
    items = list(client.list_objects_from_uris(iter(named) if once else named, prefetch=prefetch))
    assert [(item.key, item.label, item.size, item.read()) for item in items] == [
        (f"/{filled}/data/{name}", f"label {name}", 2, name.encode()) for name in ("03", "01", "03")
    ]


@pytest.mark.parametrize("prefetch", [False, True])
def test_uris_and_listed_objects_name_objects_too(client: OssClient, filled: str, *, prefetch: bool) -> None:
    listed = [*client.list_objects(filled, "data/0"), f"/{filled}/data/02"]
    items = client.list_objects_from_uris(listed, prefetch)
    assert contents(items) == [name.encode() for name in (*NAMES, "02")]


def test_nothing_named(client: OssClient) -> None:
    assert list(client.list_objects_from_uris([])) == list(client.list_objects_from_uris([], prefetch=True)) == []


Named = Callable[..., Iterator[DataObject]]
FAILING: list[Named] = [
    lambda client, named, **options: client.list_objects_from_uris(named, prefetch=True, **options),
    lambda client, named, **options: client.list_objects_from_uris_with_preload(named, **options),
]


@pytest.mark.parametrize("named", FAILING)
def test_a_missing_object_raises_or_is_delivered(client: OssClient, filled: str, named: Named) -> None:
    items = named(client, objects(filled, "01", "none", "02"))
    assert next(items).read() == b"01"
    with pytest.raises(OssNotFoundError):
        next(items)
    assert next(items).read() == b"02"
    good, failed, last = named(client, objects(filled, "01", "none", "02"), include_errors=True)
    assert (good.err(), good.error_msg(), last.err()) == (0, "", 0)
    assert (failed.key, failed.label) == (f"/{filled}/data/none", "label none")
    assert (failed.err(), failed.copy().err()) == (errno.ENOENT, errno.ENOENT)
    assert "NoSuchKey" in failed.error_msg()
    with pytest.raises(OssNotFoundError):
        failed.read()


def test_an_object_that_failed_can_be_read_later(client: OssClient, filled: str) -> None:
    (failed,) = client.list_objects_from_uris(objects(filled, "late"), prefetch=True, include_errors=True)
    client.put(f"oss://{filled}/data/late", b"late")
    assert failed.read() == b"late"
    assert failed.err() == 0


def test_a_listing_that_fails_raises_even_with_errors(client: OssClient) -> None:
    with pytest.raises(OssNotFoundError, match="NoSuchBucket"):
        list(client.list_objects_with_preload("no-such-bucket-anywhere", "", include_errors=True))


def test_a_forbidden_object_has_the_number_of_that_error(emulator: Emulator, filled: str) -> None:
    other = OssClient(emulator.endpoint, cred_provider=WrongKey(), region=emulator.region)
    (failed,) = other.list_objects_from_uris(objects(filled, "01"), prefetch=True, include_errors=True)
    assert failed.err() == errno.EPERM
    with pytest.raises(OssPermissionError):
        failed.read()


class WrongKey:
    """A provider of a key that nobody knows."""

    def get_credentials(self) -> Any:
        """Return the key."""
        return type("Key", (), {"access_key_id": "x", "access_key_secret": "y", "security_token": None})


@pytest.fixture
def archive(client: OssClient, filled: str) -> str:
    client.gen_tar_archive(f"oss://{filled}/a.tar", f"oss://{filled}/a.index", f"oss://{filled}/data/")
    return filled


@pytest.mark.parametrize(
    ("chunks", "sizes", "expected"),
    [
        ([], [], range(10)),
        ([7, 0], [2, 1], [7, 8, 0]),
        ([3, 0, 3], [], [3, 0, 3]),
        ([8], [100], [8, 9]),
        ([0], [0], []),
    ],
)
@pytest.mark.parametrize("prefetch", [False, True])
def test_members(
    client: OssClient, archive: str, chunks: list[int], sizes: list[int], expected: Iterable[int], *, prefetch: bool
) -> None:
    members: Any = client.list_objects_from_tar(archive, "a.tar", "a.index", chunks, sizes, prefetch)
    wanted = [NAMES[number].encode() for number in expected]
    assert len(members) == len(wanted)
    assert contents(members) == wanted


def test_shares_of_an_archive(emulator: Emulator, archive: str) -> None:
    shares = [
        contents(
            OssClient(id=number, total=2, **emulator.connection).list_objects_from_tar(
                archive, "a.tar", "a.index", prefetch=True
            )
        )
        for number in range(2)
    ]
    assert sorted(shares[0] + shares[1]) == [name.encode() for name in NAMES]
    assert len(shares[0]) == 5


@pytest.mark.parametrize(("chunks", "sizes"), [([10], [1]), ([-1], []), ([1], [-1]), ([1, 2], [1])])
def test_chunks_that_do_not_exist(client: OssClient, archive: str, chunks: list[int], sizes: list[int]) -> None:
    with pytest.raises(OssConfigError, match=r"(has 10 members|each chunk needs one size)"):
        client.list_objects_from_tar(archive, "a.tar", "a.index", chunks, sizes)


def test_a_member_by_its_number(client: OssClient, archive: str) -> None:
    assert client.get_object(archive, "a.tar", 4, 3, "a.index").read() == b"04"


def test_an_object_has_its_label(client: OssClient, filled: str) -> None:
    assert client.get_object(filled, "data/01", label="cat").label == "cat"
    assert client.get_object(filled, "data/01").label == ""


@pytest.mark.parametrize(
    ("indices", "expected"), [([], True), ([5], True), ([3, 4, 5], True), ([3, 5], False), ([4, 3], False)]
)
def test_is_continuous(emulator: Emulator, indices: list[int], *, expected: bool) -> None:
    dataset = OssMapDataset.from_objects("oss://bucket/key", **emulator.connection)
    assert dataset.is_continuous(indices) is expected


def test_streams_have_what_a_data_object_of_the_original_has(client: OssClient, bucket: str) -> None:
    with client.put_object(bucket, "a") as writer:
        assert (writer.write(b"content"), writer.size) == (7, 7)
        assert (writer.key, writer.label, writer.err(), writer.error_msg()) == (f"/{bucket}/a", "", 0, "")
    for stream in (client.get_object(bucket, "a"), client.reader(f"oss://{bucket}/a")):
        assert (stream.key, stream.label, stream.err(), stream.error_msg()) == (f"/{bucket}/a", "", 0, "")
        assert stream.read(count=3) == b"con"
        assert stream.copy().read() == b"content"
        assert stream.seek(offset=-2, whence=2) == 5
        with pytest.raises(io.UnsupportedOperation):
            stream.write(b"")


def test_a_writer_that_failed_says_so(client: OssClient) -> None:
    writer = client.put_object("no-such-bucket-anywhere", "a")
    with pytest.raises(OssNotFoundError):
        writer.close()
    assert writer.err() == errno.ENOENT
    assert "NoSuchBucket" in writer.error_msg()


def test_tensors_go_to_any_stream(emulator: Emulator, client: OssClient, bucket: str, tmp_path: Path) -> None:
    safetensor, uri = OssSafetensor(**emulator.connection), f"oss://{bucket}/a.safetensors"
    tensors = {"a": torch.arange(6).reshape(2, 3), "none": torch.empty(0)}
    with OssCheckpoint(**emulator.connection).writer(uri) as writer:
        safetensor.do_save_safetensor(tensors, writer, {"by": "hand"})
    with (tmp_path / "file").open("wb") as file:
        safetensor.do_save_safetensor(tensors, file, {"by": "hand"})
    assert (tmp_path / "file").read_bytes() == client.get(uri)
    loaded = safetensor.load_file(uri)
    assert torch.equal(loaded["a"], tensors["a"])
    with safetensor.safe_open(uri) as opened:
        assert opened.metadata() == {"by": "hand"}
