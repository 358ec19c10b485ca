"""A pickle holds configuration, names and bytes, but no secret, no native client and no unfinished upload."""

import contextlib
import copy
import multiprocessing
import os
import pickle
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.context import set_spawning_popen
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import pytest

from osstorchconnector import (
    DataObject,
    OssClient,
    OssConfig,
    OssCredentialsError,
    OssIterableDataset,
    OssMapDataset,
    new_data_object,
)
from osstorchconnector._native import Client, ObjectTable, Order
from tests.border.programs import BUCKET, LARGE, client_of, stream_of, uri
from tests.faults.objects import ObjectServer

SECRET = "secret-that-must-not-travel"
TOKEN = "token-that-must-not-travel"
CONTENTS = {"a b+c": b"line 1\nline 2\n", "empty": b"", "large": LARGE}
EXPLICIT = OssConfig(access_key_id="id", access_key_secret=SECRET, security_token=TOKEN)
PROTOCOLS = range(2, pickle.HIGHEST_PROTOCOL + 1)


class Provider:
    """A provider with a secret of its own."""

    def __init__(self) -> None:
        self.access_key_id = "id"
        self.access_key_secret = SECRET

    def get_credentials(self) -> "Provider":
        return self


@pytest.fixture
def server() -> Iterator[ObjectServer]:
    with ObjectServer(CONTENTS) as server:
        yield server


@pytest.fixture
def cred_path(tmp_path: Path) -> str:
    path = tmp_path / "credentials.json"
    path.write_text(f'{{"AccessKeyId": "id", "AccessKeySecret": "{SECRET}", "SecurityToken": "{TOKEN}"}}')
    return str(path)


class Starter:
    """The object that gives descriptors to a process that multiprocessing starts; here they stay in this process."""

    def duplicate_for_child(self, descriptor: int) -> int:
        return os.dup(descriptor)

    def DupFd(self, descriptor: int) -> "Descriptor":  # noqa: N802 - multiprocessing's name
        return Descriptor(descriptor)


class Descriptor:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def detach(self) -> int:
        return self._descriptor


@contextlib.contextmanager
def spawning() -> Iterator[None]:
    """Pickle as multiprocessing does while it starts a process."""
    set_spawning_popen(Starter())  # type: ignore[arg-type]
    try:
        yield
    finally:
        set_spawning_popen(None)


def fetched(server: ObjectServer, name: str) -> DataObject:
    return next(stream_of(client_of(server.endpoint)._native_client, name))


def opened(server: ObjectServer, name: str) -> DataObject:
    return client_of(server.endpoint).open(uri(name))


def listed(server: ObjectServer, name: str) -> DataObject:
    return next(client_of(server.endpoint).list(uri(name)))


def partly_read(server: ObjectServer, name: str) -> DataObject:
    item = opened(server, name)
    item.read(5)
    return item


WAYS: list[Callable[[ObjectServer, str], DataObject]] = [fetched, opened, listed, partly_read]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", CONTENTS)
@pytest.mark.parametrize("way", WAYS)
def test_an_object_is_pickled_with_its_bytes(server: ObjectServer, way: Any, name: str, protocol: int) -> None:
    item = way(server, name)
    position = item.tell()
    pickled = pickle.dumps(item, protocol)
    # The original has not changed.
    assert item.tell() == position
    assert item.read() == CONTENTS[name][position:]
    server.stop()
    restored = pickle.loads(pickled)
    assert restored.tell() == 0
    assert restored.read() == CONTENTS[name]
    for field in ("uri", "key", "bucket", "name", "size", "label", "etag"):
        assert getattr(restored, field) == getattr(item, field)


def test_a_label_is_pickled(server: ObjectServer) -> None:
    item = pickle.loads(pickle.dumps(fetched(server, "a b")))
    assert item.label == ""
    from osstorchconnector._native import data_object_from_bytes  # noqa: PLC0415 - private, and only needed here

    labelled = data_object_from_bytes(uri("a"), b"content", "etag", "cat")
    assert pickle.loads(pickle.dumps(labelled)).label == "cat"


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, DataObject.copy])
def test_a_copy_is_independent(server: ObjectServer, duplicate: Callable[[DataObject], DataObject]) -> None:
    item = fetched(server, "a b")
    item.read(3)
    twin = duplicate(item)
    assert twin.read() == CONTENTS["a b+c"]
    assert item.read() == CONTENTS["a b+c"][3:]


