"""The model connector under the original's names, and what it reads ahead."""

import io
import json
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from osstorchconnector import (
    OssClient,
    OssConfigError,
    OssError,
    OssIntegrityError,
    OssModelConnector,
    OssNotFoundError,
)
from osstorchconnector.model_files import connector as connector_module
from osstorchconnector.model_files import prefetch
from osstorchconnector.model_files.prefetch import ModelObject
from osstorchconnector.testing import Emulator
from tests.model_files.conftest import FILES

BLOCK = 1 << 20


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(prefetch, "_BLOCK", BLOCK)
    (tmp_path / "shm").mkdir()
    monkeypatch.setattr(connector_module, "shared_memory_place", lambda: tmp_path / "shm/place")


@pytest.fixture
def make(emulator: Emulator) -> Callable[..., OssModelConnector]:
    return lambda **options: OssModelConnector(emulator.endpoint, emulator.cred_path, region=emulator.region, **options)


@pytest.fixture
def connector(make: Callable[..., OssModelConnector]) -> Iterator[OssModelConnector]:
    with make() as made:
        yield made


def binary(opened: object) -> ModelObject:
    assert isinstance(opened, ModelObject)
    return opened


def until(condition: Callable[[], bool]) -> None:
    limit = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.01)


def first_requests(emulator: Emulator, count: int) -> list[str]:
    until(lambda: len(emulator.requests(operation="GetObject")) >= count)
    return [str(request.key).rpartition("/")[2] for request in emulator.requests(operation="GetObject")]


@pytest.mark.parametrize("fast", [False, True])
def test_a_list(connector: OssModelConnector, model: str, bucket: str, fast: Any) -> None:
    found = connector.list(bucket, "models/", fast)
    assert [(item.name, item.size) for item in found] == [
        (f"models/llama/{name}", len(content)) for name, content in sorted(FILES.items())
    ]
    assert connector.list(bucket, "none", fast) == []
    assert model


def test_objects_are_streams(connector: OssModelConnector, client: OssClient, bucket: str) -> None:
    content = os.urandom(3 * BLOCK + 100)
    client.put(f"oss://{bucket}/a", content)
    with binary(connector.open(f"oss://{bucket}/a")) as opened:
        assert (opened.size, opened.name, opened.readable(), opened.seekable()) == (
            len(content),
            opened.uri,
            True,
            True,
        )
        assert opened.read(10) == content[:10]
        assert opened.tell() == 10
        buffer = bytearray(2 * BLOCK)
        assert opened.readinto(buffer) == 2 * BLOCK
        assert buffer == content[10 : 10 + 2 * BLOCK]
        assert opened.read() == content[10 + 2 * BLOCK :]
        assert opened.read() == opened.read(5) == b""
        assert opened.seek(-5, io.SEEK_END) == len(content) - 5
        assert opened.read(100) == content[-5:]
        assert opened.seek(0) == 0
        assert opened.readall() == content
        opened.seek(7)
        assert opened.seek(3, io.SEEK_CUR) == 10
        for wrong in ((-1, 0), (0, 7)):
            with pytest.raises(ValueError, match="cannot seek"):
                opened.seek(*wrong)
    for act in (opened.read, lambda: opened.seek(0), lambda: opened.readinto(bytearray(1))):
        with pytest.raises(ValueError, match="closed"):
            act()


def test_text_and_an_empty_object_and_one_that_is_missing(
    connector: OssModelConnector, client: OssClient, bucket: str
) -> None:
    client.put(f"oss://{bucket}/config.json", '{"ä": [1,\n2]}'.encode())
    client.put(f"oss://{bucket}/empty", b"")
    with connector.open(f"oss://{bucket}/config.json", False) as opened:  # noqa: FBT003 - the original's
        assert isinstance(opened, io.TextIOWrapper)
        assert json.load(opened) == {"ä": [1, 2]}
    assert binary(connector.open(f"oss://{bucket}/empty")).read() == b""
    with pytest.raises(OssNotFoundError):
        connector.open(f"oss://{bucket}/missing")
    with pytest.raises(OssConfigError):
        connector.open("no-uri")


def test_objects_are_read_ahead_in_the_order_of_opening(
    connector: OssModelConnector, client: OssClient, bucket: str, emulator: Emulator
) -> None:
    for name in "cab":
        client.put(f"oss://{bucket}/{name}", os.urandom(4 * BLOCK))
    emulator.clear_requests()
    opened = [binary(connector.open(f"oss://{bucket}/{name}")) for name in "cab"]
    # Nobody has read yet.
    keys = first_requests(emulator, 12)
    assert keys[:4] == ["c"] * 4
    assert sorted(keys) == sorted("cab" * 4)
    for stream in opened:
        assert all(block.done.wait(20) for block in stream._blocks)
    emulator.clear_requests()
    for stream, name in zip(opened, "cab", strict=True):
        assert stream.read() == client.get(f"oss://{bucket}/{name}")
    # They came from memory; the comparison fetched each once.
    assert len(emulator.requests(operation="GetObject")) == 3


