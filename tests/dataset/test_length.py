"""The length of an iterable dataset: what an iteration delivers, or a TypeError that says how to get it."""

import operator
import pickle
import warnings
from collections.abc import Callable, Iterator
from itertools import chain, product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import ChainDataset, DataLoader, IterableDataset
from torchdata.stateful_dataloader import StatefulDataLoader

from osstorchconnector import OssClient, OssConfig, OssIntegrityError, OssIterableDataset, OssNotFoundError
from osstorchconnector.dataset.snapshot import SnapshotWriter
from osstorchconnector.testing import Emulator

COUNT = 23
NAMES = [f"d/{number:02}" for number in range(COUNT)]
Build = Callable[..., OssIterableDataset]


@pytest.fixture
def filled(client: OssClient, bucket: str) -> str:
    for name in NAMES:
        client.put(f"oss://{bucket}/{name}", name.encode())
    return bucket


@pytest.fixture
def build(emulator: Emulator, filled: str) -> Build:
    uris = [f"oss://{filled}/{name}" for name in NAMES]

    def from_objects(**options: Any) -> OssIterableDataset:
        options = {"transform": operator.attrgetter("name"), **options}
        return OssIterableDataset.from_objects(uris, **emulator.connection, **options)

    return from_objects


@pytest.fixture
def prefix(emulator: Emulator, filled: str) -> Build:
    return lambda **options: OssIterableDataset.from_prefix(f"oss://{filled}/d/", **emulator.connection, **options)


def loader_of(dataset: Any, workers: int = 0, kind: Any = DataLoader, **options: Any) -> Any:
    method = "fork" if workers else None
    return kind(dataset, num_workers=workers, multiprocessing_context=method, **options)


@pytest.mark.parametrize("even", ["pad", "drop", "none"])
@pytest.mark.parametrize("batch_size", [None, 4])
def test_it_is_what_each_rank_and_each_worker_delivers(build: Build, even: str, batch_size: int | None) -> None:
    for rank, world in ((0, 1), (0, 3), (2, 3), (30, 40)):
        dataset = build(even=even, batch_size=batch_size, shard=(rank, world), shuffle=True)
        assert len(dataset) == len(list(dataset))


class Reporting(OssIterableDataset):
    """Each worker delivers its length before its objects."""

    def __iter__(self) -> Any:
        yield len(self)
        yield from super().__iter__()


@pytest.mark.parametrize("workers", [1, 3])
def test_in_a_worker_it_is_that_of_the_worker(build: Build, workers: int) -> None:
    dataset = build(batch_size=4)
    dataset.__class__ = Reporting
    found = list(loader_of(dataset, workers, batch_size=None))
    assert sum(length for length in found if isinstance(length, int)) == COUNT == len(dataset)
    assert len(found) == COUNT + workers


@pytest.mark.parametrize("kind", [DataLoader, StatefulDataLoader])
def test_a_loader_delivers_as_many_batches_as_it_says_or_says_nothing(build: Build, kind: Any) -> None:
    refused = 0
    for workers, told, size, drop_last in product((0, 2), (None, 4), (4, 5, None), (False, True)):
        if size is None and drop_last:
            continue
        loader = loader_of(build(batch_size=told), workers, kind, batch_size=size, drop_last=drop_last)
        try:
            length = len(loader)
        except TypeError as error:
            refused += "give the dataset the loader's batch size" in str(error)
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert len(list(loader)) == length
            assert len(list(loader)) == length
    assert refused == 2
    # The batches are known if the dataset has the loader's batch size.
    assert len(loader_of(build(batch_size=4), 2, kind, batch_size=4)) == 6
    assert len(loader_of(build(batch_size=4), 2, kind, batch_size=4, drop_last=True)) == 5


def test_workers_that_each_read_everything_have_no_length(build: Build) -> None:
    dataset = build(split_workers=False)
    assert len(dataset) == len(loader_of(dataset, 1, batch_size=1)) == COUNT
    for size in (4, None):
        with pytest.raises(TypeError, match="with split_workers=False, only the program knows"):
            len(loader_of(dataset, 2, batch_size=size))


class Around(IterableDataset[Any]):
    def __init__(self, inner: OssIterableDataset) -> None:
        self.inner = inner

    def __iter__(self) -> Iterator[Any]:
        yield from self.inner

    def __len__(self) -> int:
        return len(self.inner)


def test_a_wrapper_has_a_length_if_it_is_right(build: Build) -> None:
    for wrapper in (Around(build()), ChainDataset([build()])):
        assert len(wrapper) == COUNT
        assert len(loader_of(wrapper, 0, batch_size=4)) == 6
        with pytest.raises(TypeError, match=f"{type(wrapper).__name__} is around the dataset"):
            len(loader_of(wrapper, 2, batch_size=4))
    several = build(shard=(0, 2))
    assert len(several) == 12
    assert len(loader_of(several, 0, batch_size=4)) == 3
    with pytest.raises(TypeError, match=r"Around asks for the length.*call len\(dataset\) itself"):
        len(loader_of(Around(several), 0, batch_size=4))