def test_a_description_without_a_client_has_no_bytes_to_pickle() -> None:
    with pytest.raises(ValueError, match="without a client"):
        pickle.dumps(new_data_object(uri("a"), 10))


def test_a_closed_object_does_not_pickle(server: ObjectServer) -> None:
    item = fetched(server, "a b")
    item.close()
    with pytest.raises(ValueError, match="closed"):
        pickle.dumps(item)


def test_an_object_that_cannot_be_read_says_why(server: ObjectServer) -> None:
    item = listed(server, "a b")
    del server.contents["a b+c"]
    with pytest.raises(FileNotFoundError):
        pickle.dumps(item)


@pytest.mark.parametrize("circumstances", [spawning, contextlib.nullcontext])
def test_native_values_do_not_pickle(server: ObjectServer, circumstances: Any) -> None:
    client = client_of(server.endpoint)
    native = client._native_client
    with client.writer(uri("written")) as writer:
        ranges = native.range_fetcher([], allocate=bytearray, gap=0, run_limit=1, concurrency=1, budget=1)
        for handle in (native, stream_of(native, ""), client.list(uri("")), writer, ranges):
            for duplicate in (pickle.dumps, copy.copy, copy.deepcopy):
                with circumstances(), pytest.raises(TypeError, match="pickle"):
                    duplicate(handle)


def table_of(native: Client) -> ObjectTable:
    found = native.list(BUCKET, "")
    return ObjectTable.from_objects((item.bucket, item.name, item.size, item.etag, "", None) for item in found)


def test_a_table_is_pickled(server: ObjectServer) -> None:
    native = client_of(server.endpoint)._native_client
    table = table_of(native)
    for protocol in PROTOCOLS:
        restored = pickle.loads(pickle.dumps(table, protocol))
        assert [restored[index].uri for index in range(len(restored))] == [uri(name) for name in sorted(CONTENTS)]
        assert [restored[index].size for index in range(3)] == [len(CONTENTS[name]) for name in sorted(CONTENTS)]
        assert [item.read() for item in native.fetch(restored, [0, 1])] == [CONTENTS["a b+c"], b""]


@pytest.mark.parametrize("damage", [slice(0, 7), slice(0, -1), slice(1, None), slice(0, 0)])
def test_a_damaged_table_is_refused(server: ObjectServer, damage: slice) -> None:
    table = table_of(client_of(server.endpoint)._native_client)
    reduced: Any = table.__reduce__()
    rebuild, (packed,) = reduced
    with pytest.raises(ValueError, match="pickled ObjectTable"):
        rebuild(packed[damage])


def test_a_client_is_pickled_as_configuration(server: ObjectServer, cred_path: str) -> None:
    client = OssClient(server.endpoint, cred_path, region="cn-hangzhou", config=OssConfig(max_attempts=2))
    assert client.get(uri("a b+c")) == CONTENTS["a b+c"]
    for protocol in PROTOCOLS:
        pickled = pickle.dumps(client, protocol)
        assert SECRET.encode() not in pickled
        assert TOKEN.encode() not in pickled
        assert cred_path.encode() in pickled
        restored = pickle.loads(pickled)
        assert restored.config == client.config
        assert restored.get(uri("a b+c")) == CONTENTS["a b+c"]


