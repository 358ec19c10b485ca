"""A program of two ranks that train with strategies which save their own shards. Lightning starts the second rank.

Arguments: the package, the bucket, a directory, and the connection in JSON. Each rank prints a line for each case.
"""

import importlib
import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from torch.distributed.fsdp import FSDPModule, FullyShardedDataParallel, fully_shard

from osstorchconnector.lightning import OssCheckpointIO, OssFabricShardedCheckpoints, OssShardedCheckpoints

warnings.filterwarnings("ignore")
PACKAGE, BUCKET, DIRECTORY, CONNECTION = sys.argv[1:]
package = importlib.import_module(PACKAGE)
strategies = importlib.import_module(f"{PACKAGE}.strategies")
callbacks = importlib.import_module(f"{PACKAGE}.callbacks")
plugin = OssCheckpointIO(**json.loads(CONNECTION), weights_only=False)


class Model(package.LightningModule):  # type: ignore[misc, name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(8, 8)
        self.head = torch.nn.Linear(8, 1)

    def training_step(self, batch: Any, _: int) -> Any:
        loss = self.head(self.layer(batch[0])).square().mean()
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.trainer.model.parameters(), lr=0.01)


class FullyShardedModel(Model):
    def configure_model(self) -> None:
        if not isinstance(self.layer, FSDPModule):
            for part in (self.layer, self.head):
                fully_shard(part, mesh=self.device_mesh["data_parallel"])


class FSDP(OssShardedCheckpoints, strategies.FSDPStrategy):  # type: ignore[misc, name-defined]
    def _setup_model(self, model: Any) -> Any:
        # Without an accelerator, FSDP needs to hear of the processor.
        return FullyShardedDataParallel(model, device_id=torch.device("cpu"), **self.kwargs)


class ModelParallel(OssShardedCheckpoints, strategies.ModelParallelStrategy):  # type: ignore[misc, name-defined]
    pass


def strategy(kind: str, *, sharded: bool) -> Any:
    if kind == "fsdp":
        return FSDP(state_dict_type="sharded" if sharded else "full", process_group_backend="gloo")
    return ModelParallel(
        data_parallel_size=2,
        tensor_parallel_size=1,
        save_distributed_checkpoint=sharded,
        process_group_backend="gloo",
    )


