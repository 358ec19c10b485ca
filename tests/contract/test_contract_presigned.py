"""URLs signed by the official clients, used without any client."""

import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import closing
from email.message import Message
from urllib.parse import quote
from xml.etree import ElementTree as ET

import pytest

from .client import Access, ApiClient
from .conftest import API_CLIENTS
from .keys import HOSTILE_KEYS

CONTENT = b"0123456789" * 10


def fetch(
    url: str, method: str = "GET", data: bytes | None = None, headers: Mapping[str, str] | None = None
) -> tuple[int, bytes, Message]:
    request = urllib.request.Request(url, data, dict(headers or {}), method=method)
    try:
        with urllib.request.urlopen(request) as response:
            return response.status, response.read(), response.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(), error.headers


def refusal(url: str) -> tuple[int, str | None, str | None]:
    status, body, _ = fetch(url)
    error = ET.fromstring(body)
    return status, error.findtext("Code"), error.findtext("Message")


@pytest.mark.parametrize("key", HOSTILE_KEYS.values(), ids=HOSTILE_KEYS)
def test_a_signed_url_reads_and_writes(api_client: ApiClient, bucket: str, key: str) -> None:
    content_type = "application/x-test"
    url = api_client.presign("PUT", bucket, key, 60, content_type)
    assert fetch(url, "PUT", CONTENT, {"Content-Type": content_type})[0] == 200
    status, body, headers = fetch(api_client.presign("GET", bucket, key, 60))
    assert (status, body, headers["Content-Type"]) == (200, CONTENT, content_type)
    status, body, headers = fetch(api_client.presign("HEAD", bucket, key, 60), "HEAD")
    assert (status, body, headers["Content-Length"]) == (200, b"", "100")


def test_a_signed_url_reads_any_range(api_client: ApiClient, bucket: str) -> None:
    api_client.put(bucket, "a", CONTENT)
    url = api_client.presign("GET", bucket, "a", 60)
    status, body, headers = fetch(url, headers={"Range": "bytes=13-16"})
    assert (status, body, headers["Content-Range"]) == (206, b"3456", "bytes 13-16/100")


def test_an_unsigned_url_is_refused(api_client: ApiClient, bucket: str) -> None:
    api_client.put(bucket, "a", CONTENT)
    url, _, _ = api_client.presign("GET", bucket, "a", 60).partition("?")
    status, code, _ = refusal(url)
    assert (status, code) == (403, "AccessDenied")


def test_a_signed_url_is_for_what_was_signed(api_client: ApiClient, access: Access, bucket: str) -> None:
    api_client.put(bucket, "a", CONTENT)
    api_client.put(bucket, "b", CONTENT)
    url = api_client.presign("GET", bucket, "a", 60)
    other_key = url.replace(f"/{quote(bucket)}/a?", f"/{quote(bucket)}/b?")
    assert other_key != url
    for method, changed in [("GET", other_key), ("PUT", url), ("DELETE", url)]:
        status, body, _ = fetch(changed, method, b"" if method == "PUT" else None)
        assert status == 403
        assert ET.fromstring(body).findtext("Code") == "SignatureDoesNotMatch"
        assert access.access_key_secret.encode() not in body
    assert api_client.list_all(bucket) == {"a": 100, "b": 100}


def test_a_signed_url_expires(access: Access, bucket: str) -> None:
    # All clients in one test, to wait only once. A client may round the seconds down.
    urls = {}
    for name, connect in API_CLIENTS.items():
        with closing(connect(access)) as client:
            client.put(bucket, "a", CONTENT)
            urls[name] = client.presign("GET", bucket, "a", 2)
    for name, url in urls.items():
        # If it never expires, the test's time limit ends this.
        while fetch(url)[0] == 200:
            pass
        status, code, message = refusal(url)
        assert (name, status, code, message) == (name, 403, "AccessDenied", "Request has expired.")
