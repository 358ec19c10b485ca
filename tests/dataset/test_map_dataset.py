import copy
import logging
import operator
import pickle
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any, SupportsIndex

import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler, Subset

from osstorchconnector import DataObject, OssClient, OssConfig, OssMapDataset, OssNotFoundError
from osstorchconnector.dataset import listing
from osstorchconnector.testing import Emulator

NAMES = [f"{number:02}" for number in range(12)]


@pytest.fixture
def filled(client: OssClient, bucket: str) -> str:
    for name in NAMES:
        client.put(f"oss://{bucket}/{name}", name.encode())
    return bucket


@pytest.fixture
def dataset(emulator: Emulator, filled: str) -> OssMapDataset:
    return OssMapDataset.from_prefix(f"oss://{filled}/", **emulator.connection)


def name_of(item: DataObject) -> str:
    return item.name


def test_objects_by_index(dataset: OssMapDataset) -> None:
    assert len(dataset) == 12
    assert (dataset[0].name, dataset[5].read(), dataset[11].name) == ("00", b"05", "11")
    assert (dataset[-1].name, dataset[-12].name) == ("11", "00")
    with dataset[3] as item:
        assert item.read() == b"03"


def test_a_long_listing_logs_its_progress(
    emulator: Emulator,
    filled: str,
    dataset: OssMapDataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(listing, "_PROGRESS_SECONDS", 0.0)
    (tmp_path / "manifest").write_text("".join(f"{name}\n" for name in NAMES))
    parsed = OssMapDataset.from_manifest_file(
        str(tmp_path / "manifest"), None, f"oss://{filled}/", **emulator.connection
    )
    with caplog.at_level(logging.INFO, "osstorchconnector"):
        for read, name in ((dataset, f"oss://{filled}/"), (parsed, str(tmp_path / "manifest"))):
            caplog.clear()
            assert len(read) == len(NAMES)
            assert f"listing {name}: {len(NAMES)} objects so far" in caplog.messages


def test_an_index_can_be_any_integer_type(dataset: OssMapDataset) -> None:
    import numpy  # noqa: ICN001, PLC0415 - comes with scikit-learn, not with the package

    assert dataset[numpy.int64(4)].name == "04"


@pytest.mark.parametrize("index", [12, -13, 1 << 70])
def test_an_index_out_of_range_is_reported(dataset: OssMapDataset, index: int) -> None:
    with pytest.raises(IndexError, match=rf"index {index} is out of range: the dataset has 12 objects"):
        dataset[index]
    with pytest.raises(IndexError):
        dataset.__getitems__([0, index])


def test_a_wrong_type_of_index_is_reported(dataset: OssMapDataset) -> None:
    with pytest.raises(TypeError):
        dataset["a"]  # type: ignore[index]
    with pytest.raises(TypeError):
        dataset[1.0]  # type: ignore[index]


def test_a_batch_keeps_the_order_of_its_indices(dataset: OssMapDataset) -> None:
    found = dataset.__getitems__([7, -1, 0, 7])
    assert [(item.name, item.read()) for item in found] == [("07", b"07"), ("11", b"11"), ("00", b"00"), ("07", b"07")]
    assert dataset.__getitems__([]) == []


def test_iteration_delivers_all_and_ends(dataset: OssMapDataset) -> None:
    assert [item.read() for item in dataset] == [name.encode() for name in NAMES]
    assert [item.name for item in dataset] == NAMES


def test_the_old_iteration_protocol_ends(dataset: OssMapDataset) -> None:
    names = []
    for index in range(100):
        try:
            names.append(dataset[index].name)
        except IndexError:
            break
    assert names == NAMES


def test_named_objects(emulator: Emulator, filled: str) -> None:
    uris = (f"oss://{filled}/{name}" for name in ("05", "01"))
    dataset = OssMapDataset.from_objects(uris, **emulator.connection)
    assert len(dataset) == 2
    assert [dataset[1].read(), dataset[0].read()] == [b"01", b"05"]


def test_the_length_of_named_objects_needs_no_network() -> None:
    config = OssConfig(anonymous=True)
    assert len(OssMapDataset.from_objects(["oss://bucket/a", "oss://bucket/b"], "127.0.0.1:1", config=config)) == 2


def test_the_prefix_is_listed_once_at_the_first_use(emulator: Emulator, client: OssClient, filled: str) -> None:
    dataset = OssMapDataset.from_prefix(f"oss://{filled}/", **emulator.connection)
    client.put(f"oss://{filled}/12", b"12")
    assert len(dataset) == 13
    client.put(f"oss://{filled}/13", b"13")
    assert len(dataset) == 13
    assert len(OssMapDataset.from_prefix(f"oss://{filled}/", **emulator.connection)) == 14


def test_a_pickle_is_small_and_lists_for_itself(emulator: Emulator, client: OssClient, filled: str) -> None:
    dataset = OssMapDataset.from_prefix(f"oss://{filled}/", **emulator.connection)
    assert len(dataset) == 12
    pickled = pickle.dumps(dataset)
    assert len(pickled) < 3000
    client.delete(f"oss://{filled}/00")
    assert len(pickle.loads(pickled)) == 11
    assert len(dataset) == 12
    assert pickle.loads(pickled)[1].read() == b"02"


def test_a_missing_object_is_reported(emulator: Emulator, bucket: str) -> None:
    dataset = OssMapDataset.from_objects(f"oss://{bucket}/missing", **emulator.connection)
    with pytest.raises(OssNotFoundError) as caught:
        dataset[0]
    assert (caught.value.code, caught.value.bucket, caught.value.key) == ("NoSuchKey", bucket, "missing")


def test_transform_is_applied_and_its_error_names_the_object(emulator: Emulator, filled: str) -> None:
    dataset = OssMapDataset.from_prefix(f"oss://{filled}/", transform=name_of, **emulator.connection)
    assert dataset[2] == "02"
    assert dataset.__getitems__([2, 3]) == ["02", "03"]

    def fail(_item: DataObject) -> None:
        raise ValueError("not an image")

    broken = OssMapDataset.from_prefix(f"oss://{filled}/", transform=fail, **emulator.connection)
    with pytest.raises(ValueError, match="not an image") as caught:
        broken[2]
    assert caught.value.__notes__ == [f"while transforming oss://{filled}/02"]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("shuffle", [False, True])
def test_a_loader_delivers_every_object_once(emulator: Emulator, filled: str, workers: int, *, shuffle: bool) -> None:
    dataset = OssMapDataset.from_prefix(f"oss://{filled}/", transform=name_of, **emulator.connection)
    loader: DataLoader[Any] = DataLoader(
        dataset,
        batch_size=5,
        shuffle=shuffle,
        num_workers=workers,
        multiprocessing_context="fork" if workers else None,
    )
    found = [name for batch in loader for name in batch]
    assert (sorted(found) if shuffle else found) == NAMES


class Numbered(OssMapDataset):
    """Overrides the method that a user's guide to datasets names."""

    def __getitem__(self, index: Any) -> Any:
        return operator.index(index), super().__getitem__(index)


class Batched(OssMapDataset):
    """Overrides the method that loaders call."""

    def __getitems__(self, indices: Iterable[SupportsIndex]) -> list[Any]:
        indices = list(indices)
        return list(zip(map(operator.index, indices), super().__getitems__(indices), strict=True))


class Both(Batched):
    def __getitem__(self, index: Any) -> Any:
        return super().__getitem__(index)


@pytest.mark.parametrize("kind", [Numbered, Batched])
@pytest.mark.parametrize("workers", [0, 2])
def test_what_a_subclass_overrides_is_used_everywhere(
    emulator: Emulator, filled: str, kind: type[OssMapDataset], workers: int
) -> None:
    dataset = kind.from_prefix(f"oss://{filled}/", transform=name_of, **emulator.connection)
    expected = list(enumerate(NAMES))
    method = "fork" if workers else None
    emulator.clear_requests()
    for batch_size in (5, None):
        loader: DataLoader[Any] = DataLoader(
            dataset, batch_size=batch_size, num_workers=workers, multiprocessing_context=method, collate_fn=lambda x: x
        )
        found = list(loader)
        assert (found if batch_size is None else list(chain.from_iterable(found))) == expected
    if kind is Numbered:
        # Each object is fetched once, batches concurrently.
        assert len(emulator.requests(operation="GetObject")) == 2 * len(NAMES)
    subset: Subset[Any] = Subset(dataset, [3, 1])
    assert list(DataLoader(subset, batch_size=2, collate_fn=list)) == [[expected[3], expected[1]]]
    assert list(copy.deepcopy(dataset)) == expected
    assert [dataset[4], dataset[-1]] in ([expected[4], (-1, "11")], [expected[4], expected[-1]])
    emulator.clear_requests()
    assert list(dataset) == expected
    assert len(emulator.requests(operation="GetObject")) == len(NAMES)
    # Requests that are wrong for one item leave the others as they are.
    iterator = iter(dataset)
    assert next(iterator) == expected[0]
    assert dataset[7] == expected[7]
    assert next(iterator) == expected[1]


def test_a_subclass_may_override_both(emulator: Emulator, filled: str) -> None:
    dataset = Both.from_prefix(f"oss://{filled}/", transform=name_of, **emulator.connection)
    assert dataset.__getitems__([3, 4]) == [(3, "03"), (4, "04")]
    assert dataset[3] == "03"
    assert list(dataset) == NAMES


class Choosy(OssMapDataset):
    """Asks for other objects than its own, for several, and for none."""

    def __getitem__(self, index: Any) -> Any:
        get = super().__getitem__
        if index == 0:
            return get(7)
        if index == 1:
            return [get(1), get(2), get(1)]
        if index == 2:
            return get([5, 6])
        return index if index < 6 else get(index)


def test_a_subclass_may_ask_for_any_objects(emulator: Emulator, filled: str) -> None:
    dataset = Choosy.from_prefix(f"oss://{filled}/", transform=name_of, **emulator.connection)
    expected = ["07", ["01", "02", "01"], ["05", "06"], 3, 4, 5, *NAMES[6:]]
    assert list(dataset) == expected
    assert dataset.__getitems__(range(12)) == expected


def test_an_error_in_a_subclass_is_in_its_place(emulator: Emulator, filled: str) -> None:
    uris = [f"oss://{filled}/{name}" for name in ("00", "missing", "02")]
    dataset = Numbered.from_objects(uris, transform=name_of, **emulator.connection)
    iterator = iter(dataset)
    assert next(iterator) == (0, "00")
    with pytest.raises(OssNotFoundError):
        next(iterator)
    assert list(iterator) == [(2, "02")]
    substituted = Numbered.from_objects(uris, transform=name_of, on_error="substitute", **emulator.connection)
    assert list(substituted) == [(0, "00"), (1, "02"), (2, "02")]


def test_several_indices_are_one_batch(emulator: Emulator, filled: str) -> None:
    import numpy  # noqa: ICN001, PLC0415 - comes with scikit-learn, not with the package

    dataset = OssMapDataset.from_prefix(f"oss://{filled}/", transform=name_of, **emulator.connection)
    assert dataset[2:5] == dataset[[2, 3, 4]] == dataset[numpy.array([2, 3, 4])] == dataset[torch.tensor([2, 3, 4])]
    assert dataset[2:5] == NAMES[2:5]
    assert dataset[::-1] == NAMES[::-1]
    assert dataset[20:] == dataset[[]] == []
    assert dataset[torch.tensor([3])] == ["03"]
    assert dataset[torch.tensor(3)] == "03"
    with pytest.raises(IndexError, match="index 12 is out of range"):
        dataset[[1, 12]]
    for mask in ([True] * 12, numpy.array([True] * 12), torch.tensor([True] * 12)):
        with pytest.raises(TypeError, match="a mask of True and False is no index"):
            dataset[mask]
    sampler = BatchSampler(SequentialSampler(dataset), 5, drop_last=False)
    loader: DataLoader[Any] = DataLoader(dataset, sampler=sampler, batch_size=None)
    assert list(loader) == [NAMES[:5], NAMES[5:10], NAMES[10:]]
