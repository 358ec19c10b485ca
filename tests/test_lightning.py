"""Lightning's trainer with checkpoints in OSS, for both names of its package."""

import importlib
import inspect
import pickle
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from osstorchconnector import OssClient, OssConfigError, OssError, OssIterableDataset, OssNotFoundError
from osstorchconnector.testing import Emulator

PACKAGES = ["lightning.pytorch", "pytorch_lightning"]

pytestmark = [
    pytest.mark.slow(120),
    # Lightning warns about this machine and this small model.
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture
def checkpoint_io(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    from fsspec.registry import _registry  # noqa: PLC0415 - with the modules below

    from osstorchconnector.fsspec import FsspecFileSystem, use_client  # noqa: PLC0415 - as below
    from osstorchconnector.lightning import OssCheckpointIO  # noqa: PLC0415 - it takes seconds, and only here

    # Another test may use ossfs in this process.
    monkeypatch.setitem(_registry, "oss", FsspecFileSystem)
    yield OssCheckpointIO(**emulator.connection)
    use_client(None)


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


@pytest.mark.parametrize("name", PACKAGES)
def test_lightnings_own_search_for_the_last_finds_none_and_says_so(
    checkpoint_io: Any, client: OssClient, bucket: str, tmp_path: Path, name: str
) -> None:
    package = importlib.import_module(name)
    callbacks = importlib.import_module(f"{name}.callbacks")

    def run(epochs: int, last: bool) -> Any:  # noqa: FBT001 - a test's
        kept = callbacks.ModelCheckpoint(dirpath=f"oss://{bucket}/run", save_last=True)
        trainer = trainer_of(package, tmp_path, checkpoint_io, callbacks=[kept], epochs=epochs)
        trainer.fit(model_of(package), data(), ckpt_path="last" if last else None)
        return trainer

    run(1, last=False)
    stored = {key: client.get(f"oss://{bucket}/{key}") for key in names(client, bucket)}
    assert "run/last.ckpt" in stored
    # If it finds it one day, the guide has to say so.
    with pytest.warns(UserWarning, match="there is no last checkpoint available"):
        assert run(1, last=True).global_step == 2
    # A training that begins again overwrites nothing.
    assert {key: client.get(f"oss://{bucket}/{key}") for key in stored} == stored


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


def test_a_saved_checkpoint_is_loaded(checkpoint_io: Any, bucket: str) -> None:
    uri = f"oss://{bucket}/a.ckpt"
    state = {"state_dict": {"weight": torch.arange(6.0).reshape(2, 3)}, "epoch": 3}
    checkpoint_io.save_checkpoint(state, uri)
    loaded = checkpoint_io.load_checkpoint(uri)
    assert loaded["epoch"] == 3
    assert torch.equal(loaded["state_dict"]["weight"], state["state_dict"]["weight"])  # type: ignore[index]
    moved = checkpoint_io.load_checkpoint(uri, map_location="meta", weights_only=True)
    assert moved["state_dict"]["weight"].device.type == "meta"


def test_a_checkpoint_is_removed(checkpoint_io: Any, client: OssClient, bucket: str) -> None:
    uri = f"oss://{bucket}/a.ckpt"
    checkpoint_io.save_checkpoint({"epoch": 3}, uri)
    checkpoint_io.remove_checkpoint(uri)
    checkpoint_io.remove_checkpoint(uri)
    assert names(client, bucket) == []
    with pytest.raises(OssNotFoundError):
        checkpoint_io.load_checkpoint(uri)


def test_a_key_that_may_not_read_removes_too(
    checkpoint_io: Any, client: OssClient, bucket: str, emulator: Emulator
) -> None:
    uri = f"oss://{bucket}/a.ckpt"
    checkpoint_io.save_checkpoint({"epoch": 3}, uri)
    with emulator.fault(operation="HeadObject", key="a.ckpt/*", error="AccessDenied"):
        checkpoint_io.remove_checkpoint(uri)
    assert names(client, bucket) == []


@pytest.mark.parametrize("name", PACKAGES)
def test_the_checkpoint_that_training_resumed_from_is_kept(
    checkpoint_io: Any, emulator: Emulator, client: OssClient, bucket: str, tmp_path: Path, name: str
) -> None:
    package = importlib.import_module(name)
    callbacks = importlib.import_module(f"{name}.callbacks")

    def run(plugin: Any, directory: str, epochs: int, resume: str | None) -> None:
        newest = callbacks.ModelCheckpoint(dirpath=f"oss://{bucket}/{directory}", filename="{epoch}")
        trainer = trainer_of(package, tmp_path, plugin, callbacks=[newest], epochs=epochs)
        trainer.fit(model_of(package), data(), ckpt_path=resume)

    run(checkpoint_io, "first", 2, None)
    assert names(client, bucket) == ["first/epoch=1.ckpt"]
    # Another run, and a plugin that stored nothing of the first: its best checkpoint is the first run's.
    another = type(checkpoint_io)(**emulator.connection)
    client.copy(f"oss://{bucket}/first/epoch=1.ckpt", f"oss://{bucket}/copied.ckpt")
    run(another, "second", 4, f"oss://{bucket}/copied.ckpt")
    assert names(client, bucket) == ["copied.ckpt", "first/epoch=1.ckpt", "second/epoch=3.ckpt"]
    # The same run: only what it resumed from is kept.
    run(checkpoint_io, "second", 6, f"oss://{bucket}/second/epoch=3.ckpt")
    assert names(client, bucket) == [
        "copied.ckpt",
        "first/epoch=1.ckpt",
        "second/epoch=3.ckpt",
        "second/epoch=5.ckpt",
    ]


@pytest.mark.parametrize("name", ["lightning.fabric", "lightning_fabric"])
def test_fabric_saves_and_loads(checkpoint_io: Any, client: OssClient, bucket: str, name: str) -> None:
    fabric = importlib.import_module(name).Fabric(accelerator="cpu", devices=1, plugins=[checkpoint_io])
    model = torch.nn.Linear(4, 1)
    prepared = fabric.setup(model)
    fabric.save(f"oss://{bucket}/a.ckpt", {"model": prepared, "step": 3})
    assert names(client, bucket) == ["a.ckpt"]
    before = model.weight.detach().clone()
    torch.nn.init.zeros_(model.weight)
    assert fabric.load(f"oss://{bucket}/a.ckpt", {"model": prepared}) == {"step": 3}
    assert torch.equal(model.weight, before)


def test_lightnings_own_temporary_checkpoints_are_removed(checkpoint_io: Any, client: OssClient, bucket: str) -> None:
    # The learning rate finder saves, loads and removes such a one, beside the checkpoints or elsewhere.
    checkpoint_io.save_checkpoint({}, f"oss://{bucket}/run/epoch=1.ckpt")
    temporary = f"oss://{bucket}/.lr_find_1.ckpt"
    checkpoint_io.save_checkpoint({}, temporary)
    checkpoint_io.load_checkpoint(temporary)
    checkpoint_io.remove_checkpoint(temporary)
    assert names(client, bucket) == ["run/epoch=1.ckpt"]


def test_a_save_in_the_background_ends_before_the_previous_checkpoint_is_removed(
    checkpoint_io: Any, client: OssClient, bucket: str, emulator: Emulator
) -> None:
    async_io = importlib.import_module("lightning.pytorch.plugins.io").AsyncCheckpointIO
    run = f"oss://{bucket}/run"

    def save(number: int) -> None:
        background = async_io(checkpoint_io)
        background.save_checkpoint({"epoch": number}, f"{run}/{number}.ckpt")
        # Lightning asks for it at once, while the save may still run.
        background.remove_checkpoint(f"{run}/{number - 1}.ckpt")
        background.teardown()

    save(0)
    with emulator.fault(operation="PutObject", key="run/1.ckpt", error="AccessDenied"), pytest.raises(OssError):
        save(1)
    assert names(client, bucket) == ["run/0.ckpt"]
    save(1)
    assert names(client, bucket) == ["run/1.ckpt"]


class Interface24:
    def load_checkpoint(self, path: str, map_location: Any = None) -> Any: ...


@pytest.mark.parametrize("package", ["2.4", "2.6"])
@pytest.mark.parametrize("argument", [None, True, False])
@pytest.mark.parametrize("given", [{}, {"weights_only": None}, {"weights_only": True}, {"weights_only": False}])
def test_what_is_loaded_is_what_lightning_of_that_version_loads(
    emulator: Emulator,
    bucket: str,
    monkeypatch: pytest.MonkeyPatch,
    package: str,
    argument: bool | None,  # noqa: FBT001 - a parameter of the test
    given: dict[str, Any],
) -> None:
    module = importlib.import_module("osstorchconnector.lightning.checkpoint_io")
    if package == "2.4":
        monkeypatch.setattr(module, "_interfaces", [Interface24])
    elif "weights_only" not in inspect.signature(module.CheckpointIO.load_checkpoint).parameters:
        pytest.skip("this Lightning is older")
    plugin = module.OssCheckpointIO(**emulator.connection, weights_only=argument)
    uri = f"oss://{bucket}/a.ckpt"
    # As hyperparameters may be.
    plugin.save_checkpoint({"hyper_parameters": {"root": Path("/data")}}, uri)
    explicit = given.get("weights_only")
    default = False if package == "2.4" and not given else None
    expected = next((one for one in (explicit, argument, default) if one is not None), True)
    if expected:
        with pytest.raises(pickle.UnpicklingError, match="weights_only"):
            plugin.load_checkpoint(uri, **given)
    else:
        assert plugin.load_checkpoint(uri, **given) == {"hyper_parameters": {"root": Path("/data")}}


@pytest.mark.parametrize("name", PACKAGES)
def test_training_resumes_whatever_lightnings_own_plugin_resumes(
    checkpoint_io: Any, bucket: str, tmp_path: Path, name: str
) -> None:
    package = importlib.import_module(name)

    def outcome(directory: str, *plugins: Any) -> str:
        def trainer(epochs: int) -> Any:
            return trainer_of(package, tmp_path / "root", *plugins, epochs=epochs)

        model = model_of(package)
        model.save_hyperparameters({"root": Path("/data")})
        first = trainer(1)
        first.fit(model, data())
        first.save_checkpoint(f"{directory}/a.ckpt")
        again = trainer(2)
        try:
            again.fit(model_of(package), data(), ckpt_path=f"{directory}/a.ckpt")
        except pickle.UnpicklingError:
            return "refused"
        return f"resumed at step {again.global_step}"

    assert outcome(f"oss://{bucket}/run", checkpoint_io) == outcome(str(tmp_path / "run"))


def test_a_local_folder_that_was_meant_to_be_on_oss_is_reported(
    checkpoint_io: Any, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    # What a strategy makes that saves by itself.
    Path(f"oss://{bucket}/run/a.ckpt").mkdir(parents=True)
    with pytest.raises(OssConfigError, match=r"instead of oss://.*OssShardedCheckpoints"):
        checkpoint_io.latest(f"oss://{bucket}/run")
    with pytest.raises(OssConfigError, match="move or delete the folder"):
        checkpoint_io.remove_checkpoint(f"oss://{bucket}/run/a.ckpt")


def test_an_untested_version_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = importlib.import_module("osstorchconnector._tested_versions")
    monkeypatch.setattr(versions, "version", lambda _: "2.7.0")
    monkeypatch.setattr(versions, "_warned", set())
    with pytest.warns(UserWarning, match=r"lightning 2\.7\.0 is installed, .* tested with 2\.4 to 2\.6"):
        versions.warn_if_untested("lightning", (2, 4), (2, 6))
    versions.warn_if_untested("lightning", (2, 4), (2, 6))
    versions.warn_if_untested("other", (2, 4), (2, 7))


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
    block, sharded = re.findall(r"```python\n(.*?)```", guide, flags=re.DOTALL)
    assert given in block
    assert given in sharded
    assert "Trainer(" in block
    # Lightning's own log, shortened.
    monkeypatch.chdir(tmp_path)
    block = block.replace("Trainer(", "Trainer(max_epochs=1, accelerator='cpu', ", 1)
    assert checkpoint_io is not None
    names_in_it = {"model": model_of(importlib.import_module(PACKAGES[0])), "data": data()}
    exec(block.replace(given, here).replace("oss://bucket/", f"oss://{bucket}/"), names_in_it)
    assert "run-1/last.ckpt" in names(client, bucket)
    # Without ranks it cannot run, but it must be possible to make it.
    sharded = sharded.replace("Trainer(", "Trainer(accelerator='cpu', devices=1, ", 1)
    made: dict[str, Any] = {}
    exec(sharded.replace(given, here), made)
    assert isinstance(made["trainer"].strategy.checkpoint_io, type(checkpoint_io))


def test_without_lightning_the_extra_is_named() -> None:
    program = (
        "import sys\n"
        "sys.modules['lightning'] = sys.modules['lightning_fabric'] = None\n"
        "try:\n    import osstorchconnector.lightning\n"
        "except ModuleNotFoundError as error:\n    print(error)\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "pip install 'lightning>=2.4'" in result.stdout


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
    model = model_of(package)
    model.save_hyperparameters({"rate": 0.1})
    trainer.fit(model, data())
    [log] = [item.uri for item in client.list(f"oss://{bucket}/root/") if item.uri.endswith("metrics.csv")]
    header, *rows = client.get(log).decode().splitlines()
    steps = [int(row.split(",")[header.split(",").index("step")]) for row in rows]
    assert steps == list(range(8))
    [parameters] = [item.uri for item in client.list(f"oss://{bucket}/root/") if item.uri.endswith("hparams.yaml")]
    assert client.get(parameters) == b"rate: 0.1\n"


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("ranks", [1, 2])
def test_each_epoch_of_a_training_has_its_own_shuffle(
    emulator: Emulator, client: OssClient, bucket: str, tmp_path: Path, workers: int, ranks: int
) -> None:
    package: Any = importlib.import_module(PACKAGES[0])
    for number in range(24):
        client.put(f"oss://{bucket}/{number:02}", b"")

    def build() -> OssIterableDataset:
        return OssIterableDataset.from_prefix(
            f"oss://{bucket}/",
            transform=lambda item: torch.full((4,), float(item.name)),
            shuffle=True,
            batch_size=4,
            shard=(0, ranks),
            **emulator.connection,
        )

    dataset = build()
    seen: list[int] = []

    class Model(type(model_of(package))):  # type: ignore[misc]
        def training_step(self, batch: torch.Tensor, number: int) -> torch.Tensor:
            seen.extend(batch[:, 0].int().tolist())
            loss: torch.Tensor = super().training_step([batch], number)
            return loss

    # As in docs/concepts/order.md.
    class SetEpoch(package.Callback):  # type: ignore[misc]
        def setup(self, trainer: Any, module: Any, stage: str) -> None:  # noqa: ARG002 - Lightning's
            dataset.set_epoch(trainer.current_epoch)

        def on_train_epoch_end(self, trainer: Any, module: Any) -> None:  # noqa: ARG002 - Lightning's
            dataset.set_epoch(trainer.current_epoch + 1)

    method = "fork" if workers else None
    loader = torch.utils.data.DataLoader(dataset, batch_size=4, num_workers=workers, multiprocessing_context=method)
    trainer_of(package, tmp_path, callbacks=[SetEpoch()] if ranks > 1 else []).fit(Model(), loader)
    expected, model = [], build()
    for epoch in range(3):
        model.set_epoch(epoch)
        expected += [int(sample[0]) for sample in model]
    assert seen == expected
