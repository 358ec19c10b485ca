"""Refusals and missing objects: the error has the code and request id of the service, and names the object."""

from collections.abc import Callable
from typing import Any

import pytest

from osstorchconnector import (
    OssClient,
    OssError,
    OssIterableDataset,
    OssMapDataset,
    OssNotFoundError,
    OssPermissionError,
)
from osstorchconnector.testing import Emulator
from tests.faults.readers import ACCESS_KEY_SECRET, READERS, Connect, Reader, settings, with_each

#: The operations of a client on an object.
OPERATIONS: list[Callable[[OssClient, str], object]] = [
    lambda client, uri: client.get(uri),
    lambda client, uri: client.get(uri, 1, 2),
    lambda client, uri: client.head(uri),
    lambda client, uri: client.open(uri),
    lambda client, uri: client.put(uri, b""),
    lambda client, uri: client.delete(uri),
    lambda client, uri: client.copy(uri, f"{uri}-copy"),
    lambda client, uri: list(client.list(uri)),
    lambda client, uri: client.writer(uri).close(),
]


def connection_of(emulator: Emulator, **given: Any) -> Connect:
    config = settings(
        **{
            "access_key_id": emulator.access_key_id,
            "access_key_secret": emulator.access_key_secret,
            "security_token": None,
            **given,
        }
    )
    return {"endpoint": emulator.endpoint, "region": emulator.region, "config": config}


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"access_key_id": "unknown"}, "InvalidAccessKeyId"),
        ({"access_key_secret": ACCESS_KEY_SECRET}, "SignatureDoesNotMatch"),
    ],
)
@pytest.mark.parametrize("version", ["v4", "v1"])
def test_a_wrong_key_or_secret_is_reported_with_code_and_request_id(
    emulator: Emulator, bucket: str, wrong: dict[str, str], code: str, version: str
) -> None:
    connection = connection_of(emulator, signature_version=version, **wrong)
    client = OssClient(**connection)
    for operation in OPERATIONS:
        with pytest.raises(OssPermissionError) as caught:
            operation(client, f"oss://{bucket}/a")
        error = caught.value
        assert (error.code, error.status, error.bucket, error.attempts) == (code, 403, bucket, 1)
        assert error.request_id
        for field in (code, error.request_id, bucket):
            assert field in str(error)
    for kind in (OssIterableDataset, OssMapDataset):
        for dataset in (
            kind.from_prefix(f"oss://{bucket}/", **connection),
            kind.from_objects(f"oss://{bucket}/a", **connection),
        ):
            with pytest.raises(OssPermissionError) as caught:
                next(iter(dataset))
            assert (caught.value.code, caught.value.status, caught.value.bucket) == (code, 403, bucket)
            assert caught.value.request_id


def test_a_wrong_region_is_reported(emulator: Emulator, bucket: str) -> None:
    client = OssClient(**{**connection_of(emulator), "region": "cn-beijing"})
    with pytest.raises(OssError, match="signing region") as caught:
        client.get(f"oss://{bucket}/a")
    assert (caught.value.code, caught.value.status) == ("InvalidArgument", 400)
    assert caught.value.request_id


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_missing_bucket_is_reported(emulator: Emulator, operation: Callable[[OssClient, str], object]) -> None:
    with pytest.raises(OssNotFoundError) as caught:
        operation(OssClient(**connection_of(emulator)), "oss://no-such-bucket/a")
    error = caught.value
    assert (error.status, error.bucket, error.attempts) == (404, "no-such-bucket", 1)
    assert error.code == "NoSuchBucket"
    assert error.request_id


@pytest.mark.parametrize("kind", [OssIterableDataset, OssMapDataset])
@pytest.mark.parametrize("source", ["from_prefix", "from_objects"])
def test_datasets_report_a_missing_bucket(emulator: Emulator, kind: Any, source: str) -> None:
    dataset = getattr(kind, source)("oss://no-such-bucket/a", **connection_of(emulator))
    with pytest.raises(OssNotFoundError) as caught:
        list(dataset)
    assert (caught.value.code, caught.value.status, caught.value.bucket) == ("NoSuchBucket", 404, "no-such-bucket")
    assert caught.value.request_id


@pytest.mark.parametrize("key", ["missing", "with space", "a+b%20?x=[1]&y", "数据", "x" * 1023])
def test_a_missing_object_is_reported_with_its_key(emulator: Emulator, bucket: str, key: str) -> None:
    uri = f"oss://{bucket}/{key}"
    connection = connection_of(emulator)
    client = OssClient(**connection)
    calls: list[Callable[[], object]] = [
        lambda: client.get(uri),
        lambda: client.get(uri, 1, 2),
        lambda: client.head(uri),
        lambda: client.open(uri),
        lambda: list(OssIterableDataset.from_objects(uri, **connection)),
        lambda: OssMapDataset.from_objects(uri, **connection)[0],
        lambda: OssMapDataset.from_objects(uri, **connection).__getitems__([0]),
    ]
    for call in calls:
        with pytest.raises(FileNotFoundError) as caught:
            call()
        error = caught.value
        assert isinstance(error, OssNotFoundError)
        assert (error.code, error.status, error.bucket, error.key) == ("NoSuchKey", 404, bucket, key)
        assert error.request_id


def test_an_object_deleted_meanwhile_is_reported_at_its_position(
    emulator: Emulator, client: OssClient, bucket: str
) -> None:
    names = ["a", "b", "c"]
    for name in names:
        client.put(f"oss://{bucket}/{name}", name.encode())
    dataset = OssMapDataset.from_prefix(f"oss://{bucket}/", **connection_of(emulator))
    assert len(dataset) == 3
    client.delete(f"oss://{bucket}/b")
    with pytest.raises(OssNotFoundError) as caught:
        dataset.__getitems__([0, 1, 2])
    assert caught.value.key == "b"
    assert [dataset[index].read() for index in (0, 2)] == [b"a", b"c"]
    iterator = iter(dataset)
    assert next(iterator).read() == b"a"
    with pytest.raises(OssNotFoundError):
        next(iterator)
    assert [item.read() for item in iterator] == [b"c"]


@with_each(READERS)
def test_readers_agree_on_a_missing_bucket(reader: Reader, emulator: Emulator) -> None:
    # This emulator does not have the bucket of the scripted server.
    with pytest.raises(OssError) as caught:
        reader(connection_of(emulator), ["a"])
    assert caught.value.status == 404
