"""Lightning's trainer with checkpoints in OSS, for both names of its package."""

import importlib
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from osstorchconnector import OssClient, OssConfigError, OssError, OssNotFoundError
from osstorchconnector.testing import Emulator

PACKAGES = ["lightning.pytorch", "pytorch_lightning"]

pytestmark = [
    pytest.mark.slow(120),
    # Lightning warns about this machine and this small model.
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture
def checkpoint_io(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Any:
    from fsspec.registry import _registry  # noqa: PLC0415 - with the modules below

    from osstorchconnector.fsspec.file_system import OssObjects  # noqa: PLC0415 - as below
    from osstorchconnector.lightning import OssCheckpointIO  # noqa: PLC0415 - it takes seconds, and only here

    # Another test may use ossfs in this process.
    monkeypatch.setitem(_registry, "oss", OssObjects)
    return OssCheckpointIO(**emulator.connection)


def model_of(package: Any) -> Any:
    class Model(package.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(4, 1)

        def training_step(self, batch: list[torch.Tensor], _: int) -> torch.Tensor:
            loss: torch.Tensor = self.layer(batch[0]).square().mean()
            self.log("loss", float(self.current_epoch))
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters())

    return Model()


def data() -> torch.utils.data.DataLoader[Any]:
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.randn(8, 4)), batch_size=4)


def trainer_of(package: Any, directory: Path, *plugins: Any, callbacks: Any = (), epochs: int = 3) -> Any:
    return package.Trainer(
        max_epochs=epochs,
        plugins=list(plugins),
        callbacks=list(callbacks),
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=bool(callbacks),
        default_root_dir=directory,
    )


def names(client: OssClient, bucket: str) -> list[str]:
    return [item.name for item in client.list(f"oss://{bucket}/")]


@pytest.mark.parametrize("name", PACKAGES)
def test_the_best_checkpoints_are_kept_and_training_resumes_from_one(
    checkpoint_io: Any, client: OssClient, bucket: str, tmp_path: Path, name: str
) -> None:
    package = importlib.import_module(name)
    callbacks = importlib.import_module(f"{name}.callbacks")
    best = callbacks.ModelCheckpoint(
        dirpath=f"oss://{bucket}/run", filename="{epoch}", monitor="loss", mode="max", save_top_k=2, save_last=True
    )
    trainer = trainer_of(package, tmp_path, checkpoint_io, callbacks=[best], epochs=4)
    model = model_of(package)
    trainer.fit(model, data())
    assert names(client, bucket) == ["run/epoch=2.ckpt", "run/epoch=3.ckpt", "run/last.ckpt"]
    assert best.best_model_path == f"oss://{bucket}/run/epoch=3.ckpt"

    again = trainer_of(package, tmp_path, checkpoint_io, epochs=6)
    restored = model_of(package)
    again.fit(restored, data(), ckpt_path=best.best_model_path)
    assert again.current_epoch == 6
    assert again.global_step == 12
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", PACKAGES)
def test_training_resumes_from_the_checkpoint_that_was_stored_last(
    checkpoint_io: Any, client: OssClient, bucket: str, tmp_path: Path, name: str
) -> None:
    package = importlib.import_module(name)
    callbacks = importlib.import_module(f"{name}.callbacks")

    def run(epochs: int) -> Any:
        # The best one is the first, so the other kept checkpoint is older than last.ckpt.
        kept = callbacks.ModelCheckpoint(
            dirpath=f"oss://{bucket}/run", filename="{epoch}", monitor="loss", mode="min", save_last=True
        )
        trainer = trainer_of(package, tmp_path, checkpoint_io, callbacks=[kept], epochs=epochs)
        trainer.fit(model_of(package), data(), ckpt_path=checkpoint_io.latest(f"oss://{bucket}/run"))
        return trainer

    assert checkpoint_io.latest(f"oss://{bucket}/run") is None
    assert run(3).global_step == 6
    assert names(client, bucket) == ["run/epoch=0.ckpt", "run/last.ckpt"]
    assert checkpoint_io.latest(f"oss://{bucket}/run/") == f"oss://{bucket}/run/last.ckpt"
    # Two more epochs, not five.
    assert run(5).fit_loop.epoch_progress.current.completed == 5
    assert client.get(f"oss://{bucket}/run/last.ckpt") != b""


