"""A sub-resource that the emulator does not have never becomes another operation, whatever either SDK may send."""

import http.client
import inspect
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import alibabacloud_oss_v2
import oss2
import pytest

from osstorchconnector.testing import Emulator

# They say how an operation is done, and name none: a DELETE with one of them deletes, as it does without.
MODIFIERS = {
    "Expires",
    "OSSAccessKeyId",
    "Signature",
    "continuation-token",
    "delimiter",
    "encoding-type",
    "fetch-owner",
    "key-marker",
    "list-type",
    "marker",
    "max-keys",
    "max-parts",
    "max-uploads",
    "part-number-marker",
    "prefix",
    "security-token",
    "start-after",
    "upload-id-marker",
    "version-id-marker",
}
MODIFIER_PREFIXES = ("response-", "x-oss-access-key", "x-oss-credential", "x-oss-date", "x-oss-expires", "x-oss-sign")
MORE_MODIFIERS = {"x-oss-additional-headers", "x-oss-request-payer", "x-oss-security-token", "x-oss-traffic-limit"}
# They are for a level of their own, or need a value: without one they are refused there too.
NOT_A_NAME = {"query", "name", "mode", "sort", "order", "uri", "role"}


def sources(package: object) -> Iterator[str]:
    for path in Path(inspect.getfile(package)).parent.rglob("*.py"):  # type: ignore[arg-type]
        yield path.read_text(encoding="utf-8")


def names() -> list[str]:
    """Return every query parameter that the sources of both SDKs name."""
    found = set()
    for text in sources(alibabacloud_oss_v2):
        for parameters in re.findall(r"parameters=\{([^}]*)\}", text):
            found |= set(re.findall(r"""['"]([^'"]+)['"]\s*:""", parameters))
        for listed in re.findall(r"'sub-resource':\s*\[([^\]]*)\]", text):
            found |= set(re.findall(r"['\"]([^'\"]+)['\"]", listed))
        found |= set(re.findall(r"""position['"]?: ['"]query['"],\s*['"]rename['"]: ['"]([^'"]+)""", text))
    for text in sources(oss2):
        for listed in re.findall(r"_subresource_key_set = frozenset\(\s*\[([^\]]*)\]", text):
            found |= set(re.findall(r"'([^']+)'", listed))
        for parameters in re.findall(r"params=\{([^}]*)\}", text):
            found |= set(re.findall(r"""['"]([A-Za-z-]+)['"]\s*:""", parameters))
    found -= MODIFIERS | MORE_MODIFIERS | NOT_A_NAME
    return sorted(name for name in found if not name.startswith(MODIFIER_PREFIXES))


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Host and port of a server that takes any signature."""
    with Emulator(buckets=["bucket"], verify_signatures=False) as emulator:
        yield emulator.endpoint.removeprefix("http://")


def send(server: str, method: str, target: str, body: bytes | None = None) -> tuple[int, bytes]:
    with closing(http.client.HTTPConnection(server, timeout=10)) as connection:
        connection.request(method, target, body)
        answer = connection.getresponse()
        return answer.status, answer.read()


def test_both_sdks_name_many() -> None:
    assert {"acl", "legalHold", "userDefinedLogFieldsConfig", "x-oss-process", "qos", "worm"} <= set(names())
    assert len(names()) > 100


@pytest.mark.parametrize("name", names())
def test_no_sub_resource_becomes_another_operation(server: str, name: str) -> None:
    send(server, "PUT", "/bucket")
    send(server, "PUT", "/bucket/object", b"original")
    for parameter in (name, f"{name}="):
        for method, target in (
            ("PUT", "/bucket/object"),
            ("POST", "/bucket/object"),
            ("DELETE", "/bucket/object"),
            ("PUT", "/bucket"),
            ("POST", "/bucket"),
            ("DELETE", "/bucket"),
        ):
            status, _ = send(server, method, f"{target}?{parameter}", None if method == "DELETE" else b"<X/>")
            assert status < 500
            assert send(server, "GET", "/bucket/object") == (200, b"original"), (method, target, parameter)
        status, body = send(server, "GET", f"/?{parameter}")
        assert status >= 400 or name in {"regions", "regionList", "tag-key", "tag-value", "tagging"}, body
