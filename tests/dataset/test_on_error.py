"""Failures of objects in loaders: their substitutes and their counts."""

from collections.abc import Callable
from itertools import chain
from typing import Any

import pytest
from torch.utils.data import DataLoader

from osstorchconnector import (
    DataObject,
    OssClient,
    OssConfig,
    OssErrorLimitError,
    OssIterableDataset,
    OssMapDataset,
    OssNotFoundError,
)
from osstorchconnector.testing import Emulator

#: Every third is missing, 10 cannot be read, 13 is no image.
COUNT = 24
MISSING = set(range(2, COUNT, 3))
METHODS = [
    pytest.param("fork"),
    pytest.param("forkserver", marks=pytest.mark.slow(120)),
    pytest.param("spawn", marks=pytest.mark.slow(120)),
]
Build = Callable[..., Any]


def number_of(item: DataObject) -> int:
    number = int(item.read())
    if number == 13:
        raise ValueError("not an image")
    return number


def instead(error: Exception, item: DataObject) -> str:
    return f"{type(error).__name__} {item.name}"


@pytest.fixture
def build(emulator: Emulator, client: OssClient, bucket: str) -> Build:
    for number in set(range(COUNT)) - MISSING:
        client.put(f"oss://{bucket}/{number:02}", str(number).encode())
    uris = [f"oss://{bucket}/{number:02}" for number in range(COUNT)]
    config = OssConfig(max_attempts=1)

    def from_objects(kind: Any = OssIterableDataset, **options: Any) -> Any:
        return kind.from_objects(uris, transform=number_of, config=config, **emulator.connection, **options)

    return from_objects


@pytest.fixture(autouse=True)
def _unreadable(emulator: Emulator, build: Build, bucket: str) -> Any:  # noqa: ARG001 - it fills the bucket first
    with emulator.fault(operation="GetObject", bucket=bucket, key="10", error="InternalError"):
        yield


def load(dataset: Any, workers: int, method: str = "fork") -> list[list[Any]]:
    context: Any = method if workers else None
    return list(
        DataLoader(dataset, batch_size=4, num_workers=workers, multiprocessing_context=context, collate_fn=list)
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_substitutes_keep_the_length_of_batches(build: Build, workers: int) -> None:
    dataset = build(batch_size=4, on_error="substitute")
    batches = load(dataset, workers)
    assert batches == [
        [0, 1, 1, 3],
        [4, 4, 6, 7],
        [9, 9, 9, 9],
        [12, 12, 12, 15],
        [16, 16, 18, 19],
        [21, 21, 22, 22],
    ]
    assert dataset.error_counts == {"missing": 8, "unreadable": 1, "transform": 1}


def test_a_substitute_is_the_same_after_a_resume(build: Build) -> None:
    whole = list(build(batch_size=4, on_error="substitute"))
    for consumed in range(COUNT):
        dataset = build(batch_size=4, on_error="substitute")
        iterator = iter(dataset)
        assert [next(iterator) for _ in range(consumed)] == whole[:consumed]
        again = build(batch_size=4, on_error="substitute")
        again.load_state_dict(dataset.state_dict())
        assert list(again) == whole[consumed:]


@pytest.mark.parametrize("method", METHODS)
def test_counts_of_all_workers_come_together(build: Build, method: str) -> None:
    dataset = build(on_error={"missing": "skip", "unreadable": instead, "transform": "skip"}, even="none")
    found = sorted(chain.from_iterable(load(dataset, 2, method)), key=str)
    expected = sorted({*range(COUNT)} - MISSING - {10, 13}, key=str)
    assert found == [*expected, "OssError 10"]
    assert dataset.error_counts == {"missing": 8, "unreadable": 1, "transform": 1}


def test_the_limit_is_of_all_workers_together(build: Build) -> None:
    dataset = build(on_error="skip", even="none", error_limit=5)
    with pytest.raises(
        OssErrorLimitError, match=r"error_limit=5 objects could not be delivered \(\d missing"
    ) as caught:
        load(dataset, 2)
    assert "in DataLoader worker process" in str(caught.value)
    assert sum(dataset.error_counts.values()) > 5
    assert len(list(chain.from_iterable(load(build(on_error="skip", even="none", error_limit=10), 2)))) == 14


def test_ranks_keep_their_length(build: Build) -> None:
    lengths = {len(list(build(shard=(rank, 3), batch_size=4, even="drop", on_error="substitute"))) for rank in range(3)}
    assert lengths == {8}


def test_a_label_and_the_object_reach_the_function(emulator: Emulator, bucket: str, tmp_path: Any) -> None:
    manifest = tmp_path / "manifest"
    manifest.write_text("02 two\n05 five\n")
    dataset = OssIterableDataset.from_manifest_file(
        str(manifest),
        None,
        f"oss://{bucket}/",
        on_error=lambda error, item: (type(error), item.uri, item.label),
        **emulator.connection,
    )
    assert list(dataset) == [
        (OssNotFoundError, f"oss://{bucket}/02", "two"),
        (OssNotFoundError, f"oss://{bucket}/05", "five"),
    ]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_map_datasets_batch_is_filled_from_itself(build: Build, workers: int) -> None:
    dataset = build(OssMapDataset, on_error="substitute")
    assert load(dataset, workers) == [
        [0, 1, 3, 3],
        [4, 6, 6, 7],
        [9, 9, 9, 9],
        [12, 15, 15, 15],
        [16, 18, 18, 19],
        [21, 21, 22, 22],
    ]
    assert dataset.error_counts == {"missing": 8, "unreadable": 1, "transform": 1}


def test_a_map_datasets_single_object_is_filled_from_beside(build: Build) -> None:
    dataset = build(OssMapDataset, on_error={"missing": "substitute", "unreadable": instead})
    assert (dataset[2], dataset[5], dataset[-1]) == (3, 6, 22)
    assert dataset[10] == "OssError 10"
    with pytest.raises(ValueError, match="not an image"):
        dataset[13]
    # 13 is not an image, so the object before it is the substitute.
    assert build(OssMapDataset, on_error="substitute")[14] == 15
    with pytest.raises(OssNotFoundError):
        build(OssMapDataset)[2]


def test_a_map_dataset_has_a_limit_too(build: Build) -> None:
    dataset = build(OssMapDataset, on_error="substitute", error_limit=2)
    assert (dataset[2], dataset[5]) == (3, 6)
    with pytest.raises(OssErrorLimitError, match="3 missing"):
        dataset[8]


def stop(_item: DataObject) -> None:
    raise StopIteration


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", [OssIterableDataset, OssMapDataset])
def test_a_transform_that_raises_stop_iteration_does_not_end_the_epoch(
    emulator: Emulator, bucket: str, kind: Any, workers: int
) -> None:
    dataset = kind.from_objects(f"oss://{bucket}/00", transform=stop, **emulator.connection)
    with pytest.raises(RuntimeError, match="raised StopIteration"):
        load(dataset, workers)


def test_a_map_dataset_iterates_with_the_same_policy(build: Build) -> None:
    assert list(build(OssMapDataset, on_error="substitute"))[:4] == [0, 1, 1, 3]
