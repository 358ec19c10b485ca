"""What OpenDAL does with the emulator, in both styles of addresses and over connections of its own."""

import asyncio
import urllib.request
from collections.abc import Iterator
from typing import Any

import opendal
import pytest
from opendal.exceptions import ConditionNotMatch, NotFound, PermissionDenied

from osstorchconnector.testing import Emulator

from .keys import HOSTILE_KEYS

BUCKET = "opendal"
DOMAIN = "oss.emulator.test"


# OpenDAL reads the proxy of the environment once for its process.
@pytest.fixture(scope="session")
def server() -> Iterator[Emulator]:
    with Emulator(buckets=[BUCKET], domain=DOMAIN) as started:
        yield started


def arguments(server: Emulator, style: str) -> dict[str, str]:
    return {
        "bucket": BUCKET,
        "endpoint": server.endpoint if style == "path" else f"http://{DOMAIN}",
        "addressing_style": style,
        "access_key_id": server.access_key_id,
        "access_key_secret": server.access_key_secret,
    }


@pytest.fixture(params=["path", "virtual"])
def settings(request: pytest.FixtureRequest, server: Emulator, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    # No name server knows the domain, so the emulator stands for the proxy, too.
    monkeypatch.setenv("http_proxy", server.endpoint)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return arguments(server, request.param)


@pytest.fixture
def operator(settings: dict[str, str]) -> Iterator[opendal.Operator]:
    made = opendal.Operator("oss", **settings)
    made.check()
    yield made
    made.remove_all("")
    assert list(made.list("")) == []


def paths(operator: opendal.Operator, path: str, **options: Any) -> list[str]:
    # It puts directories first.
    return sorted(entry.path for entry in operator.list(path, **options))


def test_objects_are_written_read_and_removed(operator: opendal.Operator) -> None:
    for key in HOSTILE_KEYS.values():
        if "//" in key or key != key.strip():
            # It normalizes paths, and cannot name such keys.
            continue
        operator.write(key, f"content of {key}".encode())
        assert operator.read(key) == f"content of {key}".encode()
        assert paths(operator, "", recursive=True) == [key]
        operator.delete(key)
        assert not operator.exists(key)
    operator.delete("never-written")


def test_an_object_is_described(operator: opendal.Operator) -> None:
    operator.write("a", b"abc", content_type="text/x-a", cache_control="no-cache", user_metadata={"color": "blue"})
    found = operator.stat("a")
    assert (found.content_length, found.etag) == (3, '"900150983CD24FB0D6963F7D28E17F72"')
    assert (found.content_type, found.user_metadata) == ("text/x-a", {"color": "blue"})
    assert found.last_modified is not None


def test_ranges_are_read(operator: opendal.Operator) -> None:
    content = bytes(range(256)) * 400
    operator.write("a", content)
    assert operator.read("a", offset=1000, size=7) == content[1000:1007]
    assert operator.read("a", offset=102_000) == content[102_000:]
    with operator.open("a", "rb") as file:
        file.seek(-5, 2)
        assert file.read() == content[-5:]


def test_an_object_is_written_in_parts(operator: opendal.Operator) -> None:
    with operator.open("large", "wb", chunk=200_000) as file:
        for number in range(3):
            file.write(bytes([number]) * 200_000)
    assert operator.read("large") == b"".join(bytes([number]) * 200_000 for number in range(3))


def test_directories_are_listed_and_removed(operator: opendal.Operator) -> None:
    names = ["a", "b/c", "b/d/e", "b/d/f"]
    for name in names:
        operator.write(name, b"1")
    operator.create_dir("empty/")
    assert paths(operator, "") == ["a", "b/", "empty/"]
    assert paths(operator, "b/") == ["b/c", "b/d/"]
    assert paths(operator, "", recursive=True) == [*names, "empty/"]
    assert paths(operator, "", recursive=True, start_after="b/c") == ["b/d/e", "b/d/f", "empty/"]
    operator.remove_all("b/")
    assert paths(operator, "", recursive=True) == ["a", "empty/"]


def test_objects_are_copied(operator: opendal.Operator) -> None:
    operator.write("from", b"abc")
    operator.copy("from", "d/to +%")
    assert operator.read("d/to +%") == b"abc"


def test_refusals_have_their_class(operator: opendal.Operator, settings: dict[str, str]) -> None:
    with pytest.raises(NotFound, match="NoSuchKey"):
        operator.read("missing")
    with pytest.raises(NotFound):
        operator.stat("missing")
    operator.write("a", b"1", if_not_exists=True)
    with pytest.raises(ConditionNotMatch, match="FileAlreadyExists"):
        operator.write("a", b"2", if_not_exists=True)
    with pytest.raises(ConditionNotMatch):
        operator.read("a", if_match='"wrong"')
    with pytest.raises(PermissionDenied, match="SignatureDoesNotMatch"):
        opendal.Operator("oss", **{**settings, "access_key_secret": "wrong"}).read("a")


def test_a_signed_url_works_without_a_key(settings: dict[str, str], operator: opendal.Operator) -> None:
    operator.write("a b", b"abc")

    async def sign() -> opendal.types.PresignedRequest:
        return await opendal.AsyncOperator("oss", **settings).presign_read("a b", 60)

    signed = asyncio.run(sign())
    request = urllib.request.Request(signed.url, method=signed.method)
    with urllib.request.build_opener().open(request) as answer:
        assert answer.read() == b"abc"
