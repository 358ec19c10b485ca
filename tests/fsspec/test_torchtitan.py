"""The checkpointer of torchtitan, which needs an older ``datasets`` than the other libraries are tested with."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed

from osstorchconnector.fsspec import FsspecFileSystem

pytestmark = [pytest.mark.slow(120), pytest.mark.filterwarnings("ignore")]


class Number:
    """What stands for the state of an optimizer and the like."""

    def __init__(self) -> None:
        self.value = 0

    def state_dict(self) -> dict[str, int]:
        return {"value": self.value}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.value = state["value"]


@pytest.mark.parametrize("mode", ["disabled", "async"])
def test_checkpoints_are_saved_loaded_and_removed(files: FsspecFileSystem, bucket: str, mode: str) -> None:
    checkpoint = pytest.importorskip("torchtitan.components.checkpoint")
    distributed.init_process_group("gloo", init_method=f"file://{Path.cwd()}/group", rank=0, world_size=1)
    try:
        config = checkpoint.CheckpointManager.Config(
            enable=True,
            folder=f"oss://{bucket}/run",
            interval=1,
            keep_latest_k=2,
            async_mode=mode,
            last_save_model_only=False,
        )
        model, step = torch.nn.Linear(4, 2), Number()
        parts: dict[str, Any] = {"dataloader": Number(), "optimizers": Number(), "lr_schedulers": Number()}
        manager = checkpoint.CheckpointManager(
            config, model_parts=[model], states={"train_state": step}, sd_adapter=None, base_folder="/absent", **parts
        )
        assert not manager.load()
        for step.value in range(1, 6):
            manager.save(step.value, last_step=step.value == 5)
            manager.maybe_wait_for_saving()
        weight = model.weight.detach().clone()
        torch.nn.init.zeros_(model.weight)
        step.value = 0
        assert manager.load()
        assert torch.equal(model.weight, weight)
        assert step.value == 5
        # It removes old ones in a thread, which this ends.
        manager.close()
    finally:
        distributed.destroy_process_group()
    kept = files.ls(f"{bucket}/run", detail=False)
    assert f"{bucket}/run/step-5" in kept
    assert f"{bucket}/run/step-1" not in kept