def test_memory_is_bounded_and_given_back(
    make: Callable[..., OssModelConnector], client: OssClient, bucket: str, emulator: Emulator
) -> None:
    contents = {name: os.urandom(4 * BLOCK) for name in "abc"}
    for name, content in contents.items():
        client.put(f"oss://{bucket}/{name}", content)
    connector = make(memory=5 * BLOCK)

    def held() -> int:
        return connector._prefetcher._held

    opened = {name: binary(connector.open(f"oss://{bucket}/{name}")) for name in contents}
    until(lambda: held() == 5 * BLOCK)
    emulator.clear_requests()
    # The third has no room, and is read all the same.
    assert opened["c"].read() == contents["c"]
    assert held() <= 5 * BLOCK
    for name in "ab":
        assert opened[name].read() == contents[name]
        assert held() <= 5 * BLOCK
    # What was read makes room, and can be read again.
    opened["a"].seek(0)
    assert opened["a"].read() == contents["a"]
    for stream in opened.values():
        stream.close()
    until(lambda: held() == 0)
    assert make(memory=0).open(f"oss://{bucket}/a").read() == contents["a"]


def test_closing_while_it_is_read_ahead(
    connector: OssModelConnector, client: OssClient, bucket: str, emulator: Emulator
) -> None:
    client.put(f"oss://{bucket}/a", os.urandom(8 * BLOCK))
    with emulator.fault(operation="GetObject", delay=0.3):
        opened = connector.open(f"oss://{bucket}/a")
        first_requests(emulator, 1)
        opened.close()
    until(lambda: connector._prefetcher._held == 0 and connector._prefetcher._threads == 0)
    assert not [thread for thread in threading.enumerate() if thread.name == "osst-prefetch"]


def test_an_object_that_nobody_closes_gives_its_memory_back(
    connector: OssModelConnector, client: OssClient, bucket: str
) -> None:
    client.put(f"oss://{bucket}/a", os.urandom(2 * BLOCK))
    opened = binary(connector.open(f"oss://{bucket}/a"))
    assert len(opened.read()) == 2 * BLOCK
    del opened
    until(lambda: connector._prefetcher._held == 0)


def test_damage_is_noticed(connector: OssModelConnector, client: OssClient, bucket: str, emulator: Emulator) -> None:
    client.put(f"oss://{bucket}/a", bytes(2 * BLOCK))
    with emulator.fault(operation="GetObject", flip="middle", times=1):
        opened = binary(connector.open(f"oss://{bucket}/a"))
        with pytest.raises(OssIntegrityError):
            opened.read()


def test_an_object_that_is_replaced_meanwhile(
    make: Callable[..., OssModelConnector], client: OssClient, bucket: str
) -> None:
    client.put(f"oss://{bucket}/a", bytes(2 * BLOCK))
    opened = binary(make(memory=0).open(f"oss://{bucket}/a"))
    client.put(f"oss://{bucket}/a", bytes(3 * BLOCK))
    with pytest.raises(OssIntegrityError, match="replaced"):
        opened.read()


