"""Reads on conditions: only if the object is, or is not, a certain version."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from osstorchconnector import OssClient, OssConfig, OssConfigError, OssError, OssIntegrityError, OssIterableDataset
from osstorchconnector.connection.client import LocalClient
from tests.faults.server import Answer, Exchange, ScriptedServer

LONG_AGO = datetime(2001, 1, 1, tzinfo=UTC)

Read = Callable[..., Any]


def whole(client: OssClient, uri: str, **conditions: Any) -> bytes:
    return client.get(uri, **conditions)


def part(client: OssClient, uri: str, **conditions: Any) -> bytes:
    return client.get(uri, 2, 5, **conditions)


def described(client: OssClient, uri: str, **conditions: Any) -> int:
    return client.stat(uri, **conditions).size


READS: list[tuple[Read, object]] = [(whole, b"0123456789"), (part, b"234"), (described, 10)]


@pytest.mark.parametrize(("read", "expected"), READS)
def test_a_condition_that_holds_changes_nothing(client: OssClient, bucket: str, read: Read, expected: object) -> None:
    uri = f"oss://{bucket}/k"
    etag = client.put(uri, b"0123456789").strip('"')
    soon = datetime.now(UTC) + timedelta(hours=1)
    for conditions in (
        {"if_match": etag},
        {"if_match": f'"{etag}"'},
        {"if_match": "*"},
        {"if_none_match": "0" * 32},
        {"if_modified_since": LONG_AGO},
        {"if_modified_since": LONG_AGO.astimezone()},
        {"if_unmodified_since": soon},
        {"if_match": etag, "if_unmodified_since": soon},
    ):
        assert read(client, uri, **conditions) == expected


@pytest.mark.parametrize("read", [whole, part, described])
def test_a_condition_that_does_not_hold_is_an_error_with_code_and_remedy(
    client: OssClient, bucket: str, read: Read
) -> None:
    uri = f"oss://{bucket}/k"
    etag = client.put(uri, b"0123456789").strip('"')
    soon = datetime.now(UTC) + timedelta(hours=1)
    for conditions, status, code, remedy in (
        ({"if_match": "0" * 32}, 412, "PreconditionFailed", "see what it is now with OssClient.stat"),
        ({"if_unmodified_since": LONG_AGO}, 412, "PreconditionFailed", "see what it is now with OssClient.stat"),
        ({"if_none_match": etag}, 304, "NotModified", "use what was read before"),
        ({"if_none_match": "*"}, 304, "NotModified", "use what was read before"),
        ({"if_modified_since": soon}, 304, "NotModified", "use what was read before"),
    ):
        with pytest.raises(OssError, match=remedy) as caught:
            read(client, uri, **conditions)
        error = caught.value
        assert (error.status, error.code, error.key, error.attempts) == (status, code, "k", 1)
        assert error.request_id


def test_an_answer_without_the_name_of_an_error_has_the_code_too() -> None:
    def answer(exchange: Exchange) -> None:
        exchange.reply(Answer(304 if "if-none-match" in exchange.request.headers else 412, {"x-oss-request-id": "ID"}))

    with ScriptedServer(answer) as server:
        config = OssConfig(access_key_id="id", access_key_secret="secret")
        client = OssClient(server.endpoint, region="cn-hangzhou", config=config)
        with pytest.raises(OssError, match="NotModified: the object is the one that the condition excludes"):
            client.stat("oss://bucket/k", if_none_match="A")
        with pytest.raises(OssError, match="PreconditionFailed: the object is not the one"):
            client.get("oss://bucket/k", if_match="A")


def test_all_bytes_are_of_the_version_that_met_the_condition() -> None:
    def answer(exchange: Exchange) -> None:
        if exchange.request.method == "HEAD":
            exchange.reply(Answer(200, {"etag": '"A"', "x-oss-request-id": "ID"}), length=5)
        else:
            matched.append(exchange.request.headers["if-match"])
            exchange.reply(Answer(412, {"x-oss-request-id": "ID"}))

    matched: list[str] = []
    with ScriptedServer(answer) as server:
        config = OssConfig(access_key_id="id", access_key_secret="secret")
        client = OssClient(server.endpoint, region="cn-hangzhou", config=config)
        with pytest.raises(OssIntegrityError, match="was replaced while it was being read"):
            client.get("oss://bucket/k", if_none_match="B")
    assert matched == ['"A"']


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        ({"if_match": 5}, "if_match must be an ETag as a string, not int"),
        ({"if_none_match": "a\r\nx: y"}, r"if_none_match holds '\\r'"),
        ({"if_match": ""}, "if_match is empty"),
        ({"if_modified_since": "yesterday"}, "if_modified_since must be a datetime, not str"),
        ({"if_unmodified_since": datetime(2020, 1, 1)}, "if_unmodified_since is a time without a zone"),  # noqa: DTZ001
    ],
)
def test_a_condition_that_cannot_be_sent_is_reported(client: OssClient, conditions: Any, message: str) -> None:
    for read in (client.get, client.stat):
        with pytest.raises(OssConfigError, match=message):
            read("oss://bucket/k", **conditions)


def test_files_of_this_machine_have_no_conditions(tmp_path: Any) -> None:
    (tmp_path / "k").write_bytes(b"0123456789")
    client = LocalClient()
    assert client.get(f"{tmp_path}/k", 2, 5) == b"234"
    with pytest.raises(OssConfigError, match="conditions are for objects of OSS"):
        client.get(f"{tmp_path}/k", if_match="A")
    assert next(iter(OssIterableDataset.from_prefix(f"{tmp_path}/", ""))).read() == b"0123456789"
