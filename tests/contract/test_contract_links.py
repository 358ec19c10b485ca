"""Symbolic links: objects that stand for another one."""

import pytest

from .checksum import crc64, etag
from .client import ApiClient
from .keys import HOSTILE_KEYS
from .test_contract_errors import refused

CONTENT = b"0123456789"


@pytest.mark.parametrize("target", HOSTILE_KEYS.values(), ids=HOSTILE_KEYS)
def test_a_link_shows_its_target(api_client: ApiClient, bucket: str, target: str) -> None:
    api_client.put(bucket, target, CONTENT)
    api_client.put_symlink(bucket, "a-link", target)
    assert api_client.get_symlink(bucket, "a-link") == target
    assert api_client.get(bucket, "a-link") == CONTENT
    assert api_client.get_range(bucket, "a-link", 2, 4) == b"234"
    head = api_client.head(bucket, "a-link")
    assert (head.size, head.etag, head.crc64) == (len(CONTENT), etag(CONTENT), crc64(CONTENT))


def test_a_link_to_nothing_and_to_a_link_cannot_be_read(api_client: ApiClient, bucket: str) -> None:
    api_client.put_symlink(bucket, "first", "missing")
    api_client.put_symlink(bucket, "second", "first")
    for key, code, status in [("first", "SymlinkTargetNotExist", 404), ("second", "InvalidTargetType", 400)]:
        failure, _ = refused(api_client, lambda key=key: api_client.get(bucket, key))  # type: ignore[misc]
        assert (failure.code, failure.status) == (code, status)


def test_a_plain_object_is_no_link(api_client: ApiClient, bucket: str) -> None:
    api_client.put(bucket, "plain", CONTENT)
    failure, _ = refused(api_client, lambda: api_client.get_symlink(bucket, "plain"))
    assert (failure.code, failure.status) == ("NotSymlink", 400)
