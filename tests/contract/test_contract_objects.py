"""Objects: written, read whole and by range, described, copied and deleted, under keys that clients get wrong."""

import pytest

from .checksum import crc64, etag
from .client import ApiClient, ObjectClient
from .keys import HOSTILE_KEYS

CONTENT = bytes(range(256)) * 4


@pytest.mark.parametrize("key", HOSTILE_KEYS.values(), ids=HOSTILE_KEYS)
def test_a_key_round_trips(any_client: ObjectClient, bucket: str, key: str) -> None:
    any_client.put(bucket, key, CONTENT)
    assert any_client.get(bucket, key) == CONTENT
    assert any_client.head(bucket, key).size == len(CONTENT)
    assert any_client.list_all(bucket) == {key: len(CONTENT)}
    assert any_client.list_all(bucket, key) == {key: len(CONTENT)}
    copy = f"copy/{key}"[:500]
    any_client.copy(bucket, key, copy)
    assert any_client.get(bucket, copy) == CONTENT
    any_client.delete(bucket, key)
    assert any_client.list_all(bucket) == {copy: len(CONTENT)}


@pytest.mark.parametrize("size", [0, 1, 1024, 100 * 1024])
def test_a_head_describes_the_object(any_client: ObjectClient, bucket: str, size: int) -> None:
    data = (CONTENT * 100)[:size]
    any_client.put(bucket, "a", data)
    head = any_client.head(bucket, "a")
    assert head.size == size
    assert head.etag in {None, etag(data)}
    assert head.crc64 in {None, crc64(data)}
    assert any_client.get(bucket, "a") == data


def test_the_last_put_wins(any_client: ObjectClient, bucket: str) -> None:
    any_client.put(bucket, "a", b"first")
    any_client.put(bucket, "a", b"the second")
    assert any_client.get(bucket, "a") == b"the second"
    assert any_client.list_all(bucket) == {"a": 10}


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        (0, 0, CONTENT[:1]),
        (0, 1023, CONTENT),
        (100, 299, CONTENT[100:300]),
        (1023, 1023, CONTENT[1023:]),
        (1000, 5000, CONTENT[1000:]),
    ],
)
def test_a_range_is_read(any_client: ObjectClient, bucket: str, first: int, last: int, expected: bytes) -> None:
    any_client.put(bucket, "a", CONTENT)
    assert any_client.get_range(bucket, "a", first, last) == expected


def test_a_range_after_the_end_is_refused(api_client: ApiClient, bucket: str) -> None:
    api_client.put(bucket, "a", CONTENT)
    with pytest.raises(api_client.error) as caught:
        api_client.get_range(bucket, "a", 1024, 1025)
    failure = api_client.failure(caught.value)
    assert (failure.code, failure.status) == ("InvalidRange", 416)


def test_a_copy_is_the_same_object_under_another_key(any_client: ObjectClient, bucket: str) -> None:
    any_client.put(bucket, "a", CONTENT)
    any_client.put(bucket, "b", b"replaced")
    any_client.copy(bucket, "a", "b")
    assert any_client.head(bucket, "b") == any_client.head(bucket, "a")
    assert any_client.get(bucket, "b") == any_client.get(bucket, "a") == CONTENT
    with pytest.raises(any_client.error) as caught:
        any_client.copy(bucket, "missing", "c")
    failure = any_client.failure(caught.value)
    assert (failure.code, failure.status) == ("NoSuchKey", 404)


def test_deleting_a_missing_object_is_no_error(any_client: ObjectClient, bucket: str) -> None:
    any_client.delete(bucket, "missing")
    any_client.delete_many(bucket, ["missing", "missing too"])


def test_many_objects_are_deleted_at_once(any_client: ObjectClient, bucket: str) -> None:
    keys = [*HOSTILE_KEYS.values(), *(f"n/{number}" for number in range(50)), "kept"]
    for key in keys:
        any_client.put(bucket, key, b"")
    assert any_client.list_all(bucket) == dict.fromkeys(sorted(keys, key=str.encode), 0)
    keys.remove("kept")
    any_client.delete_many(bucket, keys)
    assert any_client.list_all(bucket) == {"kept": 0}
