"""Attributes of objects: tags, access rules, storage class; and appending."""

from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from osstorchconnector.testing import Emulator

from .checksum import crc64
from .client import Access, ApiClient
from .conftest import API_CLIENTS
from .test_contract_errors import refused
from .test_contract_presigned import fetch

TAGS = {"owner": "a b", "path/of:it": "x+y=z", "empty": ""}


@pytest.fixture(scope="module")
def slow_archive() -> Iterator[Access]:
    """A server that takes an hour to restore an object, with a bucket."""
    with Emulator(buckets=["archived"], restore_seconds=3600) as emulator:
        yield Access.to(emulator)


@pytest.fixture(scope="module")
def fast_archive() -> Iterator[Access]:
    """A server that restores an object at once, with a bucket."""
    with Emulator(buckets=["archived"], restore_seconds=0) as emulator:
        yield Access.to(emulator)


def test_tags_are_set_read_and_removed(api_client: ApiClient, bucket: str) -> None:
    api_client.put(bucket, "a", b"content")
    assert api_client.get_tags(bucket, "a") == {}
    api_client.put_tags(bucket, "a", TAGS)
    assert api_client.get_tags(bucket, "a") == TAGS
    api_client.delete_tags(bucket, "a")
    assert api_client.get_tags(bucket, "a") == {}
    assert api_client.get(bucket, "a") == b"content"


def test_a_put_brings_its_tags(api_client: ApiClient, bucket: str) -> None:
    api_client.put_with(bucket, "a", b"content", tagging="owner=a%20b&path%2Fof%3Ait=x%2By%3Dz&empty")
    assert api_client.get_tags(bucket, "a") == TAGS


def test_wrong_tags_are_refused(api_client: ApiClient, bucket: str) -> None:
    api_client.put(bucket, "a", b"content")
    for attempt in (
        lambda: api_client.put_tags(bucket, "a", {f"key-{number}": "" for number in range(11)}),
        lambda: api_client.put_tags(bucket, "a", {"a*": ""}),
        lambda: api_client.put_with(bucket, "a", b"other", tagging="a=b=c"),
    ):
        failure, _ = refused(api_client, attempt)
        assert (failure.code, failure.status) == ("InvalidTag", 400)
    assert api_client.get(bucket, "a") == b"content"


def test_access_rules_decide_who_reads_without_a_key(api_client: ApiClient, access: Access, bucket: str) -> None:
    url = f"{access.endpoint}/{bucket}/a"
    api_client.put_with(bucket, "a", b"content", acl="public-read")
    assert api_client.get_acl(bucket, "a") == "public-read"
    assert fetch(url)[:2] == (200, b"content")
    assert fetch(f"{url}?response-content-type=text/html")[0] == 400
    assert fetch(url, "PUT", b"other")[0] == 403
    api_client.put_acl(bucket, "a", "private")
    assert (api_client.get_acl(bucket, "a"), fetch(url)[0]) == ("private", 403)
    api_client.put_acl(bucket, "a", "default")
    assert (api_client.get_acl(bucket, "a"), fetch(url)[0]) == ("default", 403)
    assert api_client.get_bucket_acl(bucket) == "private"
    api_client.put_bucket_acl(bucket, "public-read-write")
    assert api_client.get_bucket_acl(bucket) == "public-read-write"
    assert fetch(url, "PUT", b"other")[0] == 200
    assert fetch(url)[:2] == (200, b"other")
    failure, _ = refused(api_client, lambda: api_client.put_acl(bucket, "a", "everyone"))
    assert (failure.code, failure.status) == ("InvalidArgument", 400)


def test_an_object_grows_by_appending(api_client: ApiClient, bucket: str) -> None:
    assert api_client.append(bucket, "log", 0, b"hello ") == 6
    assert api_client.append(bucket, "log", 6, b"world") == 11
    assert api_client.get(bucket, "log") == b"hello world"
    meta = api_client.meta(bucket, "log")
    assert (meta.size, meta.crc64) == (11, crc64(b"hello world"))
    failure, _ = refused(api_client, lambda: api_client.append(bucket, "log", 6, b"again"))
    assert (failure.code, failure.status) == ("PositionNotEqualToLength", 409)


@pytest.mark.parametrize("connect", API_CLIENTS.values(), ids=API_CLIENTS)
def test_an_archived_object_can_be_read_after_its_restoration(
    connect: Callable[[Access], ApiClient], fast_archive: Access, slow_archive: Access
) -> None:
    with closing(connect(slow_archive)) as client:
        client.put_with("archived", "a", b"content", storage_class="ColdArchive")
        assert client.restoration("archived", "a") is None
        assert client.restore("archived", "a", 2) == 202
        assert client.restoration("archived", "a") == 'ongoing-request="true"'
        for attempt, code, status in [
            (lambda: client.get("archived", "a"), "InvalidObjectState", 403),
            (lambda: client.restore("archived", "a", 2), "RestoreAlreadyInProgress", 409),
        ]:
            failure, _ = refused(client, attempt)
            assert (failure.code, failure.status) == (code, status)
    with closing(connect(fast_archive)) as client:
        client.put_with("archived", "a", b"content", storage_class="ColdArchive")
        assert client.restore("archived", "a", 2) == 202
        assert client.get("archived", "a") == b"content"
        assert client.restore("archived", "a", 3) == 200
        restoration = client.restoration("archived", "a")
        assert restoration is not None
        assert restoration.startswith('ongoing-request="false", expiry-date="')
        client.put("archived", "b", b"content")
        failure, _ = refused(client, lambda: client.restore("archived", "b", 1))
        assert (failure.code, failure.status) == ("OperationNotSupported", 400)
