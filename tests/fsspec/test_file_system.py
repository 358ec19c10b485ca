"""``oss://`` in fsspec."""

import time

import fsspec
import pytest
from fsspec.registry import _registry

from osstorchconnector import OssClient, OssConfigError
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
    with pytest.raises(OssConfigError, match="with mode 'ab': use"):
        fsspec.open(f"oss://{bucket}/new", "ab").open()


def test_another_implementation_stays(client: OssClient) -> None:
    class Other(fsspec.AbstractFileSystem):  # type: ignore[misc]
        protocol = "oss"

    register(client)
    assert fsspec.get_filesystem_class("oss") is OssObjects
    fsspec.register_implementation("oss", Other, clobber=True)
    register(client)
    assert fsspec.get_filesystem_class("oss") is Other
