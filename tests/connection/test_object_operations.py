"""Operations on single objects: appending, links, tags, restoring; listings with directories."""

import threading
import time
from array import array
from typing import Any

import pytest

from osstorchconnector import OssClient, OssConfig, OssConfigError, OssError, OssIntegrityError, WriteOptions
from osstorchconnector.testing import Emulator
from tests.faults.server import Answer, Exchange, ScriptedServer


def test_appends_make_one_object(client: OssClient, bucket: str) -> None:
    uri = f"oss://{bucket}/log"
    assert client.append(uri, b"one", options=WriteOptions(content_type="text/plain")) == 3
    assert client.append(uri, memoryview(b"two")) == 6
    assert client.append(uri, b"three", 6) == 11
    assert client.get(uri) == b"onetwothree"
    found = client.stat(uri)
    assert (found.object_type, found.next_append_position, found.content_type) == ("Appendable", 11, "text/plain")


def test_an_append_at_another_position_or_to_another_kind_of_object_is_refused(client: OssClient, bucket: str) -> None:
    uri = f"oss://{bucket}/log"
    client.append(uri, b"one")
    with pytest.raises(OssError, match="PositionNotEqualToLength"):
        client.append(uri, b"two", 5)
    client.put(f"oss://{bucket}/plain", b"x")
    with pytest.raises(OssError, match="ObjectNotAppendable"):
        client.append(f"oss://{bucket}/plain", b"two")
    assert client.get(f"oss://{bucket}/plain") == b"x"


@pytest.mark.parametrize("data", [5, [1, 2], (1,), "text", None])
def test_only_bytes_are_appended(client: OssClient, bucket: str, data: Any) -> None:
    with pytest.raises(TypeError, match="a bytes-like object is required, not"):
        client.append(f"oss://{bucket}/log", data)
    with pytest.raises(OssError, match="NoSuchKey"):
        client.stat(f"oss://{bucket}/log")


@pytest.mark.parametrize("data", [array("i", [1, 2]), memoryview(b"abcd")[::2], bytearray(b"ab")])
def test_the_bytes_of_every_buffer_are_appended(client: OssClient, bucket: str, data: Any) -> None:
    client.append(f"oss://{bucket}/log", data)
    assert client.get(f"oss://{bucket}/log") == bytes(data)


@pytest.mark.parametrize("position", [-1, 0.5, 3.0, True, "3"])
def test_a_position_that_no_object_has_is_refused(client: OssClient, bucket: str, position: Any) -> None:
    with pytest.raises(OssConfigError, match=f"position is {position!r}: a whole number of at least 0"):
        client.append(f"oss://{bucket}/log", b"one", position)


@pytest.mark.parametrize("tier", ["Fast", "standard", "", 1, ["Bulk"]])
def test_a_tier_that_does_not_exist_is_refused(client: OssClient, bucket: str, tier: Any) -> None:
    with pytest.raises(OssConfigError, match="allowed is None or 'Expedited' or 'Standard' or 'Bulk'"):
        client.restore(f"oss://{bucket}/k", tier=tier)


def test_an_append_whose_answer_is_lost_is_not_repeated() -> None:
    with Emulator(buckets=["bucket"]) as emulator:
        client = emulator.client()
        client.append("oss://bucket/log", b"one")
        for position in (None, 6):
            emulator.fault(operation="AppendObject", times=1, lose_reply=True)
            emulator.clear_requests()
            assert client.append("oss://bucket/log", b"two", position) == (position or 3) + 3
            assert len(emulator.requests(operation="AppendObject")) == 2
        assert client.get("oss://bucket/log") == b"onetwotwo"


@pytest.mark.parametrize("stated", ["1", "none"])
def test_other_bytes_than_were_sent_are_noticed(stated: str) -> None:
    def answer(exchange: Exchange) -> None:
        if exchange.request.method == "HEAD":
            exchange.reply(Answer(404, {"x-oss-request-id": "ID"}))
        else:
            exchange.reply(Answer(200, {"x-oss-hash-crc64ecma": stated, "x-oss-next-append-position": "5"}))

    with ScriptedServer(answer) as server:
        config = OssConfig(access_key_id="id", access_key_secret="secret")
        client = OssClient(server.endpoint, region="cn-hangzhou", config=config)
        with pytest.raises(OssIntegrityError, match="stored other bytes"):
            client.append("oss://bucket/log", b"bytes")