def test_threads_share_an_object(connector: OssModelConnector, client: OssClient, bucket: str) -> None:
    content = os.urandom(4 * BLOCK)
    client.put(f"oss://{bucket}/a", content)
    opened, parts = binary(connector.open(f"oss://{bucket}/a")), []
    threads = [threading.Thread(target=lambda: parts.append(opened.read(BLOCK))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(parts) == sorted(content[start : start + BLOCK] for start in range(0, 4 * BLOCK, BLOCK))


def test_a_forked_child_opens_its_own(connector: OssModelConnector, client: OssClient, bucket: str) -> None:
    client.put(f"oss://{bucket}/a", b"content")
    opened = binary(connector.open(f"oss://{bucket}/a"))
    assert opened.read(3) == b"con"
    child = os.fork()
    if child == 0:
        try:
            opened.read()
        except OssError as error:
            opened.close()
            os._exit(7 if "open it in this one" in str(error) else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert opened.read() == b"tent"
    with pytest.raises(TypeError, match="does not pickle"):
        pickle.dumps(opened)


def test_without_memory_or_threads_nobody_waits(
    connector: OssModelConnector, client: OssClient, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.put(f"oss://{bucket}/object", os.urandom(1000))

    def refuse(*_: Any, **__: Any) -> Any:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(prefetch, "bytearray", lambda count=0: refuse() if count else bytearray(), raising=False)
        opened: Any = connector.open(f"oss://{bucket}/object")
        with pytest.raises(MemoryError):
            opened.readinto(bytearray(1000))
    start = threading.Thread.start
    for _ in range(prefetch._THREADS):
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            with pytest.raises(MemoryError):
                connector.open(f"oss://{bucket}/object")
    assert threading.Thread.start is start
    opened = connector.open(f"oss://{bucket}/object")
    assert opened.read() == client.get(f"oss://{bucket}/object")


def test_a_prepared_directory(connector: OssModelConnector, client: OssClient, model: str, tmp_path: Path) -> None:
    directory = tmp_path / "model"
    connector.prepare_directory(f"{model}/", f"{directory}/")
    # Another process sees it too.
    program = (
        "import os, sys; print(sorted((os.path.relpath(os.path.join(d, f), sys.argv[1]),"
        "os.path.getsize(os.path.join(d, f))) for d, _, fs in os.walk(sys.argv[1]) for f in fs))"
    )
    out = subprocess.run([sys.executable, "-c", program, directory], check=True, capture_output=True, text=True).stdout
    assert out.strip() == str(sorted((name, len(content)) for name, content in FILES.items()))
    assert all((directory / name).read_bytes() == content for name, content in FILES.items())
    # Again, with a version that has other files.
    client.delete(f"{model}/empty.txt")
    client.put(f"{model}/new.txt", b"new")
    connector.prepare_directory(model, str(directory))
    assert (directory / "new.txt").read_bytes() == b"new"
    assert not (directory / "empty.txt").is_symlink()
    assert len(list((tmp_path / "shm/place").glob("*.lock"))) == 1
    with (directory / "config.json").open() as opened:
        connector.close()
        # A program that has it open keeps it.
        assert opened.read() == "{}"
    assert [path for path in directory.rglob("*") if not path.is_dir()] == []
    assert list((tmp_path / "shm/place").glob("*.lock")) == []
    connector.close()


def test_a_directory_that_has_something_else(connector: OssModelConnector, model: str, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/other.safetensors").write_bytes(b"mine")
    with pytest.raises(OssConfigError, match=r"has other\.safetensors: give an empty directory"):
        connector.prepare_directory(model, str(tmp_path / "model"))
    assert (tmp_path / "model/other.safetensors").read_bytes() == b"mine"
    with pytest.raises(OssConfigError, match="is a file: give a directory"):
        connector.prepare_directory(model, str(tmp_path / "model/other.safetensors"))
    with pytest.raises(OssNotFoundError, match="there is no model at"):
        connector.prepare_directory(f"{model}-2", str(tmp_path / "empty"))


@pytest.mark.parametrize("blob", ["../blob", f"../{'0a' * 16}", f"TMP/{'0a' * 16}"])
def test_links_of_others_stay(connector: OssModelConnector, model: str, tmp_path: Path, blob: str) -> None:
    # As the cache of Hugging Face has them.
    directory = tmp_path / "snapshot"
    directory.mkdir()
    (tmp_path / Path(blob).name).write_bytes(b"mine")
    (directory / "config.json").symlink_to(blob.replace("TMP", str(tmp_path)))
    with pytest.raises(OssConfigError, match=r"has config\.json: give an empty directory"):
        connector.prepare_directory(model, str(directory))
    assert (directory / "config.json").read_bytes() == b"mine"
    (directory / "config.json").unlink()
    connector.prepare_directory(model, str(directory))
    (directory / "mine").symlink_to("../blob")
    connector.close()
    assert [path.name for path in directory.rglob("*") if path.is_symlink()] == ["mine"]


def test_without_room_in_memory_it_is_on_the_disk(
    connector: OssModelConnector, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connector_module, "free_space", lambda _directory: 0)
    directory = tmp_path / "model"
    connector.prepare_directory(model, str(directory))
    assert all((directory / name).read_bytes() == content for name, content in FILES.items())
    # What a killed process left does not stand in the way.
    connector.prepare_directory(model, str(directory))
    assert (directory / "config.json").resolve().is_relative_to(directory.resolve())
    connector.close()
    assert [path for path in directory.rglob("*") if path.name in FILES] == []


def test_two_connectors_share_what_they_prepare(
    make: Callable[..., OssModelConnector], model: str, tmp_path: Path, emulator: Emulator
) -> None:
    first, second = make(), make()
    emulator.clear_requests()
    first.prepare_directory(model, str(tmp_path / "one"))
    second.prepare_directory(model, str(tmp_path / "two"))
    received = sum(request.response_bytes for request in emulator.requests(operation="GetObject"))
    # Each reads the index once more.
    assert received < sum(map(len, FILES.values())) + 1000
    first.close()
    assert (tmp_path / "two/config.json").read_bytes() == b"{}"
    second.close()
    assert list((tmp_path / "shm/place").glob("*.lock")) == []


def test_the_arguments(emulator: Emulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="endpoint must not be empty: give it, or set OSS_ENDPOINT"):
        OssModelConnector()
    monkeypatch.setenv("OSS_ENDPOINT", emulator.endpoint)
    monkeypatch.setenv("OSS_REGION", emulator.region)
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"prefetch": {"vcpus": 24, "workers": 32}, "fastList": {"vcpus": 2, "workers": 16}}))
    connector = OssModelConnector(cred_path=emulator.cred_path, config_path=str(config))
    with pytest.raises(OssConfigError, match="memory must be a number of bytes, not -1"):
        OssModelConnector(cred_path=emulator.cred_path, memory=-1)
    with pytest.raises(TypeError, match="does not pickle"):
        pickle.dumps(connector)
    assert emulator.access_key_secret not in repr(connector)