def test_a_clients_environment_is_not_pickled(server: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", SECRET)
    client = OssClient(server.endpoint, region="cn-hangzhou")
    assert client.get(uri("a b+c")) == CONTENTS["a b+c"]
    assert SECRET.encode() not in pickle.dumps(client)


def with_explicit_key(server: ObjectServer) -> dict[str, Any]:
    return {"endpoint": server.endpoint, "region": "cn-hangzhou", "config": EXPLICIT}


def with_provider(server: ObjectServer) -> dict[str, Any]:
    return {"endpoint": server.endpoint, "region": "cn-hangzhou", "cred_provider": Provider()}


HOLDERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "client": lambda connection: OssClient(**connection),
    "iterable prefix": lambda connection: OssIterableDataset.from_prefix(uri(""), **connection),
    "iterable objects": lambda connection: OssIterableDataset.from_objects(uri("a"), **connection),
    "map prefix": lambda connection: OssMapDataset.from_prefix(uri(""), **connection),
    "map objects": lambda connection: OssMapDataset.from_objects(uri("a"), **connection),
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("how", [with_explicit_key, with_provider])
@pytest.mark.parametrize("holder", HOLDERS.values(), ids=HOLDERS)
def test_a_secret_is_pickled_only_to_start_a_process(
    server: ObjectServer, holder: Any, how: Any, protocol: int
) -> None:
    held = holder(how(server))
    with pytest.raises(OssCredentialsError, match="give cred_path or environment variables instead"):
        pickle.dumps(held, protocol)
    with spawning():
        pickled = ForkingPickler.dumps(held, protocol)
    restored = pickle.loads(pickled)
    assert type(restored) is type(held)
    with pytest.raises(OssCredentialsError, match="cred_path"):
        pickle.dumps(restored, protocol)


@pytest.mark.parametrize("given", ["access_key_id", "security_token"])
def test_a_configuration_with_any_part_of_a_key_does_not_pickle(given: str) -> None:
    assert getattr(EXPLICIT, given)
    with pytest.raises(OssCredentialsError, match="cred_path"):
        pickle.dumps(EXPLICIT)
    with spawning():
        assert pickle.loads(pickle.dumps(EXPLICIT)) == EXPLICIT
    without = EXPLICIT.without_secrets()
    assert pickle.loads(pickle.dumps(without)) == without


def test_a_secret_does_not_pass_through_a_queue(server: ObjectServer) -> None:
    client = OssClient(**with_explicit_key(server))
    # A queue pickles in its own thread, perhaps while this thread starts a process.
    with spawning(), ThreadPoolExecutor(1) as thread:
        pickled = thread.submit(pickle.dumps, client)
        with pytest.raises(OssCredentialsError, match="cred_path"):
            pickled.result()


def read_in_child(dataset: Any, results: Any) -> None:
    results.put([item.read() for item in dataset])


@pytest.mark.slow(60)
@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
@pytest.mark.parametrize("how", [with_explicit_key, with_provider])
def test_a_started_process_gets_the_secret(server: ObjectServer, how: Any, method: Any) -> None:
    context = multiprocessing.get_context(method)
    dataset = OssMapDataset.from_prefix(uri(""), **how(server))
    results = context.SimpleQueue()
    process = context.Process(target=read_in_child, args=(dataset, results))
    process.start()
    assert results.get() == [CONTENTS[name] for name in sorted(CONTENTS)]
    process.join()
    assert process.exitcode == 0


@pytest.mark.parametrize("kind", [OssIterableDataset, OssMapDataset])
def test_started_processes_read_named_objects_from_one_file(
    server: ObjectServer, cred_path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Any
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    names = [f"{number:050}" for number in range(50_000)]
    uris = [*map(uri, names), uri("a b+c"), uri("empty")]
    dataset = kind.from_objects(uris, server.endpoint, cred_path=cred_path, region="cn-hangzhou")
    table = dataset._listing.rows
    with spawning():
        pickles = [ForkingPickler.dumps(dataset) for _ in range(8)]
    assert max(len(pickled) for pickled in pickles) < 4000
    workers = [pickle.loads(pickled) for pickled in pickles]
    with spawning():
        # A process that a started process starts.
        workers.append(pickle.loads(ForkingPickler.dumps(workers[0])))
    del dataset
    for worker in workers:
        rows = worker._listing.rows
        assert [rows.digest(count) for count in (50_002, 1000)] == [table.digest(50_002), table.digest(1000)]
        last = worker._listing.stream_at([50_000, 50_001, 50_000])
        assert [item.read() for item in last] == [CONTENTS["a b+c"], b"", CONTENTS["a b+c"]]
    order = Order(shuffle=True, seed=5)
    positions = [position for position in range(50_002) if order.entry(position, 50_002) >= 50_000]
    for position in positions:
        entry = order.entry(position, 50_002)
        stream = workers[0]._listing.stream(Order(shuffle=True, seed=5, skip=position))
        assert next(stream).name == uris[entry].removeprefix(uri(""))
        stream.close()
    # Any other pickle contains the rows.
    restored = pickle.loads(pickle.dumps(workers[0]))
    assert restored._listing.rows.digest(50_002) == table.digest(50_002)
    files = [os.fstat(worker._listing._source._shared) for worker in workers]
    assert {(file.st_ino, file.st_nlink) for file in files} == {(files[0].st_ino, 0)}
    assert list(temporary.iterdir()) == []
