import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from torch.utils.data import DataLoader

from osstorchconnector import (
    DataObject,
    OssClient,
    OssConfig,
    OssConfigError,
    OssConnectionError,
    OssIterableDataset,
    OssNotFoundError,
)
from osstorchconnector.testing import Emulator

HOSTILE_NAMES = [
    "a b",
    "a+b",
    "100%",
    "%2F",
    "what?",
    "#1",
    "a&b=c",
    "数据/图.png",
    ".hidden",
    "..",
    "a/../b",
    "a//b",
    "é",
    "\u65e5" * 341,
]


def put_all(client: OssClient, bucket: str, names: list[str]) -> dict[str, bytes]:
    contents = {name: f"content of {name}".encode() for name in names}
    for name, content in contents.items():
        client.put(f"oss://{bucket}/{name}", content)
    return contents


def test_prefix_delivers_every_object_in_key_order(emulator: Emulator, client: OssClient, bucket: str) -> None:
    contents = put_all(client, bucket, [f"train/{number:03}" for number in range(50)])
    put_all(client, bucket, ["trai", "train", "train0", "validation/0"])
    dataset = OssIterableDataset.from_prefix(f"oss://{bucket}/train/", **emulator.connection)
    found = [(item.name, item.read()) for item in dataset]
    assert found == sorted(contents.items())


def test_objects_are_delivered_as_named(emulator: Emulator, client: OssClient, bucket: str) -> None:
    contents = put_all(client, bucket, ["a", "b", "c"])
    uris = [f"oss://{bucket}/c", f"/{bucket}/a", f"oss://{bucket}/c"]
    dataset = OssIterableDataset.from_objects(iter(uris), **emulator.connection)
    expected = [contents["c"], contents["a"], contents["c"]]
    assert [item.read() for item in dataset] == expected
    assert [item.read() for item in dataset] == expected


def test_one_uri_is_one_object(emulator: Emulator, client: OssClient, bucket: str) -> None:
    client.put(f"oss://{bucket}/a", b"alone")
    dataset = OssIterableDataset.from_objects(f"oss://{bucket}/a", **emulator.connection)
    assert [item.read() for item in dataset] == [b"alone"]


def test_an_object_has_a_description(emulator: Emulator, client: OssClient, bucket: str) -> None:
    etag = client.put(f"oss://{bucket}/dir/a.txt", b"line 1\nline 2\n")
    (item,) = OssIterableDataset.from_prefix(f"oss://{bucket}/", **emulator.connection)
    assert isinstance(item, DataObject)
    assert isinstance(cast("object", item), io.BufferedIOBase)
    assert item.key == f"/{bucket}/dir/a.txt"
    assert item.bucket == bucket
    assert item.name == "dir/a.txt"
    assert item.uri == f"oss://{bucket}/dir/a.txt"
    assert item.size == 14
    assert item.label == ""
    assert item.etag == etag
    with item:
        assert list(item) == [b"line 1\n", b"line 2\n"]
    assert item.closed


@pytest.mark.parametrize("from_uris", [False, True])
def test_hostile_names_and_empty_objects_round_trip(
    emulator: Emulator, client: OssClient, bucket: str, *, from_uris: bool
) -> None:
    contents = put_all(client, bucket, HOSTILE_NAMES)
    client.put(f"oss://{bucket}/empty", b"")
    contents["empty"] = b""
    if from_uris:
        uris = [f"oss://{bucket}/{name}" for name in contents]
        dataset = OssIterableDataset.from_objects(uris, **emulator.connection)
    else:
        dataset = OssIterableDataset.from_prefix(f"oss://{bucket}", **emulator.connection)
    assert {item.name: item.read() for item in dataset} == contents


def test_an_empty_prefix_ends_at_once(emulator: Emulator, bucket: str) -> None:
    with pytest.warns(UserWarning, match="no object matches"):
        assert list(OssIterableDataset.from_prefix(f"oss://{bucket}/", **emulator.connection)) == []


def test_a_missing_bucket_is_reported(emulator: Emulator) -> None:
    dataset = OssIterableDataset.from_prefix("oss://no-such-bucket/", **emulator.connection)
    with pytest.raises(OssNotFoundError) as caught:
        next(iter(dataset))
    assert caught.value.code == "NoSuchBucket"
    assert caught.value.status == 404
    assert caught.value.bucket == "no-such-bucket"
    assert caught.value.request_id


def test_a_missing_object_is_reported_in_its_place_and_the_next_ones_come(
    emulator: Emulator, client: OssClient, bucket: str
) -> None:
    put_all(client, bucket, ["a", "c"])
    uris = [f"oss://{bucket}/{name}" for name in "abc"]
    iterator = iter(OssIterableDataset.from_objects(uris, **emulator.connection))
    assert next(iterator).name == "a"
    with pytest.raises(OssNotFoundError) as caught:
        next(iterator)
    assert (caught.value.bucket, caught.value.key, caught.value.code) == (bucket, "b", "NoSuchKey")
    assert next(iterator).name == "c"
    with pytest.raises(StopIteration):
        next(iterator)


