"""Datasets over tar archives."""

import io
import pickle
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from osstorchconnector import (
    DataObject,
    OssClient,
    OssConfig,
    OssConfigError,
    OssIntegrityError,
    OssIterableDataset,
    OssMapDataset,
    OssNotFoundError,
    generate_tar_archive,
)
from osstorchconnector._native import ObjectTable, Order
from osstorchconnector.testing import Emulator
from tests.dataset.order_model import Reader

DATASETS = [OssIterableDataset, OssMapDataset]
BUCKET = "test-archives"
COUNT = 700
NAMES = [f"{number % 7}/{number:05}.bin" for number in range(COUNT)]
NAMES.sort()
TAR = f"oss://{BUCKET}/archives/all.tar"
INDEX = f"oss://{BUCKET}/archives/all.idx"


def content_of(name: str) -> bytes:
    return name.encode() * (int(name[2:7]) * 7919 % 900)


def described(item: DataObject) -> tuple[str, str, bytes]:
    return item.name, item.label, item.read()


def expected(names: list[str] = NAMES) -> list[tuple[str, str, bytes]]:
    return [(name, name[0], content_of(name)) for name in names]


@pytest.fixture(scope="module")
def server() -> Iterator[Emulator]:
    """A server for this module alone, so that its request log has only these requests."""
    with Emulator(buckets=[BUCKET]) as server:
        yield server


@pytest.fixture(scope="module")
def client(server: Emulator, tmp_path_factory: pytest.TempPathFactory) -> OssClient:
    source = tmp_path_factory.mktemp("source")
    for name in NAMES:
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_bytes(content_of(name))
    generate_tar_archive(
        server.endpoint, server.cred_path, "", TAR, INDEX, str(source), region=server.region, labels_from_prefix=True
    )
    return server.client()


@pytest.fixture
def archive(client: OssClient, server: Emulator) -> Emulator:
    """The server with the archive, and an empty request log."""
    assert client.head(TAR).size > 0
    server.clear_requests()
    return server


def gets(server: Emulator, key: str = "archives/all.tar") -> list[Any]:
    return [request for request in server.requests(operation="GetObject") if request.key == key]


@pytest.mark.parametrize("dataset", DATASETS)
def test_members_come_in_the_archives_order_with_one_request_for_many(archive: Emulator, dataset: Any) -> None:
    read = dataset.from_tar(TAR, INDEX, transform=described, **archive.connection)
    assert list(read) == expected()
    size = sum(len(content) + 1024 for _, _, content in expected())
    assert len(gets(archive)) <= 2 + size // (4 << 20)
    assert list(read) == expected()
    assert len(gets(archive, "archives/all.idx")) >= 1


def test_a_member_has_its_offset_and_archive(archive: Emulator, client: OssClient) -> None:
    item = OssMapDataset.from_tar(TAR, INDEX, **archive.connection)[3]
    key = f"archives/all.tar/{NAMES[3]}"
    for found in (item, item.copy(), pickle.loads(pickle.dumps(item))):
        assert (found.key, found.name, found.uri) == (f"/{BUCKET}/{key}", NAMES[3], f"oss://{BUCKET}/{key}")
        assert (found.size, found.label, found.bucket) == (len(content_of(NAMES[3])), NAMES[3][0], BUCKET)
        assert found.etag == client.head(TAR).etag
        assert found.read() == content_of(NAMES[3])
        found.seek(0)


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("index", ["", None])
def test_without_an_index_the_headers_are_read(archive: Emulator, dataset: Any, index: str | None) -> None:
    read = dataset.from_tar(TAR, index, transform=lambda item: (item.name, item.read()), **archive.connection)
    assert list(read) == [(name, content) for name, _, content in expected()]


def test_a_local_index_gives_the_same_members(archive: Emulator, client: OssClient, tmp_path: Path) -> None:
    (tmp_path / "index").write_bytes(client.get(INDEX))
    read = OssIterableDataset.from_tar(TAR, str(tmp_path / "index"), transform=described, **archive.connection)
    assert list(read) == expected()


