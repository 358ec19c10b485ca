"""Refusals have the code of the service, and show no secret."""

import logging
import traceback
from collections.abc import Callable
from contextlib import closing

import pytest

from .client import Access, BucketClient, Failure, ObjectClient

WRONG_SECRET = "wrong-0a1b2c3d4e5f"


def refused(client: ObjectClient, attempt: Callable[[], object]) -> tuple[Failure, str]:
    """Return how an attempt failed, and every text of the failure."""
    with pytest.raises(client.error) as caught:
        attempt()
    return client.failure(caught.value), "".join(traceback.format_exception(caught.value)) + repr(caught.value)


def test_a_missing_object_is_reported(any_client: ObjectClient, bucket: str) -> None:
    for attempt in (
        lambda: any_client.get(bucket, "missing"),
        lambda: any_client.get_range(bucket, "missing", 0, 1),
        lambda: any_client.copy(bucket, "missing", "a"),
    ):
        failure, _ = refused(any_client, attempt)
        assert (failure.code, failure.status) == ("NoSuchKey", 404)
        assert len(failure.request_id) == 24


def test_a_missing_object_has_no_head(bucket_client: BucketClient, bucket: str) -> None:
    failure, _ = refused(bucket_client, lambda: bucket_client.head(bucket, "missing"))
    # The answer to HEAD has no body, so the code is in a header.
    assert (failure.code, failure.status) == ("NoSuchKey", 404)


@pytest.mark.parametrize(
    ("wrong", "code"), [("secret", "SignatureDoesNotMatch"), ("id", "InvalidAccessKeyId")], ids=["secret", "id"]
)
def test_a_wrong_access_key_is_refused_and_not_shown(
    connect: Callable[[Access], ObjectClient],
    access: Access,
    bucket: str,
    caplog: pytest.LogCaptureFixture,
    wrong: str,
    code: str,
) -> None:
    caplog.set_level(logging.DEBUG)
    if wrong == "id":
        refused_access = access.with_key("unknown-id", access.access_key_secret)
    else:
        refused_access = access.with_key(access.access_key_id, WRONG_SECRET)
    with closing(connect(refused_access)) as client:
        for attempt in (
            lambda: client.get(bucket, "a"),
            lambda: client.put(bucket, "a", b"content"),
            lambda: client.delete(bucket, "a"),
            lambda: client.list_all(bucket, "a"),
            client.list_buckets,
        ):
            failure, shown = refused(client, attempt)
            assert (failure.code, failure.status) == (code, 403)
            assert failure.request_id in shown
            for hidden in (access.access_key_secret, WRONG_SECRET):
                assert hidden not in shown
                assert hidden not in caplog.text