def fit(kind: str, directory: str, epochs: int, resume: str | None = None, *, sharded: bool = True) -> Any:
    torch.manual_seed(1)
    model = Model() if kind == "fsdp" else FullyShardedModel()
    newest = callbacks.ModelCheckpoint(dirpath=f"oss://{BUCKET}/{directory}", filename="{epoch}")
    trainer = package.Trainer(
        accelerator="cpu",
        devices=2,
        strategy=strategy(kind, sharded=sharded),
        plugins=[plugin],
        callbacks=[newest],
        max_epochs=epochs,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    dataset = torch.utils.data.TensorDataset(torch.arange(64.0).reshape(8, 8) / 64)
    trainer.fit(model, torch.utils.data.DataLoader(dataset, batch_size=2), ckpt_path=resume)
    return trainer


def report(case: str, **values: Any) -> None:
    line = json.dumps({"rank": int(os.environ.get("LOCAL_RANK", "0")), "case": case, **values})
    sys.stdout.write(f"\nREPORT {line}\n")
    sys.stdout.flush()


def copies() -> None:
    """Resume on a disk from a copy of a checkpoint in OSS, save there, and resume in OSS from a copy of that."""
    client = plugin._client
    there, back = f"oss://{BUCKET}/model_parallel-sharded/halves/epoch=1.ckpt", f"oss://{BUCKET}/copied/back"
    here, saved = Path(DIRECTORY, "here"), Path(DIRECTORY, "saved")
    first = os.environ.get("LOCAL_RANK", "0") == "0"
    if first:
        here.mkdir()
        for item in client.list(f"{there}/"):
            (here / item.name.rpartition("/")[2]).write_bytes(client.get(item.uri))
    # The group of the trainings before.
    torch.distributed.barrier()
    trainer = fit("model_parallel", "copied/one", 3, str(here))
    trainer.save_checkpoint(str(saved))
    if first:
        for path in saved.iterdir():
            client.put(f"{back}/{path.name}", path.read_bytes())
    torch.distributed.barrier()
    resumed = fit("model_parallel", "copied/two", 4, back)
    report("copies", steps=resumed.global_step, loss=float(resumed.callback_metrics["loss"]))


def with_fabric() -> None:
    """Save and load with Fabric: shards, and one object."""
    name = PACKAGE.replace("lightning.pytorch", "lightning.fabric").replace("pytorch_lightning", "lightning_fabric")
    fabric_package = importlib.import_module(name)
    base = importlib.import_module(f"{name}.strategies").ModelParallelStrategy
    parallel = type("Parallel", (OssFabricShardedCheckpoints, base), {})

    def parallelize(model: Any, mesh: Any) -> Any:
        return fully_shard(model, mesh=mesh["data_parallel"])

    for sharded in (True, False):
        strategy = parallel(
            parallelize,
            data_parallel_size=2,
            tensor_parallel_size=1,
            save_distributed_checkpoint=sharded,
            process_group_backend="gloo",
        )
        fabric = fabric_package.Fabric(accelerator="cpu", devices=2, strategy=strategy, plugins=[plugin])
        fabric.launch()

        def prepared(fabric: Any = fabric) -> tuple[Any, Any]:
            torch.manual_seed(1)
            model = fabric.setup_module(torch.nn.Linear(8, 4))
            return model, fabric.setup_optimizers(torch.optim.Adam(model.parameters(), lr=0.1))

        def steps(model: Any, optimizer: Any, count: int, fabric: Any = fabric) -> float:
            loss = torch.zeros(())
            for _ in range(count):
                loss = model(torch.arange(16.0).reshape(2, 8) / 16).square().mean()
                optimizer.zero_grad()
                fabric.backward(loss)
                optimizer.step()
            return float(loss)

        uri = f"oss://{BUCKET}/fabric/{'shards' if sharded else 'object'}.ckpt"
        model, optimizer = prepared()
        steps(model, optimizer, 3)
        fabric.save(uri, {"model": model, "optimizer": optimizer, "step": 3, "name": "run"})
        expected = steps(model, optimizer, 2)
        model, optimizer = prepared()
        state = {"model": model, "optimizer": optimizer, "step": 0}
        rest = fabric.load(uri, state)
        report(uri, losses=[expected, steps(model, optimizer, 2)], step=state["step"], rest=rest)


def main() -> None:
    for kind in ("fsdp", "model_parallel"):
        for sharded in (True, False):
            case = f"{kind}-{'sharded' if sharded else 'full'}"
            whole = fit(kind, f"{case}/whole", 4, sharded=sharded)
            # Each rank asks, and one of them might ask when another rank saves again.
            first = fit(kind, f"{case}/halves", 2, sharded=sharded)
            newest = first.strategy.broadcast(plugin.latest(f"oss://{BUCKET}/{case}/halves"))
            resumed = fit(kind, f"{case}/halves", 4, newest, sharded=sharded)
            losses = [float(trainer.callback_metrics["loss"]) for trainer in (whole, resumed)]
            report(case, newest=newest, steps=resumed.global_step, losses=losses)
    copies()
    with_fabric()
    # Rules of the server refuse the files of one rank, and what is not sharded.
    for case in ("refused-rank", "refused-rest", "refused-object"):
        try:
            fit("model_parallel", case, 1, sharded=case != "refused-object")
        except BaseException as error:  # noqa: BLE001 - torch reports several ranks with one
            report(case, error=str(error))
        else:
            report(case, error=None)


if __name__ == "__main__":
    main()