@pytest.mark.parametrize("chunk", [1, 64, 1000])
def test_the_shuffle_is_the_documented_one(archive: Emulator, chunk: int) -> None:
    read = OssIterableDataset.from_tar(
        TAR, INDEX, transform=described, shuffle=True, shuffle_chunk_size=chunk, seed=5, **archive.connection
    )
    orders = []
    for epoch in (0, 1):
        read.set_epoch(epoch)
        model = Reader(seed=5, epoch=epoch, shuffle=chunk, chunks=True, batch_size=chunk)
        orders.append(list(read))
        assert orders[-1] == expected([NAMES[entry] for entry in model.entries(COUNT)])
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == expected()


def test_a_shuffled_chunk_is_read_in_runs(archive: Emulator) -> None:
    read = OssIterableDataset.from_tar(
        TAR, INDEX, transform=described, shuffle=True, shuffle_chunk_size=100, **archive.connection
    )
    assert sorted(read) == expected()
    assert len(gets(archive)) <= COUNT / 100 + 2


def test_a_shuffle_of_more_than_one_window_is_read_in_runs(archive: Emulator, client: OssClient) -> None:
    count, size = 4500, 16_000
    etag = client.put(f"oss://{BUCKET}/many", bytes(count * 16_384))
    rows = [(BUCKET, f"many/{i}", size, f'"{etag}"', "", ("many", i * 16_384)) for i in range(count)]
    stream = client._native_client.stream(
        ObjectTable.from_objects(rows), Order(shuffle=450, chunks=True, batch_size=450, seed=3)
    )
    assert sorted(int(item.name) for item in stream) == list(range(count))
    # Ten chunks of 7 MiB. The driver's first window ends inside the fifth: read separately, that chunk would need a
    # hundred requests more.
    assert len(gets(archive, "many")) <= 15


@pytest.mark.parametrize("shuffle", [False, True])
def test_workers_share_the_members_and_read_runs(archive: Emulator, *, shuffle: bool) -> None:
    read = OssIterableDataset.from_tar(
        TAR, INDEX, transform=described, shuffle=shuffle, shuffle_chunk_size=64, **archive.connection
    )
    loader = DataLoader(read, batch_size=None, num_workers=2, multiprocessing_context="fork")
    assert sorted(tuple(item) for item in loader) == expected()
    assert len(gets(archive)) <= COUNT / 64 + 2
    assert len(gets(archive, "archives/all.idx")) <= 2


def test_a_given_batch_size_gives_one_sequence_of_batches(archive: Emulator) -> None:
    read = OssIterableDataset.from_tar(
        TAR, INDEX, transform=lambda item: item.name, shuffle=True, batch_size=30, **archive.connection
    )
    sequences = []
    for workers in (0, 1, 3):
        read.set_epoch(2)
        method = "fork" if workers else None
        sequences.append(list(DataLoader(read, batch_size=30, num_workers=workers, multiprocessing_context=method)))
    assert sequences[0] == sequences[1] == sequences[2]


def test_an_interrupted_epoch_resumes_where_it_was(archive: Emulator) -> None:
    def dataset() -> OssIterableDataset:
        return OssIterableDataset.from_tar(
            TAR, INDEX, transform=described, shuffle=True, shuffle_chunk_size=50, batch_size=10, **archive.connection
        )

    whole, first, second = dataset(), dataset(), dataset()
    iterator = iter(first)
    consumed = [next(iterator) for _ in range(230)]
    state = first.state_dict()
    iterator.close()
    second.load_state_dict(state)
    assert consumed + list(second) == list(whole)


def test_a_batch_of_a_map_dataset_comes_together(archive: Emulator) -> None:
    read = OssMapDataset.from_tar(TAR, INDEX, transform=described, **archive.connection)
    assert len(read) == COUNT
    archive.clear_requests()
    assert read.__getitems__([*range(100, 200), 5, 5, -1]) == expected([*NAMES[100:200], NAMES[5], NAMES[5], NAMES[-1]])
    assert len(gets(archive)) <= 4


def test_a_small_budget_reads_large_members_by_range(archive: Emulator) -> None:
    largest = max(len(content) for _, _, content in expected())
    read = OssIterableDataset.from_tar(
        TAR, INDEX, transform=described, config=OssConfig(prefetch_bytes=2 * largest), **archive.connection
    )
    assert list(read) == expected()


