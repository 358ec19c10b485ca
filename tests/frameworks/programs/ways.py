"""Each way to use a framework, as a function that returns the numbers which this rank gets in each epoch."""

import copy
import functools
import itertools
import multiprocessing
import pickle
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch.utils.data import ChainDataset, DataLoader

from osstorchconnector import OssIterableDataset
from tests.frameworks.cells import BATCH
from tests.frameworks.programs import wrappers

Epochs = list[list[int]]


@dataclass(frozen=True)
class Setting:
    """One cell on one rank.

    Attributes:
        folder: A folder with one file for each object.
        method: How workers are started.
        workers: Their number.
        epochs: Their number.
        options: Options of the dataset.
    """

    folder: str
    method: str
    workers: int
    epochs: int
    options: dict[str, Any]

    def dataset(self, transform: Any = wrappers.tensor, cls: type[OssIterableDataset] = OssIterableDataset) -> Any:
        return cls.from_prefix(f"{self.folder}/", endpoint="", transform=transform, **self.options)

    def loader(self, dataset: Any, cls: Any = DataLoader, **options: Any) -> Any:
        context = self.method if self.workers else None
        options = {"batch_size": BATCH, "multiprocessing_context": context, **options}
        return cls(dataset, num_workers=self.workers, **options)


def numbers(batches: Iterable[Any]) -> list[int]:
    return [int(sample) for batch in batches for sample in batch]


def epochs(setting: Setting, loader: Iterable[Any]) -> Epochs:
    return [numbers(loader) for _ in range(setting.epochs)]


# Plain torch.


def loop(setting: Setting) -> Epochs:
    dataset = setting.dataset(wrappers.number)
    return [list(dataset) for _ in range(setting.epochs)]


def plain(setting: Setting) -> Epochs:
    return epochs(setting, setting.loader(setting.dataset()))


def persistent(setting: Setting) -> Epochs:
    return epochs(setting, setting.loader(setting.dataset(), persistent_workers=setting.workers > 0))


def generator(setting: Setting) -> Epochs:
    return epochs(setting, setting.loader(wrappers.Around(setting.dataset())))


def subclass(setting: Setting) -> Epochs:
    return epochs(setting, setting.loader(setting.dataset(cls=wrappers.Subclass)))


def chain(setting: Setting) -> Epochs:
    # Two datasets of the same objects, so each number comes twice.
    found = epochs(setting, setting.loader(ChainDataset([setting.dataset(), setting.dataset()])))
    return [sorted(epoch)[::2] for epoch in found]


def deep_copy(setting: Setting) -> Epochs:
    return epochs(setting, setting.loader(copy.deepcopy(setting.dataset())))


def pickled(setting: Setting) -> Epochs:
    return epochs(setting, setting.loader(pickle.loads(pickle.dumps(setting.dataset()))))


def divides_among_workers(setting: Setting) -> Epochs:
    return epochs(setting, setting.loader(wrappers.DividesAmongWorkers(setting.dataset())))


def divides_among_ranks(setting: Setting) -> Epochs:
    wrapper = wrappers.DividesAmongRanks(setting.dataset(), dist.get_rank(), dist.get_world_size())
    return epochs(setting, setting.loader(wrapper))


def made_before(setting: Setting) -> Epochs:
    def every(samples: Iterator[int]) -> Iterator[int]:
        yield from itertools.islice(samples, dist.get_rank(), None, dist.get_world_size())

    dataset = setting.dataset(wrappers.number)
    return [list(every(iter(dataset))) for _ in range(setting.epochs)]


def reads_ahead(setting: Setting) -> Epochs:
    return epochs(setting, setting.loader(wrappers.ReadsAhead(setting.dataset())))


# Datapipes.


def iterable_wrapper(setting: Setting) -> Epochs:
    from torch.utils.data.datapipes.iter import IterableWrapper  # noqa: PLC0415

    return epochs(setting, setting.loader(IterableWrapper(setting.dataset())))


def sharding_filter(setting: Setting) -> Epochs:
    from torch.utils.data.datapipes.iter import IterableWrapper  # noqa: PLC0415

    return epochs(setting, setting.loader(IterableWrapper(setting.dataset()).sharding_filter()))


# torchdata.


def stateful(setting: Setting) -> Epochs:
    from torchdata.stateful_dataloader import StatefulDataLoader  # noqa: PLC0415

    return epochs(setting, setting.loader(setting.dataset(), StatefulDataLoader))


def nodes(setting: Setting, *, prefetch: bool = False) -> Epochs:
    from torchdata.nodes import Batcher, IterableWrapper, Loader, Prefetcher  # noqa: PLC0415

    node: Any = Batcher(IterableWrapper(setting.dataset()), batch_size=BATCH, drop_last=False)
    return epochs(setting, Loader(Prefetcher(node, prefetch_factor=2) if prefetch else node))


