"""``oss://`` in fsspec."""

import time

import fsspec
import pytest
from fsspec.registry import _registry

from osstorchconnector import OssClient, OssConfigError, OssError, WriteOptions
from osstorchconnector.connection.unfinished_uploads import find_unfinished
from osstorchconnector.fsspec.file_system import OssObjects, register


@pytest.fixture(autouse=True)
def registered(client: OssClient, monkeypatch: pytest.MonkeyPatch) -> None:
    # Another test may use ossfs in this process.
    monkeypatch.setitem(_registry, "oss", OssObjects)
    monkeypatch.setattr(OssObjects, "client", client)


def test_objects_are_listed_read_and_written(client: OssClient, bucket: str) -> None:
    for key in ("a", "run/b", "run/deep/c"):
        client.put(f"oss://{bucket}/{key}", b"content")
    system, path = fsspec.core.url_to_fs(f"oss://{bucket}/run")
    assert path == f"{bucket}/run"
    assert system.ls(path, detail=False) == [f"{bucket}/run/b", f"{bucket}/run/deep"]
    assert system.ls(f"{path}/b", detail=False) == [f"{bucket}/run/b"]
    assert [system.exists(f"{bucket}/{name}") for name in ("a", "run", "run/deep", "ru", "b")] == [True] * 3 + [
        False
    ] * 2
    assert (system.isdir(path), system.isfile(path), system.isfile(f"{path}/b")) == (True, False, True)
    assert system.exists(bucket)
    assert not system.exists("no-such-bucket-here")
    with pytest.raises(FileNotFoundError):
        system.ls(f"{bucket}/absent")
    with fsspec.open(f"oss://{bucket}/new", "w") as file:
        file.write("text")
    with fsspec.open(f"oss://{bucket}/new") as file:
        assert file.read() == b"text"
    assert abs(system.modified(f"{bucket}/new").timestamp() - time.time()) < 60
    system.cp_file(f"{bucket}/new", f"{bucket}/newer")
    system.rm(f"{bucket}/new")
    assert [item.name for item in client.list(f"oss://{bucket}/")] == ["a", "newer", "run/b", "run/deep/c"]
    with pytest.raises(OssConfigError, match="with mode 'xb': use"):
        fsspec.open(f"oss://{bucket}/new", "xb").open()


def append_and_fail(uri: str) -> None:
    with fsspec.open(uri, "ab") as file:
        file.write(b"three")
        raise ZeroDivisionError


def test_a_file_is_appended_to_as_a_whole(client: OssClient, bucket: str) -> None:
    system, name, uri = OssObjects(), f"{bucket}/log", f"oss://{bucket}/log"
    with system.open(name, "ab") as file:
        file.write(b"one")
    client.put(uri, b"one", options=WriteOptions(content_type="text/plain", metadata={"a": "1"}, storage_class="IA"))
    with system.open(name, "at") as file:
        file.write("two")
        assert client.get(uri) == b"one"
    assert client.get(uri) == b"onetwo"
    found = client.stat(uri)
    assert (found.content_type, found.metadata, found.storage_class) == ("text/plain", {"a": "1"}, "IA")
    with pytest.raises(ZeroDivisionError):
        append_and_fail(uri)
    assert client.get(uri) == b"onetwo"
    large = bytes(range(256)) * 40_000
    client.put(uri, large)
    with fsspec.open(uri, "ab") as file:
        assert file.tell() == len(large)
        file.write(b"end")
    assert client.get(uri) == large + b"end"


def test_what_cannot_be_read_is_not_appended_to(client: OssClient, bucket: str) -> None:
    uri = f"oss://{bucket}/cold"
    client.put(uri, b"old", options=WriteOptions(storage_class="ColdArchive"))
    with pytest.raises(OssError, match="restore"):
        OssObjects().open(f"{bucket}/cold", "ab")
    assert client.stat(uri).size == 3
    assert list(find_unfinished(client, f"oss://{bucket}/")) == []


def test_another_implementation_stays(client: OssClient) -> None:
    class Other(fsspec.AbstractFileSystem):  # type: ignore[misc]
        protocol = "oss"

    register(client)
    assert fsspec.get_filesystem_class("oss") is OssObjects
    fsspec.register_implementation("oss", Other, clobber=True)
    register(client)
    assert fsspec.get_filesystem_class("oss") is Other
