"""Several access keys, and temporary ones that need their token and expire."""

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import NoReturn

import pytest

from osstorchconnector.testing import Emulator, KeyPair

from .client import Access, BucketClient, ObjectClient
from .conftest import API_CLIENTS, BUCKET_CLIENTS
from .test_contract_errors import refused
from .test_contract_presigned import fetch

BUCKET = "tokens"
SECOND = KeyPair("second-id", "second-secret")
TEMPORARY = KeyPair("STS.id", "sts-secret", "sts-token/+=", datetime.now(UTC) + timedelta(hours=1))
EXPIRED = KeyPair("STS.old", "old-secret", "old-token", datetime.now(UTC) - timedelta(seconds=1))


@pytest.fixture(scope="module")
def server() -> Iterator[Access]:
    with Emulator(buckets=[BUCKET], key_pairs=[SECOND, TEMPORARY, EXPIRED]) as emulator:
        yield Access.to(emulator)


def key(access: Access, pair: KeyPair) -> Access:
    return access.with_key(pair.access_key_id, pair.access_key_secret, pair.security_token)


@pytest.fixture(params=BUCKET_CLIENTS)
def connect(request: pytest.FixtureRequest) -> Callable[[Access], BucketClient]:
    return BUCKET_CLIENTS[request.param]


@pytest.mark.parametrize("pair", [SECOND, TEMPORARY], ids=["permanent", "temporary"])
def test_each_key_opens_the_account(connect: Callable[[Access], BucketClient], server: Access, pair: KeyPair) -> None:
    with closing(connect(server)) as client:
        client.put(BUCKET, "a", b"by the first")
    with closing(connect(key(server, pair))) as client:
        assert client.get(BUCKET, "a") == b"by the first"
        client.put_in_parts(BUCKET, "b", b"x" * 300_000)
        assert client.head(BUCKET, "b").size == 300_000
        assert client.list_all(BUCKET, "b") == {"b": 300_000}
        client.delete_many(BUCKET, ["a", "b"])


@pytest.mark.parametrize(
    ("pair", "code"),
    [
        (EXPIRED, "SecurityTokenExpired"),
        (KeyPair(TEMPORARY.access_key_id, TEMPORARY.access_key_secret, "other-token"), "InvalidSecurityToken"),
        (KeyPair(TEMPORARY.access_key_id, TEMPORARY.access_key_secret), "InvalidAccessKeyId"),
        (KeyPair(TEMPORARY.access_key_id, "wrong", TEMPORARY.security_token), "SignatureDoesNotMatch"),
        (KeyPair(SECOND.access_key_id, TEMPORARY.access_key_secret), "SignatureDoesNotMatch"),
    ],
    ids=["expired", "other-token", "no-token", "wrong-secret", "other-secret"],
)
def test_a_wrong_combination_of_key_and_token_is_refused(
    connect: Callable[[Access], BucketClient], server: Access, pair: KeyPair, code: str
) -> None:
    with closing(connect(key(server, pair))) as client:
        for attempt in (lambda: client.get(BUCKET, "a"), lambda: client.put(BUCKET, "a", b""), client.list_buckets):
            failure, shown = refused(client, attempt)
            assert (failure.code, failure.status) == (code, 403)
            for hidden in (TEMPORARY.access_key_secret, SECOND.access_key_secret):
                assert hidden not in shown


@pytest.mark.parametrize("name", API_CLIENTS)
def test_a_url_signed_with_a_token_carries_it(server: Access, name: str) -> None:
    with closing(API_CLIENTS[name](key(server, TEMPORARY))) as client:
        client.put(BUCKET, "a", b"content")
        url = client.presign("GET", BUCKET, "a", 60)
    assert fetch(url)[:2] == (200, b"content")
    assert fetch(url.replace("sts-token", "other-token"))[0] == 403


def read_for_ever(client: ObjectClient) -> NoReturn:
    # If the token never expires, the test's time limit ends this.
    while True:
        client.get(BUCKET, "a")


def test_a_token_expires() -> None:
    soon = datetime.now(UTC) + timedelta(seconds=3)
    pair = KeyPair("STS.short", "short-secret", "short-token", soon)
    with Emulator(buckets=[BUCKET], key_pairs=[pair]) as emulator:
        access = key(Access.to(emulator), pair)
        with closing(API_CLIENTS["sdk-v4"](access)) as client:
            client.put(BUCKET, "a", b"content")
            with pytest.raises(client.error) as caught:
                read_for_ever(client)
            assert client.failure(caught.value).code == "SecurityTokenExpired"
        assert datetime.now(UTC) >= soon


def test_a_key_pair_does_not_show_its_secrets() -> None:
    shown = repr(TEMPORARY)
    assert "STS.id" in shown
    assert "sts-secret" not in shown
    assert "sts-token" not in shown