@pytest.mark.parametrize("name", PACKAGES)
def test_a_checkpoint_of_an_exception_is_found_as_the_last(
    checkpoint_io: Any, client: OssClient, bucket: str, tmp_path: Path, name: str
) -> None:
    package = importlib.import_module(name)
    callbacks = importlib.import_module(f"{name}.callbacks")

    class Epochs(callbacks.Callback):  # type: ignore[misc, name-defined]
        def __init__(self, broken: int | None = None) -> None:
            self.begun: list[int] = []
            self.broken = broken

        def on_train_epoch_start(self, trainer: Any, _: Any) -> None:
            self.begun.append(trainer.current_epoch)
            if trainer.current_epoch == self.broken:
                raise RuntimeError("interrupted")

    def run(epochs: Epochs) -> None:
        rescue = callbacks.OnExceptionCheckpoint(dirpath=f"oss://{bucket}/run")
        trainer = trainer_of(package, tmp_path, checkpoint_io, callbacks=[rescue, epochs], epochs=4)
        trainer.fit(model_of(package), data(), ckpt_path="last")

    with pytest.raises(RuntimeError, match="interrupted"):
        run(Epochs(broken=2))
    assert "run/on_exception.ckpt" in names(client, bucket)
    run(epochs := Epochs())
    assert epochs.begun == [2, 3]


def test_the_last_is_chosen_by_time_and_among_equals_by_name(
    checkpoint_io: Any, client: OssClient, bucket: str
) -> None:
    directory = f"oss://{bucket}/run"
    for name in ("epoch=7.ckpt", "epoch=9.ckpt", "last.ckpt", "deep/last.ckpt"):
        checkpoint_io.save_checkpoint({"name": name}, f"{directory}/{name}")
    before = client.head(f"{directory}/last.ckpt").last_modified
    assert before is not None
    assert checkpoint_io.latest(directory) == f"{directory}/last.ckpt"
    # The name decides only among objects of the same second.
    while client.head(f"{directory}/epoch=7.ckpt").last_modified == before:
        checkpoint_io.save_checkpoint({"name": "again"}, f"{directory}/epoch=7.ckpt")
    assert checkpoint_io.latest(directory) == f"{directory}/epoch=7.ckpt"
    # A truncated one does not count.
    client.put(f"{directory}/epoch=8.ckpt", client.get(f"{directory}/epoch=7.ckpt")[:-10])
    assert checkpoint_io.latest(directory) == f"{directory}/epoch=7.ckpt"


@pytest.mark.parametrize("name", PACKAGES)
def test_under_async_checkpoint_io(
    checkpoint_io: Any, client: OssClient, bucket: str, tmp_path: Path, name: str, emulator: Emulator
) -> None:
    package = importlib.import_module(name)
    async_io = importlib.import_module(f"{name}.plugins.io").AsyncCheckpointIO
    callbacks = importlib.import_module(f"{name}.callbacks")

    def run(directory: str) -> None:
        every = callbacks.ModelCheckpoint(dirpath=f"oss://{bucket}/{directory}", filename="{epoch}", save_top_k=-1)
        trainer = trainer_of(package, tmp_path, async_io(checkpoint_io), callbacks=[every], epochs=2)
        trainer.fit(model_of(package), data())

    run("run")
    assert names(client, bucket) == ["run/epoch=0.ckpt", "run/epoch=1.ckpt"]
    # If a save fails in the background, the end of the training raises.
    with emulator.fault(operation="PutObject", key="refused/*", error="AccessDenied"), pytest.raises(OssError):
        run("refused")


def test_a_saved_checkpoint_is_loaded(checkpoint_io: Any, client: OssClient, bucket: str) -> None:
    uri = f"oss://{bucket}/a.ckpt"
    state = {"state_dict": {"weight": torch.arange(6.0).reshape(2, 3)}, "epoch": 3}
    checkpoint_io.save_checkpoint(state, uri)
    loaded = checkpoint_io.load_checkpoint(uri)
    assert loaded["epoch"] == 3
    assert torch.equal(loaded["state_dict"]["weight"], state["state_dict"]["weight"])  # type: ignore[index]
    moved = checkpoint_io.load_checkpoint(uri, map_location="meta", weights_only=True)
    assert moved["state_dict"]["weight"].device.type == "meta"
    checkpoint_io.remove_checkpoint(uri)
    checkpoint_io.remove_checkpoint(uri)
    assert names(client, bucket) == []
    with pytest.raises(OssNotFoundError):
        checkpoint_io.load_checkpoint(uri)


