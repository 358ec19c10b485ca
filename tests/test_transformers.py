"""The Trainer of Transformers, with checkpoints in OSS: a tiny model with random weights."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from osstorchconnector import OssClient, OssConfigError, OssError
from osstorchconnector.testing import Emulator

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")

pytestmark = [
    pytest.mark.slow(120),
    # Transformers warns about this machine and this small model.
    pytest.mark.filterwarnings("ignore"),
]


class Data(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    def __len__(self) -> int:
        return 16

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        tokens = torch.arange(index, index + 8) % 32
        return {"input_ids": tokens, "labels": tokens}


def callback(emulator: Emulator, bucket: str, **options: Any) -> Any:
    from osstorchconnector.transformers import OssTrainerCallback  # noqa: PLC0415 - it takes seconds, and only here

    return OssTrainerCallback(f"oss://{bucket}/run", **emulator.connection, **options)


def trainer(directory: Path, checkpoints: Any, steps: int, **arguments: Any) -> Any:
    torch.manual_seed(1)
    config = transformers.GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=32, n_positions=8)
    model = transformers.GPT2LMHeadModel(config)
    given = transformers.TrainingArguments(
        **{
            "output_dir": str(directory),
            "max_steps": steps,
            "save_steps": 2,
            "per_device_train_batch_size": 2,
            "report_to": [],
            "use_cpu": True,
            "disable_tqdm": True,
            "dataloader_pin_memory": False,
            **arguments,
        }
    )
    return transformers.Trainer(
        model=model, args=given, train_dataset=Data(), eval_dataset=Data(), callbacks=[checkpoints]
    )


def saved(client: OssClient, bucket: str) -> list[str]:
    prefix = f"oss://{bucket}/run/"
    return [item.uri.removeprefix(prefix).rstrip("/") for item in client.list(prefix, delimiter="/")]


def weights(job: Any) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in job.model.parameters()]


def test_a_training_in_two_halves_on_two_machines_is_the_training_in_one(
    emulator: Emulator, client: OssClient, bucket: str, tmp_path: Path
) -> None:
    from transformers import TrainerCallback  # noqa: PLC0415 - as above

    whole = trainer(tmp_path / "whole", TrainerCallback(), 6)
    whole.train()
    checkpoints = callback(emulator, bucket)
    assert checkpoints.fetch(str(tmp_path / "first")) is None
    trainer(tmp_path / "first", checkpoints, 4, lr_scheduler_type="constant").train()
    assert saved(client, bucket) == ["checkpoint-2", "checkpoint-4"]

    again = callback(emulator, bucket)
    assert again.latest() == f"oss://{bucket}/run/checkpoint-4"
    folder = again.fetch(str(tmp_path / "second"))
    assert folder == str(tmp_path / "second" / "checkpoint-4")
    resumed = trainer(tmp_path / "second", again, 6, lr_scheduler_type="constant")
    resumed.train(resume_from_checkpoint=folder)
    assert resumed.state.global_step == 6
    constant = trainer(tmp_path / "constant", TrainerCallback(), 6, lr_scheduler_type="constant")
    constant.train()
    assert all(torch.equal(*pair) for pair in zip(weights(resumed), weights(constant), strict=True))


def test_the_newest_the_best_and_the_resumed_are_kept(
    emulator: Emulator, client: OssClient, bucket: str, tmp_path: Path
) -> None:
    # A resumed training evaluates as often as the first.
    often = {"eval_strategy": "steps", "eval_steps": 2}
    trainer(tmp_path / "first", callback(emulator, bucket, keep=1), 6, **often).train()
    assert saved(client, bucket) == ["checkpoint-6"]
    checkpoints = callback(emulator, bucket, keep=1)
    folder = checkpoints.fetch(str(tmp_path / "second"))
    best = {"load_best_model_at_end": True, "metric_for_best_model": "loss", "greater_is_better": True}
    job = trainer(tmp_path / "second", checkpoints, 12, save_total_limit=1, **often, **best)
    job.train(resume_from_checkpoint=folder)
    # The loss falls, so the first one that was compared is the best.
    assert Path(job.state.best_model_checkpoint).name == "checkpoint-8"
    assert sorted(saved(client, bucket)) == ["checkpoint-12", "checkpoint-6", "checkpoint-8"]
    # A new machine has neither.
    callback(emulator, bucket).fetch(str(tmp_path / "third"))
    assert sorted(path.name for path in (tmp_path / "third").iterdir()) == ["checkpoint-12", "checkpoint-8"]


def test_a_failed_upload_ends_the_training(emulator: Emulator, client: OssClient, bucket: str, tmp_path: Path) -> None:
    with emulator.fault(operation="PutObject", key="*/checkpoint-4/optimizer.pt", error="AccessDenied"):
        job = trainer(tmp_path / "first", callback(emulator, bucket), 6)
        with pytest.raises(OssError, match="AccessDenied"):
            job.train()
    assert saved(client, bucket) == ["checkpoint-2"]


def test_an_output_directory_on_oss_is_refused_before_the_training(
    emulator: Emulator, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoints = callback(emulator, bucket)
    with pytest.raises(OssConfigError, match=r"output_dir='oss://.*' is a local folder for Trainer"):
        trainer(f"oss://{bucket}/run", checkpoints, 2)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OssConfigError, match="give a local directory"):
        checkpoints.fetch(f"oss://{bucket}/run")


def test_a_search_for_hyperparameters_is_refused_before_its_first_step(
    emulator: Emulator, client: OssClient, bucket: str, tmp_path: Path
) -> None:
    job = trainer(tmp_path, callback(emulator, bucket), 2)
    with pytest.raises(OssConfigError, match="search for hyperparameters"):
        job.callback_handler.on_train_begin(
            job.args, transformers.TrainerState(is_hyper_param_search=True), job.control
        )
    assert saved(client, bucket) == []


@pytest.mark.parametrize("keep", [0, -1, True, 1.5])
def test_a_wrong_keep_is_reported(emulator: Emulator, bucket: str, keep: Any) -> None:
    with pytest.raises(OssConfigError, match=re.escape(repr(keep))):
        callback(emulator, bucket, keep=keep)


def test_the_guides_code_runs(emulator: Emulator, client: OssClient, bucket: str, tmp_path: Path) -> None:
    guide = (Path(__file__).parents[1] / "docs" / "guides" / "transformers.md").read_text()
    block, models = re.findall(r"```python\n(.*?)```", guide, flags=re.DOTALL)
    replaced = {
        '"oss-cn-hangzhou-internal.aliyuncs.com"': f'"{emulator.endpoint}", region="{emulator.region}"',
        "/root/.alibabacloud/credentials": emulator.cred_path,
        "oss://bucket/run-1": f"oss://{bucket}/run",
        "/local/run-1": str(tmp_path / "run"),
        "save_steps=100": "save_steps=2, max_steps=2, use_cpu=True, report_to=[]",
    }
    for given, here in replaced.items():
        assert given in block
        block = block.replace(given, here)
    config = transformers.GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=32, n_positions=8)
    exec(block, {"model": transformers.GPT2LMHeadModel(config), "data": Data()})
    assert saved(client, bucket) == ["checkpoint-2"]
    replaced = {
        '"oss-cn-hangzhou-internal.aliyuncs.com"': f'"{emulator.endpoint}", "region": "{emulator.region}"',
        "/root/.alibabacloud/credentials": emulator.cred_path,
        "oss://bucket/model/": f"oss://{bucket}/model/",
    }
    for given, here in replaced.items():
        assert given in models
        models = models.replace(given, here)
    names = {"model": transformers.GPT2LMHeadModel(config)}
    before = names["model"].state_dict()
    exec(models, names)
    after = names["model"].state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
