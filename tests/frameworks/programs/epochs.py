"""One rank trains for some epochs in each of the given cases, and writes the numbers that it gets in each epoch.

Its standard error says which case runs, so that a test finds the warnings of each.
"""

import json
import multiprocessing
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.utils.data import DataLoader

from osstorchconnector import OssIterableDataset
from tests.frameworks.epoch_cases import BATCH, EPOCHS, MARK, SEED, EpochCase
from tests.frameworks.programs import wrappers
from tests.frameworks.programs.ways import accelerator, numbers


class Training:
    """A dataset and its loader, and what happens to them before each epoch."""

    def __init__(self, case: EpochCase, folder: str) -> None:
        self.case, self.folder = case, folder
        transform = wrappers.row if case.way == "Trainer" else wrappers.tensor
        # The folder is the place of the objects, so no server is needed.
        self.dataset: Any = OssIterableDataset.from_prefix(
            f"{folder}/", endpoint="", transform=transform, shuffle=True, seed=SEED, batch_size=BATCH
        )
        self.loader = self.make_loader(self.dataset)

    def make_loader(self, dataset: Any, cls: Any = DataLoader) -> Any:
        return cls(
            dataset,
            batch_size=BATCH,
            num_workers=self.case.workers,
            multiprocessing_context="fork" if self.case.workers else None,
            persistent_workers=self.case.persistent,
        )

    def before(self, epoch: int, loader: Iterable[Any]) -> None:
        """Do what the case does before an epoch, with a loader that this rank may read alone."""
        self.disturb(loader)
        self.set_epoch(epoch)

    def disturb(self, loader: Iterable[Any]) -> None:
        """Bring the ranks out of step."""
        match self.case.trouble:
            case "rank 0 looks first" if _rank() == 0:
                next(iter(loader))
            case "ranks break off":
                list(islice(iter(loader), 1 + _rank()))
            case "equal seeds":
                torch.manual_seed(0)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch if the case does so."""
        if self.case.sets:
            self.dataset.set_epoch(epoch)


def loop(training: Training) -> list[list[int]]:
    found = []
    for epoch in range(EPOCHS):
        training.before(epoch, training.dataset)
        found.append([int(sample) for sample in training.dataset])
    return found


def loader_epochs(training: Training, loader: Any) -> list[list[int]]:
    found = []
    for epoch in range(EPOCHS):
        training.before(epoch, loader)
        if training.case.trouble == "two at once":
            pairs = list(zip(iter(loader), iter(loader), strict=True))
            found += [numbers(batches) for batches in zip(*pairs, strict=True)]
        else:
            found.append(numbers(loader))
    return found


def plain(training: Training) -> list[list[int]]:
    return loader_epochs(training, training.loader)


def stateful(training: Training) -> list[list[int]]:
    from torchdata.stateful_dataloader import StatefulDataLoader  # noqa: PLC0415

    return loader_epochs(training, training.make_loader(training.dataset, StatefulDataLoader))


def fabric(training: Training) -> list[list[int]]:
    from lightning import Fabric  # noqa: PLC0415

    fabric = Fabric(accelerator="cpu", devices=1, num_nodes=_world(), strategy="ddp")
    fabric.launch()
    return loader_epochs(training, fabric.setup_dataloaders(training.loader))


def lightning_trainer(training: Training) -> list[list[int]]:
    import lightning  # noqa: PLC0415

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(1, 1)
            self.seen: list[list[int]] = []

        def on_train_epoch_start(self) -> None:
            self.seen.append([])

        def training_step(self, batch: Any, _index: int) -> Any:
            self.seen[-1] += batch.tolist()
            return self.layer(batch[:, None].float()).sum()

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), 0.0)

    def fit(training: Training, epochs: int, checkpoint: Path | None) -> list[list[int]]:
        # The callback of docs/concepts/order.md.
        class SetEpoch(lightning.Callback):
            def setup(self, trainer: Any, module: Any, stage: str) -> None:  # noqa: ARG002 - Lightning's
                training.set_epoch(trainer.current_epoch)

            def on_load_checkpoint(self, trainer: Any, module: Any, checkpoint: Any) -> None:  # noqa: ARG002 - Lightning's
                progress = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]
                training.set_epoch(progress["processed"])

            def on_train_epoch_end(self, trainer: Any, module: Any) -> None:  # noqa: ARG002 - Lightning's
                # The iterator of the trainer's own loader is at its end, and may not begin again.
                training.disturb(training.make_loader(training.dataset))
                training.set_epoch(trainer.current_epoch + 1)

        module = Module()
        trainer = lightning.Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            devices=1,
            num_nodes=_world(),
            strategy="ddp" if _world() > 1 else "auto",
            logger=False,
            callbacks=[SetEpoch(), lightning.pytorch.callbacks.ModelCheckpoint(folder, "last")],
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, training.loader, ckpt_path=checkpoint)
        return module.seen

    with tempfile.TemporaryDirectory() as own:
        # The first rank writes, and all read.
        [folder] = _same([own])
        training.disturb(training.make_loader(training.dataset))
        if not training.case.restarts:
            return fit(training, EPOCHS, None)
        found = fit(training, 1, None)
        # The dataset of a new process.
        again = Training(training.case, training.folder)
        found += fit(again, EPOCHS, Path(folder, "last.ckpt"))
        dist.barrier()
        return found


def accelerate_prepared(training: Training) -> list[list[int]]:
    prepared = accelerator().prepare(training.loader)
    found = []
    for epoch in range(EPOCHS):
        # All ranks must read the prepared loader together.
        training.before(epoch, training.make_loader(training.dataset))
        found.append(numbers(prepared))
    return found


def accelerate_not_prepared(training: Training) -> list[list[int]]:
    accelerator()
    return loader_epochs(training, training.loader)


def trainer(training: Training) -> list[list[int]]:
    from transformers import Trainer, TrainerCallback, TrainingArguments  # noqa: PLC0415

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(1, 1)
            self.seen: list[list[int]] = []

        def forward(self, number: torch.Tensor) -> dict[str, torch.Tensor]:
            self.seen[-1] += number.tolist()
            return {"loss": self.layer(number[:, None].float()).sum()}

    class Epoch(TrainerCallback):  # type: ignore[misc]
        def on_epoch_begin(self, *_: Any, **__: Any) -> None:
            training.before(len(model.seen), training.make_loader(training.dataset))
            model.seen.append([])

        def on_epoch_end(self, _arguments: Any, _state: Any, control: Any, **_: Any) -> None:
            control.should_training_stop = len(model.seen) == EPOCHS

    model = Model()
    if training.case.workers:
        multiprocessing.set_start_method("fork", force=True)
    with tempfile.TemporaryDirectory() as output:
        arguments = TrainingArguments(
            output,
            max_steps=1000,
            per_device_train_batch_size=BATCH,
            dataloader_num_workers=training.case.workers,
            dataloader_persistent_workers=training.case.persistent,
            use_cpu=True,
            report_to=[],
            disable_tqdm=True,
            save_strategy="no",
            remove_unused_columns=False,
        )
        Trainer(model, arguments, train_dataset=training.dataset, callbacks=[Epoch()]).train()
    return model.seen


WAYS: dict[str, Callable[[Training], list[list[int]]]] = {
    "loop": loop,
    "DataLoader": plain,
    "StatefulDataLoader": stateful,
    "Fabric": fabric,
    "Lightning": lightning_trainer,
    "Accelerate": accelerate_prepared,
    "Accelerate, not prepared": accelerate_not_prepared,
    "Trainer": trainer,
}


def _same(values: list[str]) -> list[str]:
    """Return the values of rank 0."""
    dist.broadcast_object_list(values)
    return values


def _rank() -> int:
    return dist.get_rank()


def _world() -> int:
    return dist.get_world_size()


def main() -> None:
    store, folder = sys.argv[1:]
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    warnings.simplefilter("always")
    found = []
    for case in json.loads(Path(folder, "cases.json").read_text()):
        sys.stderr.write(f"{MARK}\n")
        sys.stderr.flush()
        training = Training(EpochCase(**case), f"{folder}/objects")
        found.append(WAYS[training.case.way](training))
        # A rank must not begin the next case while others still need it in this one.
        dist.barrier()
    Path(folder, f"rank-{rank}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