def test_a_checkpoint_that_cannot_be_saved_leaves_the_last(checkpoint_io: Any, bucket: str) -> None:
    uri = f"oss://{bucket}/a.ckpt"
    checkpoint_io.save_checkpoint({"epoch": 1}, uri)
    with pytest.raises(AttributeError, match="pickle"):
        checkpoint_io.save_checkpoint({"weights": torch.ones(1 << 20), "function": lambda: None}, uri)
    assert checkpoint_io.load_checkpoint(uri) == {"epoch": 1}


def test_wrong_arguments_are_reported(checkpoint_io: Any) -> None:
    with pytest.raises(OssConfigError, match="a path turns oss:// into oss:/"):
        checkpoint_io.save_checkpoint({}, Path("oss://bucket/a"))
    with pytest.raises(OssConfigError, match="oss://"):
        checkpoint_io.load_checkpoint("here.ckpt")
    with pytest.raises(OssConfigError, match="no storage_options"):
        checkpoint_io.save_checkpoint({}, "oss://bucket/a", storage_options={})


def test_it_is_the_interface_of_both_packages_and_pickles(checkpoint_io: Any, emulator: Emulator) -> None:
    for package in ("lightning.fabric", "lightning_fabric"):
        assert isinstance(checkpoint_io, importlib.import_module(f"{package}.plugins").CheckpointIO)
    assert emulator.access_key_secret.encode() not in pickle.dumps(checkpoint_io)
    assert isinstance(pickle.loads(pickle.dumps(checkpoint_io)), type(checkpoint_io))


def test_the_guides_code_runs(
    checkpoint_io: Any,
    emulator: Emulator,
    client: OssClient,
    bucket: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    guide = (Path(__file__).parents[1] / "docs" / "guides" / "lightning.md").read_text()
    given = '"oss-cn-hangzhou-internal.aliyuncs.com", cred_path="/root/.alibabacloud/credentials"'
    here = f'"{emulator.endpoint}", cred_path="{emulator.cred_path}", region="{emulator.region}"'
    (block,) = re.findall(r"```python\n(.*?)```", guide, flags=re.DOTALL)
    assert given in block
    assert "Trainer(" in block
    # Lightning's own log, shortened.
    monkeypatch.chdir(tmp_path)
    block = block.replace("Trainer(", "Trainer(max_epochs=1, accelerator='cpu', ", 1)
    assert checkpoint_io is not None
    names_in_it = {"model": model_of(importlib.import_module(PACKAGES[0])), "data": data()}
    exec(block.replace(given, here).replace("oss://bucket/", f"oss://{bucket}/"), names_in_it)
    assert "run-1/last.ckpt" in names(client, bucket)


def test_without_lightning_the_extra_is_named() -> None:
    program = (
        "import sys\n"
        "sys.modules['lightning'] = sys.modules['lightning_fabric'] = None\n"
        "try:\n    import osstorchconnector.lightning\n"
        "except ModuleNotFoundError as error:\n    print(error)\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert 'pip install "osstorchconnector[lightning]"' in result.stdout


@pytest.mark.parametrize("name", PACKAGES)
def test_the_log_of_csvlogger_is_whole(name: str, checkpoint_io: Any, client: OssClient, bucket: str) -> None:
    package = importlib.import_module(name)
    logger = importlib.import_module(f"{name}.loggers").CSVLogger(f"oss://{bucket}/root", flush_logs_every_n_steps=2)
    trainer = package.Trainer(
        max_epochs=4,
        plugins=[checkpoint_io],
        logger=logger,
        log_every_n_steps=1,
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    trainer.fit(model_of(package), data())
    [log] = [item.uri for item in client.list(f"oss://{bucket}/root/") if item.uri.endswith("metrics.csv")]
    header, *rows = client.get(log).decode().splitlines()
    steps = [int(row.split(",")[header.split(",").index("step")]) for row in rows]
    assert steps == list(range(8))
