"""Buckets: created, described, listed and deleted; a missing or full bucket is refused."""

import uuid
from collections.abc import Callable

import pytest

from .client import ApiClient, BucketClient, ObjectClient


def test_a_created_bucket_is_listed_until_it_is_deleted(bucket_client: BucketClient) -> None:
    name = f"made-{uuid.uuid4().hex[:16]}"
    assert name not in bucket_client.list_buckets()
    bucket_client.create_bucket(name)
    assert name in bucket_client.list_buckets()
    assert bucket_client.list_all(name) == {}
    bucket_client.delete_bucket(name)
    assert name not in bucket_client.list_buckets()


def test_listed_buckets_are_in_order(any_client: ObjectClient, bucket: str) -> None:
    names = any_client.list_buckets()
    assert bucket in names
    assert names == sorted(names)


def test_a_bucket_that_is_not_empty_stays(bucket_client: BucketClient, bucket: str) -> None:
    bucket_client.put(bucket, "a", b"content")
    with pytest.raises(bucket_client.error) as caught:
        bucket_client.delete_bucket(bucket)
    failure = bucket_client.failure(caught.value)
    assert (failure.code, failure.status) == ("BucketNotEmpty", 409)
    assert bucket_client.get(bucket, "a") == b"content"


def test_a_missing_bucket_is_reported(bucket_client: BucketClient) -> None:
    name = f"none-{uuid.uuid4().hex[:16]}"
    attempts: list[Callable[[], object]] = [
        lambda: bucket_client.delete_bucket(name),
        lambda: bucket_client.list_all(name),
        lambda: bucket_client.put(name, "a", b""),
        lambda: bucket_client.get(name, "a"),
        lambda: bucket_client.head(name, "a"),
        lambda: bucket_client.delete(name, "a"),
    ]
    for attempt in attempts:
        with pytest.raises(bucket_client.error) as caught:
            attempt()
        failure = bucket_client.failure(caught.value)
        assert (failure.code, failure.status) == ("NoSuchBucket", 404)


def test_a_bucket_is_described(api_client: ApiClient, bucket: str) -> None:
    assert api_client.bucket_region(bucket) == "oss-cn-hangzhou"
    assert api_client.bucket_info(bucket) == {
        "name": bucket,
        "location": "oss-cn-hangzhou",
        "storage_class": "Standard",
    }
