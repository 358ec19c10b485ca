"""What one client writes, every other client reads back."""

from contextlib import closing
from pathlib import Path

import pytest

from osstorchconnector.testing import Emulator

from .checksum import crc64, etag
from .client import Access, ObjectClient
from .conftest import BUCKET_CLIENTS, CLIENTS
from .keys import HOSTILE_KEYS

LARGE = bytes(range(256)) * 41_000 + b"the end"
CONTENTS = {key: f"content of {key}".encode() for key in HOSTILE_KEYS.values()} | {"empty": b""}


def test_objects(any_client: ObjectClient, other_client: ObjectClient, bucket: str) -> None:
    for key, content in CONTENTS.items():
        any_client.put(bucket, key, content)
    expected = {key: len(CONTENTS[key]) for key in sorted(CONTENTS, key=str.encode)}
    assert other_client.list_all(bucket) == any_client.list_all(bucket) == expected
    for key, content in CONTENTS.items():
        assert other_client.get(bucket, key) == content
        head = other_client.head(bucket, key)
        assert head.size == len(content)
        assert head.etag in {None, etag(content)}
        assert head.crc64 in {None, crc64(content)}
    other_client.delete_many(bucket, list(CONTENTS))
    assert any_client.list_all(bucket) == {}


def test_objects_in_parts(any_client: ObjectClient, other_client: ObjectClient, bucket: str) -> None:
    any_client.put_in_parts(bucket, "large", LARGE)
    assert other_client.get(bucket, "large") == LARGE
    assert other_client.get_range(bucket, "large", 1_000_000, 1_000_009) == LARGE[1_000_000:1_000_010]
    written, read = any_client.head(bucket, "large"), other_client.head(bucket, "large")
    assert written.size == read.size == len(LARGE)
    assert None in {written.etag, read.etag} or written.etag == read.etag
    assert None in {written.crc64, read.crc64} or written.crc64 == read.crc64


def test_copies(any_client: ObjectClient, other_client: ObjectClient, bucket: str) -> None:
    for key, content in CONTENTS.items():
        any_client.put(bucket, key, content)
        other_client.copy(bucket, key, "copy")
        assert any_client.get(bucket, "copy") == content


@pytest.mark.parametrize("key", ["a", "数据/+ %"])
def test_a_replaced_object_is_seen_at_once(
    any_client: ObjectClient, other_client: ObjectClient, bucket: str, key: str
) -> None:
    any_client.put(bucket, key, b"first")
    assert other_client.get(bucket, key) == b"first"
    other_client.put(bucket, key, b"the second")
    assert any_client.get(bucket, key) == b"the second"
    any_client.delete(bucket, key)
    assert other_client.list_all(bucket) == {}
    with pytest.raises(other_client.error) as caught:
        other_client.get(bucket, key)
    assert other_client.failure(caught.value).code == "NoSuchKey"


def test_a_directory_keeps_what_they_wrote(tmp_path: Path) -> None:
    with Emulator(root=tmp_path) as emulator:
        for bucket, connect_writer in BUCKET_CLIENTS.items():
            with closing(connect_writer(Access.to(emulator))) as writer:
                writer.create_bucket(bucket)
                writer.put_in_parts(bucket, "large", LARGE)
                for key, content in CONTENTS.items():
                    writer.put(bucket, key, content)
    sizes = {key: len(content) for key, content in (CONTENTS | {"large": LARGE}).items()}
    with Emulator(root=tmp_path) as emulator:
        for connect_reader in CLIENTS.values():
            with closing(connect_reader(Access.to(emulator))) as reader:
                assert reader.list_buckets() == sorted(BUCKET_CLIENTS)
                for bucket in BUCKET_CLIENTS:
                    assert reader.list_all(bucket) == sizes
                    assert {key: reader.get(bucket, key) for key in CONTENTS} == CONTENTS
                    assert reader.get_range(bucket, "large", len(LARGE) - 7, len(LARGE) - 1) == b"the end"
