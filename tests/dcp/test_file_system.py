"""OSS as a file system of torch."""

import pickle
from pathlib import Path
from typing import Any

import pytest
from torch.distributed.checkpoint.filesystem import FileSystem, FileSystemBase

from osstorchconnector import (
    OssClient,
    OssConfigError,
    OssDCPFileSystem,
    OssFileSystem,
    OssNotFoundError,
    OssPermissionError,
)
from osstorchconnector.connection import client as client_module
from osstorchconnector.testing import Emulator


def test_a_stream_reads_what_a_stream_wrote(file_system: OssFileSystem, bucket: str) -> None:
    with file_system.create_stream(f"oss://{bucket}/a", "wb") as stream:
        stream.write(b"some bytes")
    with file_system.create_stream(f"oss://{bucket}/a", "rb") as stream:
        assert stream.read() == b"some bytes"
    with file_system.create_stream(f"oss://{bucket}/text", "w") as stream:
        stream.write("größer")
    with file_system.create_stream(f"oss://{bucket}/text", "r") as stream:
        assert stream.read() == "größer"


@pytest.mark.parametrize("mode", ["wb", "w"])
def test_a_block_that_raises_leaves_the_previous_object(
    file_system: OssFileSystem, client: OssClient, bucket: str, mode: str
) -> None:
    client.put(f"oss://{bucket}/a", b"before")

    def write() -> None:
        with file_system.create_stream(f"oss://{bucket}/a", mode) as stream:
            stream.write(b"new" if mode == "wb" else "new")
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        write()
    assert client.get(f"oss://{bucket}/a") == b"before"


@pytest.mark.parametrize("mode", ["a", "r+b", "xb", ""])
def test_other_modes_are_refused(file_system: OssFileSystem, bucket: str, mode: str) -> None:
    with pytest.raises(OssConfigError, match="opened with"), file_system.create_stream(f"oss://{bucket}/a", mode):
        pass


def test_paths_are_joined(file_system: OssFileSystem) -> None:
    assert file_system.concat_path("oss://bucket/a/", "b") == "oss://bucket/a/b"
    assert file_system.concat_path("oss://bucket", "/b/c") == "oss://bucket/b/c"
    assert file_system.init_path("oss://bucket/a//") == "oss://bucket/a"


def test_only_a_missing_object_does_not_exist(
    file_system: OssFileSystem, client: OssClient, emulator: Emulator, bucket: str
) -> None:
    client.put(f"oss://{bucket}/a", b"")
    assert file_system.exists(f"oss://{bucket}/a")
    assert not file_system.exists(f"oss://{bucket}/b")
    with emulator.fault(bucket=bucket, error="AccessDenied"), pytest.raises(OssPermissionError):
        file_system.exists(f"oss://{bucket}/b")


@pytest.mark.parametrize("name", ["plain", "with space", "ä+%[]?#&=", "a//b", "dots/../x", "~'\"<>"])
def test_rename_takes_any_name(file_system: OssFileSystem, client: OssClient, bucket: str, name: str) -> None:
    other = f"{bucket}-other"
    client.create_bucket(other)
    client.put(f"oss://{bucket}/{name}", b"content")
    file_system.rename(f"oss://{bucket}/{name}", f"oss://{bucket}/new {name}")
    assert not file_system.exists(f"oss://{bucket}/{name}")
    file_system.rename(f"oss://{bucket}/new {name}", f"oss://{other}/{name}")
    assert client.get(f"oss://{other}/{name}") == b"content"
    file_system.rename(f"oss://{other}/{name}", f"oss://{other}/{name}")
    assert client.get(f"oss://{other}/{name}") == b"content"


def test_renaming_a_missing_object_is_reported(file_system: OssFileSystem, bucket: str) -> None:
    with pytest.raises(OssNotFoundError):
        file_system.rename(f"oss://{bucket}/a", f"oss://{bucket}/b")


def test_removing_twice_is_no_error(file_system: OssFileSystem, client: OssClient, bucket: str) -> None:
    client.put(f"oss://{bucket}/a", b"")
    file_system.rm_file(f"oss://{bucket}/a")
    file_system.rm_file(f"oss://{bucket}/a")
    assert not file_system.exists(f"oss://{bucket}/a")


def test_ls_lists_what_is_directly_below(file_system: OssFileSystem, client: OssClient, bucket: str) -> None:
    for name in ("c/1", "c/d/2", "c/d/3", "c/e", "cc", "c/.metadata"):
        client.put(f"oss://{bucket}/{name}", b"")
    assert file_system.ls(f"oss://{bucket}/c/") == [f"oss://{bucket}/c/{name}" for name in (".metadata", "1", "d", "e")]
    assert file_system.ls(f"oss://{bucket}") == [f"oss://{bucket}/c", f"oss://{bucket}/cc"]
    assert file_system.ls(f"oss://{bucket}/nothing") == []


