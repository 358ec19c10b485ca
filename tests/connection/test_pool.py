"""The clients of one process share connections, the budget of bytes read ahead, and the files they may open."""

import contextlib
import gc
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from osstorchconnector import OssClient, OssConfig, OssIterableDataset
from osstorchconnector.connection.config import resolve
from osstorchconnector.connection.native_client import shared_identity
from osstorchconnector.testing import Emulator
from tests.border.running import Program

ENDPOINT = "http://127.0.0.1:1"
REGION = "cn-hangzhou"
MIB = 1 << 20


def shared(cred_path: str = "", cred_provider: object = None, region: str = REGION, **settings: Any) -> bytes:
    """Return what decides which clients share connections."""
    resolved = resolve(ENDPOINT, cred_path, "", cred_provider, region, OssConfig(**settings))
    return shared_identity(resolved, resolved.proxy.proxy_for(ENDPOINT))


class Provider:
    def get_credentials(self) -> Any: ...


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "key.json"
    path.write_text(json.dumps({"AccessKeyId": "id", "AccessKeySecret": "secret"}))
    return path


def test_clients_with_the_same_service_and_identity_share(key_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(key_file)
    monkeypatch.setenv("OSS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", "secret")
    provider = Provider()
    key = {"access_key_id": "id", "access_key_secret": "secret"}
    ways: list[Callable[[], bytes]] = [
        lambda: shared(path),
        lambda: shared(path, max_attempts=1, prefetch_bytes=MIB, read_timeout=1, part_size=MIB),
        lambda: shared(cred_provider=provider),
        lambda: shared(**key),
        shared,
        lambda: shared(anonymous=True),
    ]
    first, *others = [[way(), way()] for way in ways]
    assert first == others.pop(0)
    assert all(one == other for one, other in others)
    assert len({pair[0] for pair in [first, *others]}) == 1 + len(others)


def test_clients_that_differ_in_service_or_identity_do_not_share(
    key_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(key_file)
    bundle = tmp_path / "ca.pem"
    bundle.write_text("")
    monkeypatch.setenv("OSS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", "secret")
    key = {"access_key_id": "id", "access_key_secret": "secret"}
    kept = Provider(), Provider()
    all_different = [
        shared(path),
        shared(path, region="cn-beijing"),
        shared(path, proxy="http://proxy:3128"),
        shared(path, proxy="http://user:password@proxy:3128"),
        shared(path, ca_bundle=str(bundle)),
        shared(path, credential_refresh_seconds=1),
        *(shared(cred_provider=provider) for provider in kept),
        shared(**key),
        shared(**{**key, "access_key_secret": "other"}),
        shared(**key, security_token="token"),
        shared(),
        shared(anonymous=True),
    ]
    key_file.write_text(json.dumps({"AccessKeyId": "id", "AccessKeySecret": "changed secret"}))
    all_different.append(shared(path))
    monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", "changed")
    all_different.append(shared())
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    all_different.append(shared(path))
    assert len(set(all_different)) == len(all_different)


def test_what_decides_holds_no_secret(key_file: Path) -> None:
    assert b"secret" not in shared(str(key_file))


def test_a_source_that_fails_just_now_is_alone(key_file: Path) -> None:
    resolved = resolve(ENDPOINT, str(key_file), "", None, REGION, None)
    key_file.unlink()
    other = resolve(ENDPOINT, "", "", None, REGION, OssConfig(anonymous=True))
    assert shared_identity(resolved, None) != shared_identity(other, None)


def sockets() -> int:
    """Return how many sockets this process has open."""
    count = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            count += str(descriptor.readlink()).startswith("socket:")
    return count


needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open files are counted in /proc")


@pytest.fixture(scope="module")
def server() -> Iterator[Emulator]:
    """A server whose connections no other test uses."""
    with Emulator(buckets=["bkt"]) as emulator:
        client = emulator.client()
        for number in range(40):
            client.put(f"oss://bkt/small/{number:03}", b"x" * 1000)
        for number in range(24):
            client.put(f"oss://bkt/medium/{number:03}", bytes(MIB))
        del client
        yield emulator


@needs_proc
def test_one_connection_serves_all_clients_and_ends_with_the_last(server: Emulator) -> None:
    gc.collect()
    before = sockets()
    clients = [server.client() for _ in range(20)]
    for client in clients:
        client.get("oss://bkt/small/000")
    assert sockets() == before + 1
    kept = clients[7].reader("oss://bkt/small/000")
    del clients, client
    gc.collect()
    assert sockets() == before + 1
    kept.close()
    del kept
    gc.collect()
    assert sockets() == before


def names(server: Emulator, prefix: str, **settings: Any) -> Iterator[str]:
    config = OssConfig(**settings)
    dataset = OssIterableDataset.from_prefix(
        f"oss://bkt/{prefix}/", config=config, transform=lambda item: item.key, **server.connection
    )
    return iter(dataset)


def read_ahead(server: Emulator) -> int:
    """Return the bytes that have been fetched, once no more are."""
    count = -1
    while count != (count := sum(request.status == 200 for request in server.requests(operation="GetObject"))):
        time.sleep(0.3)
    return count * MIB


@pytest.mark.parametrize("streams", [1, 4, 10])
def test_the_budget_is_that_of_the_process(server: Emulator, streams: int) -> None:
    server.clear_requests()
    kept = [names(server, "medium", prefetch_bytes=8 * MIB) for _ in range(streams)]
    for stream in kept:
        next(stream)
    # Each stream may hold one object; the first of each was taken.
    most = 8 * MIB + streams * 2 * MIB
    assert (read_ahead(server)) <= most
    assert [sum(1 for _ in stream) for stream in kept] == [23] * streams


def test_a_paused_stream_leaves_memory_to_others(server: Emulator) -> None:
    paused = names(server, "medium", prefetch_bytes=8 * MIB)
    next(paused)
    read_ahead(server)
    server.clear_requests()
    other = names(server, "small", prefetch_bytes=8 * MIB)
    next(other)
    # More than the one object that a stream without room may hold.
    assert read_ahead(server) / MIB >= 10
    assert sum(1 for _ in other) == 39
    assert sum(1 for _ in paused) == 23


def test_many_streams_that_take_turns_neither_block_nor_starve_each_other(server: Emulator) -> None:
    # Room for less than one object of each.
    streams = [names(server, "medium", prefetch_bytes=8 * MIB) for _ in range(50)]
    for keys in zip(*streams, strict=True):
        assert len(set(keys)) == 1
    assert all(next(stream, None) is None for stream in streams)


def test_streams_of_several_threads_share(server: Emulator) -> None:
    counts: list[int] = []

    def read() -> None:
        counts.append(sum(1 for _ in names(server, "medium", prefetch_bytes=4 * MIB, io_threads=2)))

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert counts == [24] * 8


def test_streams_share_the_concurrency_evenly(server: Emulator) -> None:
    with server.fault(operation="GetObject", delay=0.02):
        server.clear_requests()
        # A pool of their own, in which no higher setting holds.
        limits = {"prefetch_concurrency": 6, "max_concurrency": 6, "credential_refresh_seconds": 31}
        streams = [names(server, "small", **limits) for _ in range(3)]
        for keys in zip(*streams, strict=True):
            assert len(set(keys)) == 1
        # Listing three prefixes is in flight too.
        assert server.peak_concurrency() <= 6 + 3


def test_a_client_with_a_lower_limit_keeps_it_in_a_pool_with_a_higher_one(server: Emulator) -> None:
    high = names(server, "small")
    assert sum(1 for _ in high) == 40
    with server.fault(operation="GetObject", delay=0.02):
        server.clear_requests()
        assert sum(1 for _ in names(server, "small", max_concurrency=2)) == 40
        assert server.peak_concurrency() <= 2


def test_clients_with_different_settings_keep_their_timeouts(server: Emulator) -> None:
    with server.fault(operation="GetObject", delay=0.5):
        patient = server.client()
        config = OssConfig(read_timeout=0.1, max_attempts=1)
        hasty = OssClient(server.endpoint, server.cred_path, region=server.region, config=config)
        patient.get("oss://bkt/small/000")
        with pytest.raises(Exception, match=r"0\.1 s"):
            hasty.get("oss://bkt/small/000")
        patient.get("oss://bkt/small/000")


@needs_proc
@pytest.mark.parametrize(
    ("files", "datasets", "pools", "own"),
    [(256, 60, 1, 0), (256, 60, 60, 0), (64, 1, 1, 0), (128, 20, 1, 0), (128, 1, 1, 90)],
)
def test_few_descriptors_slow_streams_down_and_stop_none(
    server: Emulator, files: int, datasets: int, pools: int, own: int
) -> None:
    # With the latency of the service, one stream grows to hundreds of requests.
    with (
        server.fault(operation="GetObject", delay=0.03),
        Program("descriptors", server.endpoint, server.cred_path, *map(str, (files, datasets, pools, own))) as program,
    ):
        program.expect(f"delivered {40 * datasets}")
        code, errors = program.end()
    assert code == 0
    assert errors.count("ulimit -n") <= 1


@needs_proc
def test_without_any_descriptor_the_error_names_the_limit(server: Emulator) -> None:
    with Program("no_descriptor", server.endpoint, server.cred_path) as program:
        program.expect("an idle connection made room")
        program.expect("reached the limit")
        program.expect("works again")
        assert program.end()[0] == 0


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS does not fork here")
def test_a_fork_while_threads_make_clients(server: Emulator) -> None:
    with Program("fork_while_connecting", server.endpoint, server.cred_path) as program:
        program.expect("children ended")
        assert program.end()[0] == 0