def nodes_prefetched(setting: Setting) -> Epochs:
    return nodes(setting, prefetch=True)


# Lightning.


def lightning_trainer(setting: Setting) -> Epochs:
    import lightning  # noqa: PLC0415

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(1, 1)
            self.seen: Epochs = []

        def on_train_epoch_start(self) -> None:
            self.seen.append([])

        def training_step(self, batch: Any, _index: int) -> Any:
            self.seen[-1] += batch.tolist()
            return self.layer(batch[:, None].float()).sum()

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), 0.0)

    module = Module()
    trainer = lightning.Trainer(
        max_epochs=setting.epochs,
        accelerator="cpu",
        devices=1,
        num_nodes=dist.get_world_size(),
        strategy="ddp",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, setting.loader(setting.dataset()))
    return module.seen


def fabric(setting: Setting) -> Epochs:
    from lightning import Fabric  # noqa: PLC0415

    fabric = Fabric(accelerator="cpu", devices=1, num_nodes=dist.get_world_size(), strategy="ddp")
    fabric.launch()
    return epochs(setting, fabric.setup_dataloaders(setting.loader(setting.dataset())))


# webdataset.


def webdataset_pipeline(setting: Setting, *splitters: str) -> Epochs:
    import webdataset  # noqa: PLC0415

    pipeline = webdataset.DataPipeline(setting.dataset(), *(getattr(webdataset, name) for name in splitters))
    return epochs(setting, setting.loader(pipeline))


def webdataset_workers(setting: Setting) -> Epochs:
    return webdataset_pipeline(setting, "split_by_worker")


def webdataset_both(setting: Setting) -> Epochs:
    return webdataset_pipeline(setting, "split_by_node", "split_by_worker")


# Accelerate.


def accelerator(**options: Any) -> Any:
    from accelerate import Accelerator, DataLoaderConfiguration  # noqa: PLC0415

    return Accelerator(cpu=True, dataloader_config=DataLoaderConfiguration(**options))


def accelerate_prepared(setting: Setting) -> Epochs:
    return epochs(setting, accelerator().prepare(setting.loader(setting.dataset())))


def accelerate_without_dispatch(setting: Setting) -> Epochs:
    return epochs(setting, accelerator(dispatch_batches=False).prepare(setting.loader(setting.dataset())))


def accelerate_split(setting: Setting) -> Epochs:
    batch_size = 2 * dist.get_world_size()
    loader = setting.loader(setting.dataset(), batch_size=batch_size)
    return epochs(setting, accelerator(split_batches=True).prepare(loader))


def accelerate_split_without_dispatch(setting: Setting) -> Epochs:
    batch_size = 2 * dist.get_world_size()
    loader = setting.loader(setting.dataset(), batch_size=batch_size)
    return epochs(setting, accelerator(split_batches=True, dispatch_batches=False).prepare(loader))


def accelerate_stateful(setting: Setting) -> Epochs:
    return epochs(setting, accelerator(use_stateful_dataloader=True).prepare(setting.loader(setting.dataset())))


def accelerate_not_prepared(setting: Setting) -> Epochs:
    accelerator()
    return epochs(setting, setting.loader(setting.dataset()))


def accelerate_one_of_two(setting: Setting) -> Epochs:
    """The prepared loader and the other run side by side; the dataset divides for the other."""
    prepared = accelerator().prepare(setting.loader(setting.dataset()))
    found = []
    for _ in range(setting.epochs):
        other: list[int] = []
        taken = iter(setting.loader(setting.dataset()))
        got = set()
        for batch in prepared:
            got |= set(batch.tolist())
            other += next(taken, torch.tensor([])).int().tolist()
        other += numbers(taken)
        everything: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(everything, got)
        if len(set().union(*everything)) < int(setting.folder.rpartition("/")[2]):
            raise AssertionError(f"the prepared loader delivers {everything}")
        found.append(other)
    return found


# Transformers.


def trainer(setting: Setting, *, dispatch: bool | None = None) -> Epochs:
    from transformers import Trainer, TrainerCallback, TrainingArguments  # noqa: PLC0415

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(1, 1)
            self.seen: Epochs = []

        def forward(self, number: torch.Tensor) -> dict[str, torch.Tensor]:
            self.seen[-1] += number.tolist()
            return {"loss": self.layer(number[:, None].float()).sum()}

    class Epoch(TrainerCallback):  # type: ignore[misc]
        def on_epoch_begin(self, *_: Any, **__: Any) -> None:
            model.seen.append([])

        def on_epoch_end(self, _arguments: Any, _state: Any, control: Any, **_: Any) -> None:
            control.should_training_stop = len(model.seen) == setting.epochs

    model = Model()
    multiprocessing.set_start_method(setting.method or None, force=True)
    with tempfile.TemporaryDirectory() as output:
        arguments = TrainingArguments(
            output,
            # The trainer needs the number of steps from a dataset without a length; the callback ends the training.
            max_steps=1000,
            per_device_train_batch_size=BATCH,
            dataloader_num_workers=setting.workers,
            accelerator_config={"dispatch_batches": dispatch},
            use_cpu=True,
            report_to=[],
            disable_tqdm=True,
            save_strategy="no",
            remove_unused_columns=False,
        )
        Trainer(model, arguments, train_dataset=setting.dataset(wrappers.row), callbacks=[Epoch()]).train()
    return model.seen


