"""The environment that ``oss://`` without storage options uses."""

from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from fsspec.registry import _registry

from osstorchconnector.fsspec import FsspecFileSystem, use_client
from osstorchconnector.testing import Emulator


@pytest.fixture(autouse=True)
def environment(emulator: Emulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    # Another test may use ossfs in this process, or Lightning's plugin, which brings its own client.
    use_client(None)
    monkeypatch.setitem(_registry, "oss", FsspecFileSystem)
    monkeypatch.setenv("OSS_ENDPOINT", emulator.endpoint)
    monkeypatch.setenv("OSS_REGION", emulator.region)
    monkeypatch.setenv("OSS_ACCESS_KEY_ID", emulator.access_key_id)
    monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", emulator.access_key_secret)
    monkeypatch.chdir(tmp_path)
    yield
    # A library that takes oss:// for a path writes there.
    assert not list(tmp_path.rglob("oss:*"))


@pytest.fixture
def files() -> FsspecFileSystem:
    system = fsspec.filesystem("oss")
    assert isinstance(system, FsspecFileSystem)
    return system
