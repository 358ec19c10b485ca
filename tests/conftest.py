"""Shared by all tests: time limits, a clean environment, one emulator, and a bucket for each test."""

import gc
import multiprocessing
import os
import signal
import sys
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import suppress

# Workers of a DataLoader import it while they start. If the garbage collector runs during this import and deletes an
# object whose end imports something, the import breaks (CPython before 3.12). Forked workers find it imported already.
import numpy.random  # noqa: F401
import pytest

from osstorchconnector import OssClient, OssError
from osstorchconnector.testing import Emulator

LONGEST_SECONDS = 300
LARGE_BYTES = 1 << 20

# Importing torch takes two seconds of a processor. A forkserver that has torch spends them once, not for each worker.
# The forkserver does not import the package itself: a started process gets its data in a pickle and nothing else.
multiprocessing.set_forkserver_preload(["torch.utils.data"])

# The first urlopen of a process would keep the proxies that the environment has at that moment, which may be a test's.
urllib.request.install_opener(urllib.request.build_opener(urllib.request.ProxyHandler({})))

# A shell starts background programs with Ctrl-C ignored, and the programs that they start inherit that. Tests that
# interrupt a program would then wait forever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fast", action="store_true", help="run one case of each test that is not marked as slow")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--fast"):
        _keep_fast(config, items)
    for item in items:
        slow = item.get_closest_marker("slow")
        if slow is not None:
            (seconds,) = slow.args
            if seconds > LONGEST_SECONDS:
                raise pytest.UsageError(f"{item.nodeid}: slow({seconds}) is above {LONGEST_SECONDS} seconds")
            item.add_marker(pytest.mark.timeout(seconds))


def pytest_configure() -> None:
    # CPython 3.11 cannot parse a module while the garbage collector ends an object whose end parses something too:
    # "SystemError: AST constructor recursion depth mismatch".
    gc.disable()


def pytest_collection_finish() -> None:
    gc.enable()
    # Many tests run the garbage collector. It need not search what torch and pytest made until now, because that stays.
    gc.collect()
    gc.freeze()


def _keep_fast(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the first case of each test, unless it is marked as slow."""
    kept: dict[str, pytest.Item] = {}
    for item in items:
        if item.get_closest_marker("slow") is None:
            kept.setdefault(item.nodeid.partition("[")[0], item)
    selected = set(kept.values())
    config.hook.pytest_deselected(items=[item for item in items if item not in selected])
    items[:] = kept.values()


@pytest.fixture(autouse=True)
def _workers_end_with_their_test(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let no later test wait for the workers of a loader that an exception keeps in a cycle.

    The garbage collector ends the queues of such a loader first, so its workers hear nothing, and torch kills each
    after five seconds.
    """
    yield
    utilities = sys.modules.get("torch.utils.data._utils")
    if utilities is not None and multiprocessing.active_children():
        monkeypatch.setattr(utilities, "MP_STATUS_CHECK_INTERVAL", 0.1)
        gc.collect()


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    for name in os.environ:
        if name.startswith(("OSS_", "ALIBABA_CLOUD_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    # So tests find no access key of the developer, and look for none outside of this machine.
    monkeypatch.setenv("HOME", str(tmp_path_factory.getbasetemp() / "home"))
    monkeypatch.setenv("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true")


@pytest.fixture(scope="session")
def emulator() -> Iterator[Emulator]:
    """One server for all tests that write only to their own buckets, which they may open to everyone."""
    with Emulator(allow_public_access=True) as server:
        yield server


@pytest.fixture(scope="session")
def client(emulator: Emulator) -> OssClient:
    return emulator.client()


@pytest.fixture
def bucket(client: OssClient) -> Iterator[str]:
    """An empty bucket that no other test uses."""
    name = f"test-{uuid.uuid4().hex[:16]}"
    client.create_bucket(name)
    yield name
    # The server keeps objects in memory. What a test has protected or removed itself is small.
    with suppress(OssError):
        client.delete_many([item.uri for item in client.list(f"oss://{name}/") if item.size >= LARGE_BYTES])