def test_transform_is_applied_and_its_error_names_the_object(
    emulator: Emulator, client: OssClient, bucket: str
) -> None:
    put_all(client, bucket, ["a", "b", "c"])

    def transform(item: DataObject) -> str:
        if item.name == "b":
            raise ValueError("not an image")
        return item.name.upper()

    iterator = iter(OssIterableDataset.from_prefix(f"oss://{bucket}/", transform=transform, **emulator.connection))
    assert next(iterator) == "A"
    with pytest.raises(ValueError, match="not an image") as caught:
        next(iterator)
    assert caught.value.__notes__ == [f"while transforming oss://{bucket}/b"]
    assert list(iterator) == ["C"]


def test_iterations_are_independent(emulator: Emulator, client: OssClient, bucket: str) -> None:
    put_all(client, bucket, ["a", "b", "c"])
    dataset = OssIterableDataset.from_prefix(f"oss://{bucket}/", **emulator.connection)
    pairs: Iterator[tuple[Any, Any]] = zip(dataset, dataset, strict=True)
    assert [(left.name, right.name) for left, right in pairs] == [("a", "a"), ("b", "b"), ("c", "c")]


def test_closing_an_iterator_ends_it(emulator: Emulator, client: OssClient, bucket: str) -> None:
    put_all(client, bucket, ["a", "b", "c"])
    iterator = iter(OssIterableDataset.from_prefix(f"oss://{bucket}/", **emulator.connection))
    next(iterator)
    iterator.close()
    assert list(iterator) == []


@pytest.mark.parametrize("workers", [0, 2, 3])
def test_a_loader_delivers_every_object_once(emulator: Emulator, client: OssClient, bucket: str, workers: int) -> None:
    names = [f"{number:02}" for number in range(20)]
    put_all(client, bucket, names)
    dataset = OssIterableDataset.from_prefix(
        f"oss://{bucket}/", transform=lambda item: item.name, **emulator.connection
    )
    loader = DataLoader(
        dataset, batch_size=None, num_workers=workers, multiprocessing_context="fork" if workers else None
    )
    assert sorted(loader) == names
    assert sorted(loader) == names


def test_objects_come_out_of_a_worker_with_their_bytes(emulator: Emulator, client: OssClient, bucket: str) -> None:
    contents = put_all(client, bucket, ["a", "b", "c"])
    dataset = OssIterableDataset.from_prefix(f"oss://{bucket}/", **emulator.connection)
    loader = DataLoader(dataset, batch_size=None, num_workers=1, multiprocessing_context="fork")
    assert {item.name: item.read() for item in loader} == contents


def test_a_workers_error_keeps_its_class_and_fields(emulator: Emulator, bucket: str) -> None:
    dataset = OssIterableDataset.from_objects(f"oss://{bucket}/missing", **emulator.connection)
    loader = DataLoader(dataset, batch_size=None, num_workers=1, multiprocessing_context="fork")
    with pytest.raises(OssNotFoundError) as caught:
        list(loader)
    assert (caught.value.code, caught.value.status, caught.value.bucket, caught.value.key) == (
        "NoSuchKey",
        404,
        bucket,
        "missing",
    )


@pytest.mark.parametrize(
    "uri", ["", "bucket/key", "http://bucket/key", "oss://", "oss:///key", "/", "oss://No_Bucket/key", "oss://ab/key"]
)
def test_a_malformed_prefix_is_refused_at_construction(uri: str) -> None:
    with pytest.raises(OssConfigError):
        OssIterableDataset.from_prefix(uri, "127.0.0.1:1", config=OssConfig(anonymous=True))


@pytest.mark.parametrize("uris", ["", [], iter(()), ["oss://bucket/a", "b"], ["oss://bucket"], [b"oss://bucket/a"]])
def test_malformed_objects_are_refused_at_construction(uris: Any) -> None:
    with pytest.raises(OssConfigError):
        OssIterableDataset.from_objects(uris, "127.0.0.1:1", config=OssConfig(anonymous=True))


def test_a_path_is_refused_with_a_reason() -> None:
    with pytest.raises(OssConfigError, match="must be a string like 'oss://bucket/key', not PosixPath"):
        OssIterableDataset.from_prefix(Path("oss://bucket/key"), "127.0.0.1:1")  # type: ignore[arg-type]


def test_construction_uses_no_network_and_iteration_names_the_unreachable_server() -> None:
    config = OssConfig(anonymous=True, connect_timeout=1, total_timeout=5, max_attempts=2)
    # Port 1 of the loopback interface is refused at once.
    dataset = OssIterableDataset.from_prefix("oss://bucket/", "http://127.0.0.1:1", config=config)
    with pytest.raises(OssConnectionError) as caught:
        next(iter(dataset))
    assert caught.value.attempts == 2
