"""Multipart uploads: in one call by every client, and step by step by the clients that offer the steps."""

import re
from collections.abc import Sequence

import pytest

from .checksum import crc64, etag
from .client import ApiClient, Failure, ObjectClient, Part
from .keys import HOSTILE_KEYS

SMALLEST_PART = 100 * 1024
# More than ossfs sends in one request, and not a whole number of parts for any client.
LARGE = bytes(range(256)) * 41_000 + b"the end"
PARTS = [b"a" * SMALLEST_PART, b"b" * (SMALLEST_PART + 1), b"c" * SMALLEST_PART, b"d"]


def upload(client: ApiClient, bucket: str, key: str, upload_id: str, contents: Sequence[bytes]) -> list[Part]:
    return [
        client.upload_part(bucket, key, upload_id, number, content) for number, content in enumerate(contents, start=1)
    ]


def completion_failure(
    client: ApiClient, bucket: str, key: str, upload_id: str, parts: Sequence[Part]
) -> tuple[str, int]:
    with pytest.raises(client.error) as caught:
        client.complete(bucket, key, upload_id, parts)
    failure: Failure = client.failure(caught.value)
    return failure.code, failure.status


def test_a_large_object_is_uploaded_in_parts(any_client: ObjectClient, bucket: str) -> None:
    any_client.put_in_parts(bucket, "large", LARGE)
    head = any_client.head(bucket, "large")
    assert head.size == len(LARGE)
    assert head.etag is None or re.fullmatch(r"[0-9A-F]{32}-\d+", head.etag)
    assert head.crc64 in {None, crc64(LARGE)}
    assert any_client.get_range(bucket, "large", len(LARGE) - 7, len(LARGE) - 1) == b"the end"
    assert any_client.get(bucket, "large") == LARGE


@pytest.mark.parametrize("key", HOSTILE_KEYS.values(), ids=HOSTILE_KEYS)
def test_an_upload_is_listed_until_it_is_complete(api_client: ApiClient, bucket: str, key: str) -> None:
    upload_id = api_client.initiate(bucket, key)
    parts = upload(api_client, bucket, key, upload_id, PARTS)
    assert [part.etag for part in parts] == [etag(content) for content in PARTS]
    assert api_client.list_parts(bucket, key, upload_id) == parts
    assert api_client.list_uploads(bucket) == [(key, upload_id)]
    assert api_client.list_all(bucket) == {}
    published = api_client.complete(bucket, key, upload_id, parts)
    assert re.fullmatch(r"[0-9A-F]{32}-4", published)
    assert api_client.list_uploads(bucket) == []
    content = b"".join(PARTS)
    head = api_client.head(bucket, key)
    assert (head.size, head.etag, head.crc64) == (len(content), published, crc64(content))
    assert api_client.get(bucket, key) == content


def test_uploads_are_listed_by_key(api_client: ApiClient, bucket: str) -> None:
    keys = ["a", "b", "b", "c/+ %", "é"]
    begun = [(key, api_client.initiate(bucket, key)) for key in keys]
    listed = api_client.list_uploads(bucket)
    assert [key for key, _ in listed] == keys
    assert sorted(listed) == sorted(begun)


def test_an_aborted_upload_leaves_nothing(api_client: ApiClient, bucket: str) -> None:
    upload_id = api_client.initiate(bucket, "a")
    parts = upload(api_client, bucket, "a", upload_id, PARTS)
    api_client.abort(bucket, "a", upload_id)
    assert api_client.list_uploads(bucket) == []
    assert api_client.list_all(bucket) == {}
    assert completion_failure(api_client, bucket, "a", upload_id, parts) == ("NoSuchUpload", 404)


def test_a_part_sent_again_replaces_the_first(api_client: ApiClient, bucket: str) -> None:
    upload_id = api_client.initiate(bucket, "a")
    (old,) = upload(api_client, bucket, "a", upload_id, [b"old"])
    (new,) = upload(api_client, bucket, "a", upload_id, [b"the new"])
    assert completion_failure(api_client, bucket, "a", upload_id, [old]) == ("InvalidPart", 400)
    api_client.complete(bucket, "a", upload_id, [new])
    assert api_client.get(bucket, "a") == b"the new"


def test_part_numbers_may_have_gaps(api_client: ApiClient, bucket: str) -> None:
    upload_id = api_client.initiate(bucket, "a")
    last = api_client.upload_part(bucket, "a", upload_id, 10_000, b"last")
    first = api_client.upload_part(bucket, "a", upload_id, 7, PARTS[0])
    api_client.complete(bucket, "a", upload_id, [first, last])
    assert api_client.get(bucket, "a") == PARTS[0] + b"last"


def test_a_small_part_must_be_the_last(api_client: ApiClient, bucket: str) -> None:
    upload_id = api_client.initiate(bucket, "a")
    parts = upload(api_client, bucket, "a", upload_id, [b"x" * (SMALLEST_PART - 1), b"y"])
    assert completion_failure(api_client, bucket, "a", upload_id, parts) == ("EntityTooSmall", 400)


def test_parts_are_copied_from_objects(api_client: ApiClient, bucket: str) -> None:
    source = HOSTILE_KEYS["unicode"] + "+ %"
    api_client.put(bucket, source, b"".join(PARTS))
    upload_id = api_client.initiate(bucket, "a")
    first = api_client.copy_part(bucket, source, "a", upload_id, 1, 0, SMALLEST_PART - 1)
    second = api_client.copy_part(bucket, source, "a", upload_id, 2, 10, 19)
    assert [first.etag, second.etag] == [etag(PARTS[0]), etag(PARTS[0][10:20])]
    api_client.complete(bucket, "a", upload_id, [first, second])
    assert api_client.get(bucket, "a") == PARTS[0] + PARTS[0][10:20]
