"""A dataset of nothing warns, however it is read: mostly its place is misspelt."""

import operator
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

from osstorchconnector import OssIterableDataset, OssMapDataset, generate_tar_archive
from osstorchconnector.testing import Emulator

NAME = operator.attrgetter("name")
ITERABLE = OssIterableDataset.from_prefix
MAP = OssMapDataset.from_prefix


def loaded(dataset: Any, **options: Any) -> list[Any]:
    method = "fork" if options.get("num_workers") else None
    return list(DataLoader(dataset, multiprocessing_context=method, **options))


READS: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "list": (ITERABLE, list),
    "loader": (ITERABLE, loaded),
    "stateful loader": (ITERABLE, lambda dataset: list(StatefulDataLoader(dataset))),
    "map list": (MAP, list),
    "map length": (MAP, len),
    "map loader": (MAP, loaded),
    "map slice": (MAP, operator.itemgetter(slice(3))),
}
OPTIONS: list[dict[str, Any]] = [
    {"order": "arrival"},
    {"shuffle": True},
    {"shard": (1, 2)},
    {"on_error": "substitute"},
    {"batch_size": 4, "even": "none", "on_error": "skip"},
]


@pytest.mark.parametrize("how", READS)
def test_a_prefix_that_matches_nothing_warns(emulator: Emulator, bucket: str, how: str) -> None:
    build, read = READS[how]
    dataset = build(f"oss://{bucket}/train/", transform=NAME, **emulator.connection)
    with pytest.warns(UserWarning, match=f"no object matches the prefix oss://{bucket}/train/"):
        assert not read(dataset)


@pytest.mark.parametrize("options", OPTIONS)
def test_it_warns_with_every_option(emulator: Emulator, bucket: str, options: dict[str, Any]) -> None:
    dataset = ITERABLE(f"oss://{bucket}/train/", **options, **emulator.connection)
    with pytest.warns(UserWarning, match="no object matches the prefix"):
        assert list(dataset) == []


@pytest.mark.parametrize("build", [ITERABLE, MAP])
def test_one_of_the_workers_warns(emulator: Emulator, bucket: str, build: Any) -> None:
    dataset = build(f"oss://{bucket}/train/", **emulator.connection)
    if build is MAP:
        with pytest.warns(UserWarning, match="no object matches the prefix"):
            assert loaded(dataset, num_workers=2) == []
    else:
        # A warning is an error in these tests, also in the worker.
        with pytest.raises(UserWarning, match="no object matches the prefix"):
            loaded(dataset, num_workers=2)


def test_an_index_of_nothing_warns_and_is_reported(emulator: Emulator, bucket: str) -> None:
    dataset = MAP(f"oss://{bucket}/train/", **emulator.connection)
    with (
        pytest.warns(UserWarning, match="no object matches the prefix"),
        pytest.raises(IndexError, match="the dataset has 0 objects"),
    ):
        dataset[0]


def test_an_archive_of_nothing_warns(emulator: Emulator, bucket: str) -> None:
    connection = emulator.connection
    with pytest.warns(UserWarning, match="no object matches the prefix"):
        generate_tar_archive(
            connection["endpoint"],
            connection["cred_path"],
            "",
            f"oss://{bucket}/a.tar",
            f"oss://{bucket}/a.idx",
            f"oss://{bucket}/train/",
            region=connection["region"],
        )
    for kind in (OssIterableDataset, OssMapDataset):
        for index in (f"oss://{bucket}/a.idx", None):
            with pytest.warns(UserWarning, match=f"oss://{bucket}/a.tar names no object; to silence"):
                assert list(kind.from_tar(f"oss://{bucket}/a.tar", index, **connection)) == []


@pytest.mark.parametrize("kind", [OssIterableDataset, OssMapDataset])
def test_a_manifest_of_nothing_warns(emulator: Emulator, bucket: str, tmp_path: Path, kind: Any) -> None:
    (tmp_path / "manifest").write_text("\n\n")
    dataset = kind.from_manifest_file(str(tmp_path / "manifest"), None, f"oss://{bucket}/", **emulator.connection)
    with pytest.warns(UserWarning, match=r"manifest names no object; to silence: .*'\.\* names no object'"):
        assert list(dataset) == []
