"""Writing through fsspec: what publishes an object, and transactions."""

# ruff: noqa: PT012, PT031 - blocks that raise and warn are what is tested

import contextlib
import gc
from collections.abc import Callable
from typing import Any

import fsspec
import pytest

from osstorchconnector import OssClient, OssConfigError, OssPermissionError
from osstorchconnector.testing import Emulator

PREVIOUS = b"the whole one before"


@pytest.fixture
def uri(client: OssClient, bucket: str) -> str:
    uri = f"oss://{bucket}/object"
    client.put(uri, PREVIOUS)
    return uri


def by_open_file(uri: str, mode: str, compression: str | None) -> Any:
    return fsspec.open(uri, mode, compression=compression)


def by_file_system(uri: str, mode: str, compression: str | None) -> Any:
    return fsspec.filesystem("oss").open(uri, mode, compression=compression)


@pytest.mark.parametrize("compression", [None, "gzip", "bz2", "xz"])
@pytest.mark.parametrize(("mode", "content"), [("wb", b"content"), ("wt", "content"), ("w", "content")])
@pytest.mark.parametrize("opened", [by_open_file, by_file_system])
def test_a_block_publishes_at_its_end_and_nothing_if_it_raises(
    client: OssClient, uri: str, opened: Callable[..., Any], mode: str, content: Any, compression: str | None
) -> None:
    is_own_block = opened is by_file_system and mode == "wb" and compression is None
    warning = contextlib.nullcontext() if is_own_block else pytest.warns(RuntimeWarning, match="KeyError was being")
    with warning, pytest.raises(KeyError) as caught, opened(uri, mode, compression) as file:
        file.write(content)
        raise KeyError
    notes = getattr(caught.value, "__notes__", [])
    assert is_own_block or "is not published" in notes[0]
    assert client.get(uri) == PREVIOUS
    with opened(uri, mode, compression) as file:
        file.write(content)
    with fsspec.open(uri, "rb", compression=compression) as file:
        assert file.read() == b"content"


@pytest.mark.parametrize("mode", ["wb", "wt"])
def test_a_compressed_file_that_is_lost_publishes_nothing(client: OssClient, uri: str, mode: str) -> None:
    file = fsspec.filesystem("oss").open(uri, mode, compression="gzip")
    file.write(b"part" if mode == "wb" else "part")
    with pytest.warns(RuntimeWarning, match="collected without close"):
        del file
        gc.collect()
    assert client.get(uri) == PREVIOUS


def test_a_file_can_seek(client: OssClient, bucket: str, uri: str) -> None:
    system = fsspec.filesystem("oss")
    with system.open(uri, "wb", seekable=True) as file:
        file.write(b"second")
        file.seek(0)
        file.write(b"S")
    assert client.get(uri) == b"Second"
    with system.transaction:
        with system.open(f"oss://{bucket}/other", "wb", seekable=True) as other:
            other.write(b"whole")
        assert [item.name for item in client.list(f"oss://{bucket}/")] == ["object"]
    assert client.get(f"oss://{bucket}/other") == b"whole"


def test_a_transaction_publishes_everything_at_its_end(client: OssClient, bucket: str, uri: str) -> None:
    system = fsspec.filesystem("oss")
    with system.transaction:
        with system.open(uri, "wb") as first:
            first.write(b"first")
        with system.open(f"oss://{bucket}/text", "w") as second:
            second.write("second")
        with system.open(f"oss://{bucket}/packed", "wb", compression="gzip") as third:
            third.write(b"third")
        system.pipe_file(f"oss://{bucket}/piped", b"fourth")
        assert [item.name for item in client.list(f"oss://{bucket}/")] == ["object"]
        assert client.get(uri) == PREVIOUS
    assert client.get(uri) == b"first"
    assert client.get(f"oss://{bucket}/text") == b"second"
    with system.open(f"oss://{bucket}/packed", compression="gzip") as packed:
        assert packed.read() == b"third"
    assert client.get(f"oss://{bucket}/piped") == b"fourth"
    # The transaction is over.
    with system.open(uri, "wb") as again:
        again.write(b"again")
    assert client.get(uri) == b"again"