@pytest.mark.skipif(not hasattr(FileSystem, "ls"), reason="this torch's file system has no ls")
def test_ls_lists_what_torchs_file_system_lists(
    file_system: OssFileSystem, client: OssClient, bucket: str, tmp_path: Path
) -> None:
    # torch's own readers rely on this: not recursive, whole paths, with directories and hidden files.
    for name in ("a.safetensors", "b.safetensors", "config.json", ".metadata", "original/c.safetensors", "x/y/z"):
        client.put(f"oss://{bucket}/m/{name}", b"")
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    ours, torchs = file_system.ls(f"oss://{bucket}/m"), FileSystem().ls(tmp_path)
    assert all(isinstance(path, str) for path in [*ours, *torchs])
    assert {path.removeprefix(f"oss://{bucket}/m/") for path in ours} == {
        path.removeprefix(f"{tmp_path}/") for path in torchs
    }
    assert len(ours) == len(torchs) == 6


def test_it_has_every_abstract_method_of_torchs_file_system() -> None:
    assert FileSystemBase.__abstractmethods__ <= vars(OssFileSystem).keys()


def test_a_path_object_is_refused_with_the_reason(file_system: OssFileSystem) -> None:
    path: Any = Path("oss://bucket/a")
    for action in (file_system.init_path, file_system.writer, file_system.reader, file_system.mkdir):
        with pytest.raises(OssConfigError, match="makes one slash of the two"):
            action(path)
    with pytest.raises(OssConfigError, match="loses a slash"):
        file_system.reader(str(Path("oss://bucket/a")))


@pytest.mark.parametrize("path", ["/tmp/checkpoint", "s3://bucket/a", "bucket/a", "", "oss://", "oss://B/a"])
def test_a_path_that_is_no_uri_of_oss_is_refused(file_system: OssFileSystem, path: str) -> None:
    assert not OssFileSystem.validate_checkpoint_id(path)
    with pytest.raises(OssConfigError):
        file_system.writer(path)
    with pytest.raises(OssConfigError):
        file_system.reader(path)


def test_a_checkpoint_id_is_an_oss_uri() -> None:
    assert OssFileSystem.validate_checkpoint_id("oss://bucket/a")
    assert not OssFileSystem.validate_checkpoint_id(Path("oss://bucket/a"))


def test_it_has_the_documentations_other_name() -> None:
    assert OssDCPFileSystem is OssFileSystem


def test_it_and_its_writer_pickle(file_system: OssFileSystem, client: OssClient, bucket: str) -> None:
    client.put(f"oss://{bucket}/a", b"")
    assert pickle.loads(pickle.dumps(file_system)).exists(f"oss://{bucket}/a")
    writer = pickle.loads(pickle.dumps(file_system.writer(f"oss://{bucket}/c")))
    assert writer.checkpoint_id == f"oss://{bucket}/c"


def test_rename_takes_any_size_and_the_service_moves_the_bytes(
    file_system: OssFileSystem, client: OssClient, emulator: Emulator, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "_LARGEST_COPY", 1000)
    other = f"{bucket}-other"
    client.create_bucket(other)
    content = bytes(range(256)) * 4000
    client.put(f"oss://{bucket}/a ä+", content)
    emulator.clear_requests()
    file_system.rename(f"oss://{bucket}/a ä+", f"oss://{other}/b")
    asked = [request.operation for request in emulator.requests()]
    assert asked.count("UploadPartCopy") == 10
    assert "GetObject" not in asked
    assert client.get(f"oss://{other}/b") == content
    assert not file_system.exists(f"oss://{bucket}/a ä+")


def test_a_directory_and_a_bucket_exist(file_system: OssFileSystem, client: OssClient, bucket: str) -> None:
    assert file_system.exists(f"oss://{bucket}")
    assert not file_system.exists(f"oss://{bucket}-none")
    client.put(f"oss://{bucket}/step-1/.metadata", b"1")
    for path, there in [("step-1", True), ("step-1/", True), ("step", False), ("step-10", False)]:
        assert file_system.exists(f"oss://{bucket}/{path}") is there
        assert not file_system.is_object(f"oss://{bucket}/{path}")


def test_what_may_not_be_listed_is_no_directory(
    file_system: OssFileSystem, emulator: Emulator, client: OssClient, bucket: str
) -> None:
    client.put(f"oss://{bucket}/a", b"1")
    with emulator.fault(operation="ListObjectsV2", bucket=bucket, error="AccessDenied"):
        assert file_system.exists(f"oss://{bucket}/a")
        assert not file_system.exists(f"oss://{bucket}/b")
        with pytest.raises(OssPermissionError):
            file_system.exists(f"oss://{bucket}")
