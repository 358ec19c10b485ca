"""Copies of whole files and objects."""

import os
import sys
from pathlib import Path

import pytest

from osstorchconnector import OssClient
from osstorchconnector.files.transfer import Stopped, Transfer

LARGE = os.urandom(9 << 20)


def test_a_large_object_is_copied_in_parts(client: OssClient, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("osstorchconnector.connection.client._LARGEST_COPY", 1000)
    client.put(f"oss://{bucket}/a", LARGE)
    counts: list[int] = []
    Transfer(client, counts.append, (sys.stdin.buffer, sys.stdout.buffer)).run(f"oss://{bucket}/a", f"oss://{bucket}/b")
    assert client.get(f"oss://{bucket}/b") == LARGE
    assert sum(counts) == len(LARGE)


def test_a_transfer_that_is_stopped_leaves_nothing(client: OssClient, bucket: str, tmp_path: Path) -> None:
    client.put(f"oss://{bucket}/a", LARGE)
    counts: list[int] = []
    transfer = Transfer(client, counts.append, (sys.stdin.buffer, sys.stdout.buffer))
    transfer.stop()
    with pytest.raises(Stopped):
        transfer.run(f"oss://{bucket}/a", str(tmp_path / "a"))
    assert counts == []
    assert list(tmp_path.iterdir()) == []