def trainer_without_dispatch(setting: Setting) -> Epochs:
    return trainer(setting, dispatch=False)


# datasets.


def rows(setting: Setting) -> Any:
    import datasets  # noqa: PLC0415

    return datasets.IterableDataset.from_generator(functools.partial(wrappers.rows, setting.dataset(wrappers.row)))


def row_epochs(setting: Setting, loader: Iterable[Any]) -> Epochs:
    return [[int(number) for batch in loader for number in batch["number"]] for _ in range(setting.epochs)]


def datasets_generator(setting: Setting) -> Epochs:
    return row_epochs(setting, setting.loader(rows(setting)))


def datasets_by_node(setting: Setting) -> Epochs:
    from datasets.distributed import split_dataset_by_node  # noqa: PLC0415

    divided = split_dataset_by_node(rows(setting), dist.get_rank(), dist.get_world_size())
    return row_epochs(setting, setting.loader(divided))


def datasets_interleaved(setting: Setting) -> Epochs:
    import datasets  # noqa: PLC0415

    mixed = datasets.interleave_datasets([rows(setting), rows(setting)], stopping_strategy="all_exhausted")
    return [sorted(epoch)[::2] for epoch in row_epochs(setting, setting.loader(mixed))]


def datasets_file(setting: Setting) -> Epochs:
    """A dataset of rows in a file, which the ranks write one after the other, as they share the folder."""
    import datasets  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as cache:
        generator = functools.partial(wrappers.rows, setting.dataset(wrappers.row))
        written = datasets.Dataset.from_generator(generator, cache_dir=cache)
    return [written["number"][dist.get_rank() :: dist.get_world_size()] for _ in range(setting.epochs)]


def datasets_prepared(setting: Setting) -> Epochs:
    return row_epochs(setting, accelerator().prepare(setting.loader(rows(setting))))


# Ray.


def ray_prepared(setting: Setting) -> Epochs:
    from ray.train.torch import prepare_data_loader  # noqa: PLC0415

    return epochs(setting, prepare_data_loader(setting.loader(setting.dataset())))


WAYS: dict[str, Callable[[Setting], Epochs]] = {
    "loop over the dataset": loop,
    "DataLoader": plain,
    "DataLoader, batch_size given": plain,
    "DataLoader, persistent workers": persistent,
    "generator around the dataset": generator,
    "subclass with a generator": subclass,
    "ChainDataset": chain,
    "copy.deepcopy": deep_copy,
    "copy by pickle": pickled,
    "wrapper that divides among workers": divides_among_workers,
    "wrapper that divides among workers, split_workers=False": divides_among_workers,
    "wrapper that divides among ranks": divides_among_ranks,
    "wrapper that divides among ranks, shard=None": divides_among_ranks,
    "iterator made before the wrapper runs": made_before,
    "thread that reads ahead": reads_ahead,
    "IterableWrapper": iterable_wrapper,
    "IterableWrapper, sharding_filter": sharding_filter,
    "StatefulDataLoader": stateful,
    "torchdata.nodes": nodes,
    "torchdata.nodes, Prefetcher": nodes_prefetched,
    "Lightning Trainer": lightning_trainer,
    "Lightning Fabric": fabric,
    "webdataset pipeline": webdataset_pipeline,
    "webdataset pipeline, split_by_worker": webdataset_workers,
    "webdataset pipeline, split_by_node and split_by_worker": webdataset_both,
    "Accelerate, prepared": accelerate_prepared,
    "Accelerate, dispatch off": accelerate_without_dispatch,
    "Accelerate, split_batches": accelerate_split,
    "Accelerate, dispatch off, split_batches": accelerate_split_without_dispatch,
    "Accelerate, stateful loader": accelerate_stateful,
    "Accelerate, not prepared": accelerate_not_prepared,
    "Accelerate, one of two prepared": accelerate_one_of_two,
    "Transformers Trainer": trainer,
    "Transformers Trainer, dispatch off": trainer_without_dispatch,
    "datasets, from_generator": datasets_generator,
    "datasets, from_generator, split_by_node": datasets_by_node,
    "datasets, interleave_datasets": datasets_interleaved,
    "datasets, Dataset.from_generator": datasets_file,
    "datasets, from_generator, prepared by Accelerate": datasets_prepared,
    "Ray Train": plain,
    "Ray Train, prepare_data_loader": ray_prepared,
}