def test_appends_of_threads_are_each_whole_or_refused(client: OssClient, bucket: str) -> None:
    uri = f"oss://{bucket}/log"
    client.append(uri, b"")
    done: list[bytes] = []

    def add(content: bytes) -> None:
        try:
            client.append(uri, content)
        except OssError as error:
            assert error.code == "PositionNotEqualToLength"  # noqa: PT017 - in a thread
        else:
            done.append(content)

    threads = [threading.Thread(target=add, args=(bytes([number]) * 100,)) for number in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    content = client.get(uri)
    assert sorted(content[at : at + 100] for at in range(0, len(content), 100)) == sorted(done)


def test_a_link_points_to_an_object_of_its_bucket(client: OssClient, bucket: str) -> None:
    client.put(f"oss://{bucket}/a b+ü?", b"bytes")
    client.symlink(f"oss://{bucket}/link", f"oss://{bucket}/a b+ü?")
    assert client.readlink(f"oss://{bucket}/link") == f"oss://{bucket}/a b+ü?"
    assert client.get(f"oss://{bucket}/link") == b"bytes"
    with pytest.raises(OssConfigError, match="stays in its bucket"):
        client.symlink(f"oss://{bucket}/link", "oss://another/key")
    with pytest.raises(OssError, match="NotSymlink"):
        client.readlink(f"oss://{bucket}/a b+ü?")


def test_tags_are_replaced_as_a_whole(client: OssClient, bucket: str) -> None:
    uri = f"oss://{bucket}/k"
    client.put(uri, b"x", options=WriteOptions(tags={"a": "1"}))
    assert client.tags(uri) == {"a": "1"}
    client.set_tags(uri, {"état": "a b/c", "leer": ""})
    assert client.tags(uri) == {"état": "a b/c", "leer": ""}
    with pytest.raises(OssConfigError, match="tags has 11 tags"):
        client.set_tags(uri, {str(number): "" for number in range(11)})
    with pytest.raises(OssConfigError, match="allowed are letters"):
        client.set_tags(uri, {"a": "<Tag>"})
    client.set_tags(uri, {})
    assert client.tags(uri) == {}


def test_an_archived_object_is_restored() -> None:
    with Emulator(buckets=["bucket"], restore_seconds=0.2) as emulator:
        client = emulator.client()
        client.put("oss://bucket/k", b"bytes", options=WriteOptions(storage_class="Archive"))
        with pytest.raises(OssError, match="restore"):
            client.get("oss://bucket/k")
        client.restore("oss://bucket/k", days=2)
        client.restore("oss://bucket/k")
        while 'ongoing-request="true"' in (client.stat("oss://bucket/k").restore or 'ongoing-request="true"'):
            time.sleep(0.05)
        assert client.get("oss://bucket/k") == b"bytes"
        with pytest.raises(OssConfigError, match="days is 0"):
            client.restore("oss://bucket/k", days=0)
        client.put("oss://bucket/plain", b"x")
        with pytest.raises(OssError, match="OperationNotSupported"):
            client.restore("oss://bucket/plain")


def test_a_listing_with_a_delimiter_has_directories_in_key_order(client: OssClient, bucket: str) -> None:
    for key in ("a/1", "a/2", "b", "c/d/1", "c/x", "z/"):
        client.put(f"oss://{bucket}/{key}", b"")
    listed = [(item.name, item.etag is None) for item in client.list(f"oss://{bucket}/", delimiter="/")]
    assert listed == [("a/", True), ("b", False), ("c/", True), ("z/", True)]
    listed = [(item.name, item.etag is None) for item in client.list(f"oss://{bucket}/c/", delimiter="/")]
    assert listed == [("c/d/", True), ("c/x", False)]
    assert len(list(client.list(f"oss://{bucket}/"))) == 6
