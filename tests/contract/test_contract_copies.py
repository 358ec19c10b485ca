"""For an official SDK, a copy in parts looks like a copy in one request."""

from typing import Any

import oss2
import pytest

from osstorchconnector import OssClient
from osstorchconnector.connection import client as client_module

from .client import Access

CONTENT = bytes(range(256)) * 1700
DESCRIPTION = {
    "Content-Type": "image/webp",
    "Cache-Control": "no-cache",
    "Content-Disposition": "attachment",
    "Content-Encoding": "identity",
    "Content-Language": "fr",
    "Expires": "Wed, 21 Oct 2026 07:28:00 GMT",
    "x-oss-meta-author": "someone",
    "x-oss-meta-empty-words": "a  b",
}
TAGS = {"a b+": "1=2", "c/d": ""}


@pytest.fixture
def sdk(access: Access, bucket: str) -> Any:
    auth = oss2.AuthV4(access.access_key_id, access.access_key_secret)
    return oss2.Bucket(auth, access.endpoint, bucket, region=access.region)


def put(sdk: Any, key: str, headers: dict[str, str]) -> None:
    sdk.put_object(key, CONTENT, headers=headers)
    rule = oss2.models.TaggingRule()
    for name, value in TAGS.items():
        rule.add(name, value)
    sdk.put_object_tagging(key, oss2.models.Tagging(rule))


def described(sdk: Any, key: str) -> dict[str, str]:
    headers = {name.lower(): value for name, value in sdk.head_object(key).headers.items()}
    return {name: headers.get(name.lower(), "") for name in (*DESCRIPTION, "x-oss-hash-crc64ecma", "Content-Length")}


@pytest.mark.parametrize("key", ["plain", "数据/a b+%?#&"])
def test_a_copy_in_parts_is_described_like_a_copy_in_one_request(
    sdk: Any, client: OssClient, bucket: str, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(sdk, key, DESCRIPTION)
    client.copy(f"oss://{bucket}/{key}", f"oss://{bucket}/one")
    monkeypatch.setattr(client_module, "_LARGEST_COPY", 200_000)
    client.copy(f"oss://{bucket}/{key}", f"oss://{bucket}/parts")
    assert sdk.head_object("parts").object_type == "Multipart"
    assert described(sdk, "parts") == described(sdk, "one") == described(sdk, key)
    assert described(sdk, "parts").items() >= DESCRIPTION.items()
    for copy in ("one", "parts"):
        assert sdk.get_object_tagging(copy).tag_set.tagging_rule == TAGS
        assert sdk.get_object(copy).read() == CONTENT


def test_the_copy_of_a_link_is_a_link_however_large_its_target(
    sdk: Any, client: OssClient, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "_LARGEST_COPY", 200_000)
    sdk.put_object("target", CONTENT)
    sdk.put_symlink("target", "link")
    client.copy(f"oss://{bucket}/link", f"oss://{bucket}/copy")
    assert sdk.get_symlink("copy").target_key == "target"
