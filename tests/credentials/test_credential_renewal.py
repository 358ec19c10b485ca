"""Keys that expire while they are used, with a server that refuses expired keys."""

import multiprocessing
import multiprocessing.forkserver
import os
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from osstorchconnector import OssClient, OssConfig, OssPermissionError, OssTimeoutError
from osstorchconnector.credentials import Credentials, CredentialSource, DefaultCredentials, UriCredentials
from osstorchconnector.testing import Emulator, KeyPair
from tests.credentials.stand_in import Answer, Asked, StandIn, standing_in

SECRET = "a-secret-that-must-not-show"
COUNT = 4


class Vending:
    """A credentials URI that returns a new key each time, with the expiration that the test sets."""

    def __init__(self) -> None:
        self.seconds = 3600.0
        self.number = 0
        self.service = StandIn()

    def __call__(self, _asked: Asked) -> Answer:
        number = min(self.number, COUNT - 1)
        self.number += 1
        expiration = datetime.now(UTC) + timedelta(seconds=self.seconds)
        return 200, {
            "AccessKeyId": f"STS.{number}",
            "AccessKeySecret": SECRET,
            "SecurityToken": f"token-{number}",
            "Expiration": expiration.isoformat(),
        }


@pytest.fixture
def vending() -> Iterator[Vending]:
    vending = Vending()
    with standing_in(vending) as service:
        vending.service = service
        yield vending


class Silent:
    """A provider that answers only when the test ends."""

    def __init__(self) -> None:
        self.released = threading.Event()

    def get_credentials(self) -> Credentials:
        self.released.wait(20)
        return Credentials("id", SECRET)


def test_a_provider_that_does_not_answer_is_a_timeout_that_names_it(emulator: Emulator) -> None:
    silent = Silent()
    client = OssClient(
        emulator.endpoint, region=emulator.region, cred_provider=silent, config=OssConfig(total_timeout=0.5)
    )
    try:
        with pytest.raises(
            OssTimeoutError, match="provider of access keys had not answered when total_timeout"
        ) as caught:
            client.get("oss://bucket/a")
    finally:
        silent.released.set()
    assert (caught.value.bucket, caught.value.key) == ("bucket", "a")


@pytest.fixture(scope="module")
def strict() -> Iterator[Emulator]:
    """A server that knows the keys, and refuses the first one as expired."""
    past = datetime.now(UTC) - timedelta(hours=1)
    pairs = [KeyPair(f"STS.{n}", SECRET, f"token-{n}", past if n == 0 else None) for n in range(COUNT)]
    with Emulator(buckets=["bucket"], key_pairs=pairs) as server:
        yield server


def client_of(server: Emulator, source: object, **settings: Any) -> OssClient:
    return OssClient(server.endpoint, region=server.region, cred_provider=source, config=OssConfig(**settings))


def test_a_key_that_is_refused_as_expired_is_renewed_once(strict: Emulator, vending: Vending) -> None:
    client = client_of(strict, UriCredentials(vending.service.url))
    client.put("oss://bucket/a", b"content")
    assert client.get("oss://bucket/a") == b"content"
    assert vending.number == 2


def test_a_key_that_stays_refused_is_an_error(strict: Emulator, vending: Vending) -> None:
    vending.number = -COUNT
    client = client_of(strict, UriCredentials(vending.service.url))
    # A read is one request. After a failed write, one more request asks whether the object was stored.
    with pytest.raises(OssPermissionError) as caught:
        client.get("oss://bucket/a")
    assert SECRET not in str(caught.value)
    assert vending.number == -COUNT + 2


def test_an_upload_outlives_its_key(strict: Emulator, vending: Vending) -> None:
    vending.number = 1
    client = client_of(strict, UriCredentials(vending.service.url), part_size=100 * 1024)
    part = os.urandom(100 * 1024)
    strict.clear_requests()
    with client.writer("oss://bucket/large") as writer:
        for number in range(8):
            if number == 4:
                rule = strict.fault(operation="UploadPart", nth=1, error="SecurityTokenExpired")
            writer.write(part)
    rule.remove()
    assert client.get("oss://bucket/large") == part * 8
    assert vending.number == 3
    assert [request.status for request in strict.requests(operation="CompleteMultipartUpload")] == [200]


class Short(CredentialSource):
    """Keys whose whole validity is shorter than the time of renewal before the expiration."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, refused: str | None = None) -> Credentials:
        assert refused is None
        self.asked += 1
        expiration = datetime.now(UTC) + timedelta(seconds=200)
        return Credentials("STS.1", SECRET, "token-1", expiration.timestamp())


def test_a_key_is_renewed_ahead_of_its_expiration(strict: Emulator) -> None:
    source = Short()
    client = client_of(strict, source, credential_refresh_seconds=1e-6)
    for _ in range(3):
        client.put("oss://bucket/a", b"content")
    assert source.asked == 3


def test_a_source_that_fails_ahead_of_the_expiration_costs_no_request(strict: Emulator) -> None:
    class Failing(Short):
        def __call__(self, refused: str | None = None) -> Credentials:
            if self.asked:
                raise RuntimeError("no more")
            return super().__call__(refused)

    client = client_of(strict, Failing(), credential_refresh_seconds=1e-6)
    for _ in range(3):
        client.put("oss://bucket/a", b"content")


def _put(client: OssClient, uri: str) -> None:
    client.put(uri, b"content")


@pytest.mark.slow(90)
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers_fetch_keys_of_their_own(
    strict: Emulator, vending: Vending, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    vending.number = 1
    monkeypatch.setenv("ALIBABA_CLOUD_CREDENTIALS_URI", vending.service.url)
    client = client_of(strict, DefaultCredentials())
    client.put("oss://bucket/parent", b"")
    context: Any = multiprocessing.get_context(method)
    # A forkserver that an earlier test started has the environment of that time.
    forkserver: Any = multiprocessing.forkserver
    forkserver._forkserver._stop()
    process = context.Process(target=_put, args=(client, f"oss://bucket/{method}"))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert client.get(f"oss://bucket/{method}") == b"content"
    # A fork inherits the key; a new process fetches one.
    assert vending.number == (2 if method == "fork" else 3)