def test_nothing_is_listed_for_it(emulator: Emulator, prefix: Build) -> None:
    dataset = prefix()
    emulator.clear_requests()
    for asked in (dataset, loader_of(dataset, batch_size=4)):
        with pytest.raises(TypeError, match=r"oss://.*/d/ is not known.*osst manifest --snapshot"):
            len(asked)
    assert bool(dataset)
    assert emulator.requests() == []
    assert len(list(dataset)) == len(dataset) == COUNT
    assert len(loader_of(dataset, batch_size=4)) == 6
    # A copy lists for itself; a worker reads the same rows.
    with pytest.raises(TypeError):
        len(pickle.loads(pickle.dumps(dataset)))
    dataset.refresh()
    with pytest.raises(TypeError):
        len(dataset)


def test_ranks_agree_about_whether_a_loader_has_a_length(build: Build, prefix: Build) -> None:
    dataset = prefix(shard=(0, 2))
    next(iter(dataset))
    list(dataset)
    # Only this rank may have listed.
    with pytest.raises(TypeError, match="with several ranks, a loader has a length only in the last two cases"):
        len(loader_of(dataset, batch_size=4))
    assert len(dataset) == 12
    assert len(loader_of(build(shard=(0, 2)), batch_size=4)) == 3


@pytest.mark.parametrize("remote", [False, True])
def test_a_snapshot_has_a_length(
    emulator: Emulator, client: OssClient, filled: str, tmp_path: Path, *, remote: bool
) -> None:
    path = tmp_path / "snapshot"
    with path.open("wb") as target:
        writer = SnapshotWriter(target, filled, "d/")
        for name in NAMES:
            writer.add(name, 2, "0" * 32)
        writer.finish()
    whole = path.read_bytes()

    def build(content: bytes) -> OssIterableDataset:
        path.write_bytes(content)
        client.put(f"oss://{filled}/snapshot", content)
        manifest = f"oss://{filled}/snapshot" if remote else str(path)
        return OssIterableDataset.from_manifest_file(manifest, None, "", **emulator.connection)

    dataset = build(whole)
    emulator.clear_requests()
    assert len(dataset) == COUNT
    assert len(dataset) == COUNT
    assert emulator.requests(operation="ListObjectsV2") == []
    assert len(emulator.requests()) <= 2 * remote
    with pytest.raises(OssIntegrityError, match=r"the snapshot ends with .* instead of its last line"):
        len(build(whole[:-60]))
    # Another manifest has no last line, and is not read to its end.
    with pytest.raises(TypeError, match="is not known"):
        len(build("".join(f"oss://{filled}/{name}\n" for name in NAMES).encode()))


def test_a_snapshot_that_is_not_there_is_reported(emulator: Emulator, bucket: str) -> None:
    dataset = OssIterableDataset.from_manifest_file(f"oss://{bucket}/none", None, "", **emulator.connection)
    with pytest.raises(OssNotFoundError):
        len(dataset)


def test_named_objects_need_no_network() -> None:
    dataset = OssIterableDataset.from_objects(
        ["oss://bucket/a", "oss://bucket/b"], "127.0.0.1:1", config=OssConfig(anonymous=True)
    )
    assert len(dataset) == 2


@pytest.mark.parametrize("options", [{"order": "arrival"}, {"on_error": "skip", "even": "none"}])
def test_torch_does_not_warn_of_more_samples_than_were_said(build: Build, options: dict[str, Any]) -> None:
    for workers, size in product((0, 2), (None, 4)):
        loader = loader_of(build(batch_size=4, **options), workers, batch_size=size)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert len(list(loader)) == len(loader)
            assert len(list(loader)) == len(loader)


@pytest.mark.parametrize("workers", [0, 3])
@pytest.mark.filterwarnings("ignore")
def test_lightning_trains_on_every_object(build: Build, tmp_path: Path, workers: int) -> None:
    lightning: Any = pytest.importorskip("lightning")
    seen: list[str] = []

    class Model(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(1, 1)

        def training_step(self, batch: list[str], _: int) -> torch.Tensor:
            seen.extend(batch)
            loss: torch.Tensor = self.layer(torch.ones(len(batch), 1)).sum()
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), 0.1)

    # Without the loader's batch size, each worker ends with a batch of its own.
    for told in (None, 5):
        seen.clear()
        trainer = lightning.Trainer(
            max_epochs=2,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path,
        )
        trainer.fit(Model(), loader_of(build(batch_size=told), workers, batch_size=5, collate_fn=list))
        assert sorted(seen) == sorted(chain(NAMES, NAMES))
