"""The processes of a dataset share one listing."""

import gc
import logging
import operator
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import DataLoader

from osstorchconnector import (
    OssClient,
    OssConfig,
    OssIterableDataset,
    OssMapDataset,
    OssNotFoundError,
    OssPermissionError,
)
from osstorchconnector.testing import Emulator

NAMES = [f"{number:04}" for number in range(2500)]
PAGES = 3
NAME = operator.attrgetter("name")
METHODS = [
    pytest.param("fork"),
    pytest.param("forkserver", marks=pytest.mark.slow(120)),
    pytest.param("spawn", marks=pytest.mark.slow(120)),
]
Build = Callable[..., Any]


@pytest.fixture(scope="module")
def filled(client: OssClient) -> str:
    name = "test-one-listing"
    client.create_bucket(name)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda key: client.put(f"oss://{name}/{key}", b""), NAMES))
    return name


@pytest.fixture
def build(emulator: Emulator, filled: str) -> Iterator[Build]:
    # If a listing is split into segments, the number of requests depends on the keys.
    config = OssConfig(fast_list=False)

    def from_prefix(kind: Any = OssIterableDataset, **options: Any) -> Any:
        options = {"config": config, **options}
        return kind.from_prefix(f"oss://{filled}/", transform=NAME, **emulator.connection, **options)

    emulator.clear_requests()
    yield from_prefix
    gc.collect()


def listings(emulator: Emulator) -> int:
    return len(emulator.requests(operation="ListObjectsV2"))


def load(dataset: Any, workers: int, method: str | None = "fork", **options: Any) -> DataLoader[Any]:
    context = method if workers else None
    return DataLoader(
        dataset, batch_size=100, num_workers=workers, multiprocessing_context=context, collate_fn=list, **options
    )


def names(loader: Any) -> list[str]:
    return sorted(chain.from_iterable(loader))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("kind", [OssIterableDataset, OssMapDataset])
def test_workers_list_once_and_never_again(
    emulator: Emulator, build: Build, kind: Any, method: str, *, persistent: bool
) -> None:
    # Each worker that is spawned imports torch.
    workers = 2 if method == "spawn" else 3
    loader = load(build(kind), workers, method, persistent_workers=persistent)
    for _ in range(2):
        assert names(loader) == NAMES
        assert listings(emulator) == PAGES


def test_one_process_without_workers_lists_once_too(emulator: Emulator, build: Build) -> None:
    dataset = build()
    for _ in range(2):
        assert list(dataset) == NAMES
        assert names(load(dataset, 2)) == NAMES
    assert listings(emulator) == PAGES


def test_a_fast_list_needs_few_more_requests(emulator: Emulator, build: Build) -> None:
    loader = load(build(config=None), 3)
    assert names(loader) == NAMES
    asked = listings(emulator)
    assert asked <= 1.1 * PAGES + 64
    assert names(loader) == NAMES
    assert listings(emulator) == asked


def test_two_loaders_at_once(emulator: Emulator, build: Build) -> None:
    dataset = build(batch_size=100)
    pairs = list(zip(load(dataset, 2), load(dataset, 3), strict=True))
    assert all(left == right for left, right in pairs)
    assert names(left for left, _ in pairs) == NAMES
    assert listings(emulator) == PAGES


def test_two_iterators_over_one_loader(emulator: Emulator, build: Build) -> None:
    loader = load(build(batch_size=100), 2)
    first = iter(loader)
    started = [next(first)]
    assert names(loader) == NAMES
    assert names([*started, *first]) == NAMES
    assert listings(emulator) == PAGES


def test_refreshing_lists_anew(emulator: Emulator, client: OssClient, bucket: str) -> None:
    client.put(f"oss://{bucket}/a", b"")
    dataset = OssIterableDataset.from_prefix(f"oss://{bucket}/", transform=NAME, **emulator.connection)
    loader = load(dataset, 2, persistent_workers=True)
    assert names(loader) == ["a"]
    client.put(f"oss://{bucket}/b", b"")
    assert names(loader) == ["a"]
    dataset.refresh()
    assert names(loader) == ["a", "b"]
    assert list(dataset) == ["a", "b"]


def test_directory_markers_are_left_out_unless_asked_for(
    emulator: Emulator, client: OssClient, bucket: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "osstorchconnector")
    for key in ("dir/", "dir/a", "dir/sub/", "full/"):
        client.put(f"oss://{bucket}/{key}", b"content" if key == "full/" else b"")
    for kind in (OssIterableDataset, OssMapDataset):
        where: dict[str, Any] = {"oss_uri": f"oss://{bucket}/", "transform": NAME, **emulator.connection}
        caplog.clear()
        assert list(kind.from_prefix(**where)) == ["dir/a", "full/"]
        assert [message for message in caplog.messages if "leaves out 2 directory markers" in message]
        assert list(kind.from_prefix(**where, directory_markers=True)) == ["dir/", "dir/a", "dir/sub/", "full/"]


def test_a_failed_listing_raises_in_all_workers_and_is_retried(
    emulator: Emulator, client: OssClient, bucket: str
) -> None:
    client.put(f"oss://{bucket}/a", b"")
    dataset = OssIterableDataset.from_prefix(f"oss://{bucket}/", transform=NAME, **emulator.connection)
    with emulator.fault(operation="ListObjectsV2", error="AccessDenied"):
        for _ in range(2):
            with pytest.raises(OssPermissionError) as caught:
                list(dataset)
            assert caught.value.code == "AccessDenied"
            assert caught.value.request_id
    assert list(dataset) == ["a"]


def test_nothing_is_left_behind(emulator: Emulator, build: Build, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    dataset = build()
    assert list(tmp_path.iterdir()) == []
    loader = load(dataset, 2)
    assert names(loader) == NAMES
    (directory,) = tmp_path.iterdir()
    assert directory.stat().st_mode & 0o777 == 0o700
    assert listings(emulator) == PAGES
    del dataset, loader
    gc.collect()
    assert list(tmp_path.iterdir()) == []


def test_the_workers_of_a_killed_lister_end_and_the_next_iteration_continues(
    emulator: Emulator, build: Build, filled: str
) -> None:
    loader = load(build(), 2)
    with emulator.fault(operation="ListObjectsV2", bucket=filled, delay=60):
        iterator: Any = iter(loader)
        killed = time.monotonic()
        for worker in iterator._workers:
            os.kill(worker.pid, 9)
        with pytest.raises(RuntimeError, match=r"DataLoader worker .* (killed|exited unexpectedly)"):
            next(iterator)
        assert time.monotonic() - killed < 10
        iterator._shutdown_workers()
    assert names(loader) == NAMES


@pytest.mark.parametrize("method", METHODS)
def test_every_worker_reports_a_missing_bucket(emulator: Emulator, method: str) -> None:
    dataset = OssIterableDataset.from_prefix("oss://no-such-bucket/", **emulator.connection)
    iterator: Any = iter(load(dataset, 2, method))
    with pytest.raises(OssNotFoundError, match="in DataLoader worker process") as caught:
        next(iterator)
    iterator._shutdown_workers()
    assert (caught.value.code, caught.value.status, caught.value.bucket) == ("NoSuchBucket", 404, "no-such-bucket")
    assert caught.value.request_id
