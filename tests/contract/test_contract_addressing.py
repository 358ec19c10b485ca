"""Buckets in the host name, as the service itself requires."""

import socket
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import pytest

from osstorchconnector.testing import Emulator

from .client import Access, ApiClient
from .conftest import API_CLIENTS
from .keys import HOSTILE_KEYS

DOMAIN = "oss.test"
CONTENTS = {key: f"content of {key}".encode() for key in HOSTILE_KEYS.values()}


@pytest.fixture(scope="module")
def named() -> Iterator[Access]:
    """A server whose buckets are host names below a domain."""
    with Emulator(domain=DOMAIN) as emulator:
        yield replace(Access.to(emulator), endpoint=f"http://{DOMAIN}:{urlsplit(emulator.endpoint).port}")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Make the names below the domain resolve, and return the names that were resolved."""
    resolve = socket.getaddrinfo
    names: set[str] = set()

    def resolve_domain(host: Any, *arguments: Any, **options: Any) -> Any:
        if str(host).endswith(DOMAIN):
            names.add(str(host))
            host = "127.0.0.1"
        return resolve(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve_domain)
    return names


@pytest.mark.parametrize("connect", API_CLIENTS.values(), ids=API_CLIENTS)
def test_a_bucket_is_a_host(connect: Callable[[Access], ApiClient], named: Access, asked: set[str]) -> None:
    bucket = f"host-{uuid.uuid4().hex[:16]}"
    with closing(connect(named)) as client:
        client.create_bucket(bucket)
        assert asked == {f"{bucket}.{DOMAIN}"}
        assert bucket in client.list_buckets()
        assert asked == {f"{bucket}.{DOMAIN}", DOMAIN}
        for key, content in CONTENTS.items():
            client.put(bucket, key, content)
            assert client.get(bucket, key) == content
            with urllib.request.urlopen(client.presign("GET", bucket, key, 60)) as response:
                assert response.read() == content
        assert client.list_all(bucket) == {key: len(CONTENTS[key]) for key in sorted(CONTENTS, key=str.encode)}
        client.put_in_parts(bucket, "large", b"x" * 300_000)
        client.copy(bucket, "large", "copy")
        assert client.head(bucket, "copy").size == 300_000
        client.delete_many(bucket, [*CONTENTS, "large", "copy"])
        client.delete_bucket(bucket)
        assert bucket not in client.list_buckets()