def test_an_abandoned_transaction_publishes_nothing(client: OssClient, bucket: str, uri: str) -> None:
    system = fsspec.filesystem("oss")
    with pytest.raises(KeyError), system.transaction:
        with system.open(uri, "wb") as closed:
            closed.write(b"whole")
        system.open(f"oss://{bucket}/open", "wb").write(b"part")
        raise KeyError
    assert client.get(uri) == PREVIOUS
    assert client._native_client.list_uploads(bucket, "") == []
    system.pipe_file(uri, b"after")
    assert client.get(uri) == b"after"


def test_a_file_whose_block_raised_is_not_published_by_a_transaction_that_goes_on(
    client: OssClient, bucket: str, uri: str
) -> None:
    system = fsspec.filesystem("oss")
    with system.transaction:
        with pytest.raises(KeyError), system.open(uri, "wb") as file:
            file.write(b"part")
            raise KeyError
        system.pipe_file(f"oss://{bucket}/other", b"whole")
    assert client.get(uri) == PREVIOUS
    assert client.get(f"oss://{bucket}/other") == b"whole"


def test_a_file_that_is_open_at_the_end_of_a_transaction_is_an_error(client: OssClient, bucket: str, uri: str) -> None:
    system = fsspec.filesystem("oss")
    with pytest.raises(ValueError, match=rf"{uri} is still open at the end of its transaction"), system.transaction:
        system.pipe_file(f"oss://{bucket}/other", b"whole")
        file = system.open(uri, "wb")
        file.write(b"part")
    assert [item.name for item in client.list(f"oss://{bucket}/")] == ["object"]
    assert client.get(uri) == PREVIOUS
    assert file.aborted


def test_a_transaction_that_cannot_publish_says_so_and_ends() -> None:
    with Emulator(buckets=["bucket"]) as emulator:
        emulator.fault(operation="PutObject", key="second", error="AccessDenied")
        system = fsspec.filesystem("oss", client=emulator.client())
        with pytest.raises(OssPermissionError), system.transaction:
            for name in ("first", "second", "third"):
                system.pipe_file(f"bucket/{name}", b"whole")
        assert [item.name for item in emulator.client().list("oss://bucket/")] == ["first"]
        system.pipe_file("bucket/third", b"whole")
        assert emulator.client().get("oss://bucket/third") == b"whole"


def test_transactions_without_a_block_publish_too(client: OssClient, uri: str) -> None:
    system = fsspec.filesystem("oss")
    system.start_transaction()
    system.pipe_file(uri, b"whole")
    assert client.get(uri) == PREVIOUS
    system.end_transaction()
    assert client.get(uri) == b"whole"


@pytest.mark.parametrize("begin", ["block", "call"])
def test_a_transaction_inside_another_one_is_refused_and_nothing_is_published(
    client: OssClient, bucket: str, uri: str, begin: str
) -> None:
    system = fsspec.filesystem("oss")
    with pytest.raises(OssConfigError, match="in a transaction already"), system.transaction:
        with system.open(uri, "wb") as file:
            file.write(b"outer")
        if begin == "call":
            system.start_transaction()
        with system.transaction:
            pass
    assert client.get(uri) == PREVIOUS
    over = system.transaction
    with over, system.open(f"oss://{bucket}/other", "wb") as file:
        file.write(b"whole")
    assert client.get(f"oss://{bucket}/other") == b"whole"
    with pytest.raises(OssConfigError, match="is over"), over:
        pass


@pytest.mark.parametrize("is_closed", [True, False])
def test_a_compressed_file_is_published_by_commit(client: OssClient, uri: str, is_closed: bool) -> None:  # noqa: FBT001 - a case
    system = fsspec.filesystem("oss")
    for end in ("discard", "commit"):
        file = system.open(uri, "wb", autocommit=False, compression="gzip")
        file.write(b"content")
        if is_closed:
            file.close()
        assert client.get(uri) == PREVIOUS
        getattr(file, end)()
        file.close()
        if end == "discard":
            assert client.get(uri) == PREVIOUS
    with fsspec.open(uri, "rb", compression="gzip") as read:
        assert read.read() == b"content"
