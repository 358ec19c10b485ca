"""The text and the table by which a dataset describes itself."""

import copy
import operator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from osstorchconnector import DataObject, OssClient, OssConfig, OssIterableDataset, OssMapDataset
from osstorchconnector.dataset import listing
from osstorchconnector.dataset.snapshot import SnapshotWriter
from osstorchconnector.testing import Emulator

SECRET = "the-secret"
TOKEN = "the-token"


def decode(item: DataObject, _password: str = "") -> str:
    return item.name


def replaced(_error: Exception, item: DataObject) -> DataObject:
    return item


@pytest.fixture
def offline() -> dict[str, Any]:
    return {
        "endpoint": "oss-cn-hangzhou.aliyuncs.com",
        "config": OssConfig(access_key_id="the-id", access_key_secret=SECRET, security_token=TOKEN),
    }


def test_what_a_dataset_says_of_itself(emulator: Emulator, client: OssClient, bucket: str) -> None:
    for name in ("a/1", "a/2", "b/3"):
        client.put(f"oss://{bucket}/{name}", bytes(2000))
    dataset = OssIterableDataset.from_prefix(
        f"oss://{bucket}/a/", transform=decode, shuffle=True, seed=9, **emulator.connection
    )
    endpoint = emulator.connection["endpoint"]
    emulator.clear_requests()
    assert repr(dataset) == (
        f"OssIterableDataset('oss://{bucket}/a/', endpoint='{endpoint}', region='cn-hangzhou', transform=decode, "
        "shuffle=True, seed=9, epoch=0)"
    )
    assert "<th>objects</th><td>not listed yet</td>" in dataset._repr_html_()
    assert emulator.requests() == []
    list(dataset)
    assert "transform=decode, shuffle=True, seed=9, epoch=1)" in repr(dataset)
    assert ", objects=2, bytes=4000, transform=" in repr(dataset)
    table = dataset._repr_html_()
    for row in (
        f"<th>place</th><td>&#x27;oss://{bucket}/a/&#x27;</td>",
        "<th>objects</th><td>2</td>",
        "<th>bytes</th><td>3.9 KiB</td>",
        "<th>next epoch</th><td>1</td>",
    ):
        assert row in table
    images = OssMapDataset.from_prefix(f"oss://{bucket}/", **emulator.connection)
    assert len(images) == 3
    assert repr(images) == (
        f"OssMapDataset('oss://{bucket}/', endpoint='{endpoint}', region='cn-hangzhou', objects=3, bytes=6000)"
    )


def test_options_that_were_given_are_named(offline: dict[str, Any], tmp_path: Path) -> None:
    named = OssIterableDataset.from_objects(
        ["oss://bucket/a", "oss://bucket/b"],
        batch_size=4,
        shard=(1, 2),
        even="none",
        on_error={"missing": "skip", "transform": replaced},
        error_limit=3,
        advance_epochs=False,
        **offline,
    )
    assert repr(named) == (
        "OssIterableDataset('oss://bucket/a, ...', endpoint='https://oss-cn-hangzhou.aliyuncs.com', "
        "region='cn-hangzhou', objects=2, batch_size=4, shard=(1, 2), even='none', advance_epochs=False, "
        "on_error={'missing': 'skip', 'unreadable': 'raise', 'transform': replaced}, error_limit=3, epoch=0)"
    )
    archive = OssIterableDataset.from_tar(
        "oss://bucket/a.tar", None, shuffle=True, shuffle_chunk_size=50, on_error="substitute", **offline
    )
    assert "('oss://bucket/a.tar', " in repr(archive)
    assert "shuffle=True, shuffle_chunk_size=50, on_error='substitute', epoch=0)" in repr(archive)
    with (tmp_path / "snapshot").open("wb") as target:
        writer = SnapshotWriter(target, "bucket", "")
        writer.add("a", 5, "0" * 32)
        writer.finish()
    manifest = OssMapDataset.from_manifest_file(str(tmp_path / "snapshot"), None, "", **offline)
    assert repr(manifest).startswith(f"OssMapDataset('{tmp_path}/snapshot', ")
    assert "objects=1" in repr(manifest)


@pytest.fixture
def secretive(offline: dict[str, Any]) -> list[Any]:
    transform = partial(decode, _password="the-password")
    return [
        kind.from_prefix("oss://bucket/\x1b[2J<b>\u202e/", transform=transform, **offline)
        for kind in (OssIterableDataset, OssMapDataset)
    ]


def test_no_secret_and_no_control_character_is_shown(secretive: list[Any]) -> None:
    for dataset in (*secretive, *map(copy.copy, secretive)):
        for shown in (repr(dataset), str(dataset), dataset._repr_html_()):
            assert "transform" in shown
            assert not any(secret in shown for secret in ("the-id", SECRET, TOKEN, "the-password"))
            assert shown.isprintable()
        assert "<b>" not in dataset._repr_html_()


def test_it_raises_nothing(offline: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "snapshot").write_bytes(b'{"format": "osst-snapshot", "version": 1}\nrest')
    dataset = OssIterableDataset.from_manifest_file(
        str(tmp_path / "snapshot"), None, "", transform=operator.attrgetter("name"), **offline
    )
    assert "transform=attrgetter" in repr(dataset)
    assert "objects=" not in repr(dataset)


def test_the_sizes_of_a_long_listing_are_not_summed(
    emulator: Emulator, client: OssClient, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        client.put(f"oss://{bucket}/{number}", b"12")
    monkeypatch.setattr(listing, "_MOST_SUMMED", 2)
    dataset = OssMapDataset.from_prefix(f"oss://{bucket}/", **emulator.connection)
    assert len(dataset) == 3
    assert "objects=3)" in repr(dataset)