def test_an_index_of_another_archive_is_refused(archive: Emulator, client: OssClient) -> None:
    data = client.get(TAR)
    client.put(f"oss://{BUCKET}/other.tar", data[:-1] + b"\1")
    datasets: list[Any] = DATASETS
    for dataset in datasets:
        read = dataset.from_tar(f"oss://{BUCKET}/other.tar", INDEX, **archive.connection)
        with pytest.raises(OssIntegrityError, match=r"all.idx is stale"):
            list(read)


def test_an_archive_replaced_while_it_is_read_raises(archive: Emulator, client: OssClient) -> None:
    uri = f"oss://{BUCKET}/changing.tar"
    client.put(uri, client.get(TAR))
    read = OssMapDataset.from_tar(uri, INDEX, **archive.connection)
    assert read[0].read() == content_of(NAMES[0])
    client.put(uri, client.get(TAR) + bytes(512))
    with pytest.raises(OssIntegrityError, match=r"changing.tar was replaced"):
        read[1]


@pytest.mark.parametrize("dataset", DATASETS)
def test_a_missing_object_or_something_else_than_an_archive_is_reported(
    archive: Emulator, client: OssClient, dataset: Any
) -> None:
    client.put(f"oss://{BUCKET}/text", b"no archive" * 100)
    compressed = io.BytesIO()
    with tarfile.open(fileobj=compressed, mode="w:gz") as packed:
        packed.addfile(tarfile.TarInfo("a"))
    client.put(f"oss://{BUCKET}/a.tar.gz", compressed.getvalue())
    for tar, index, error, reason in [
        (f"oss://{BUCKET}/absent.tar", "", OssNotFoundError, "absent.tar"),
        (TAR, f"oss://{BUCKET}/absent.idx", OssNotFoundError, "absent.idx"),
        (TAR, f"oss://{BUCKET}/text", OssConfigError, "not a tar index"),
        (f"oss://{BUCKET}/text", "", OssConfigError, "text is not an uncompressed tar archive"),
        (f"oss://{BUCKET}/a.tar.gz", "", OssConfigError, "gz is not an uncompressed tar archive"),
    ]:
        with pytest.raises(error, match=reason):
            list(dataset.from_tar(tar, index, **archive.connection))


def test_wrong_arguments_are_reported(archive: Emulator, tmp_path: Path) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"tar_uri": "all.tar"}, "names no bucket"),
        ({"tar_uri": f"oss://{BUCKET}"}, "an object is needed"),
        ({"tar_index_uri": f"oss://{BUCKET}"}, "an object is needed"),
        ({"tar_index_uri": str(tmp_path / "absent")}, "absent does not exist"),
        ({"tar_index_uri": 3}, "tar_index_uri must be"),
        ({"shuffle": True, "shuffle_chunk_size": 0}, "shuffle_chunk_size must be"),
        ({"shuffle": "yes"}, "shuffle must be"),
        ({"shuffle_block": 3}, "unknown option shuffle_block"),
    ]
    for arguments, reason in cases:
        given: dict[str, Any] = {"tar_uri": TAR, "tar_index_uri": INDEX, **archive.connection, **arguments}
        with pytest.raises(OssConfigError, match=reason):
            OssIterableDataset.from_tar(**given)


def test_shuffle_draws_another_order(archive: Emulator) -> None:
    dataset = OssIterableDataset.from_tar(TAR, INDEX, shuffle=True, transform=described, **archive.connection)
    orders = []
    for seed in (1, 2, 1):
        dataset.shuffle(torch.Generator().manual_seed(seed))
        orders.append(list(dataset))
    assert orders[0] == orders[2] != orders[1]
    assert sorted(orders[1]) == sorted(orders[0])
    dataset.shuffle()
    assert len(list(dataset)) == COUNT


@pytest.mark.parametrize(
    ("options", "message"),
    [({}, "this dataset has one order"), ({"shuffle": True, "shard": (0, 2)}, "set_epoch on all")],
)
def test_what_cannot_be_shuffled(emulator: Emulator, options: dict[str, Any], message: str) -> None:
    dataset = OssIterableDataset.from_objects("oss://bucket/key", **emulator.connection, **options)
    with pytest.raises(OssConfigError, match=message):
        dataset.shuffle()
