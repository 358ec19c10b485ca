"""Train with Ray Train, with checkpoints in OSS; a worker fails, and the training resumes; no account is needed.

    pip install "ray[train]"
    python examples/ray_train.py

An OSS server runs beside this program. Ray starts a small cluster on this machine.
"""

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import pyarrow.fs
import ray
import ray.train
import torch
from ray.train import Checkpoint, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer, prepare_model

from osstorchconnector.fsspec import FsspecFileSystem
from osstorchconnector.testing import ConnectionArguments, Emulator

BUCKET = "ray"
STEPS = 6
FAILS_AT = 4
WORKERS = 2


def train(config: dict[str, Any]) -> None:
    """Train in one worker."""
    context = ray.train.get_context()
    model = prepare_model(torch.nn.Linear(4, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    first = 0
    if checkpoint := ray.train.get_checkpoint():
        with checkpoint.as_directory() as folder:
            state = torch.load(Path(folder, "state.pt"))
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["step"]
    for step in range(first, STEPS):
        inputs = torch.rand(8, 4)
        loss = (model(inputs) - inputs.sum(1, keepdim=True)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step + 1 == FAILS_AT and first == 0 and context.get_world_rank() == 1:
            raise RuntimeError("a machine was lost")
        metrics = {"step": step + 1, "resumed_from": first, "loss": float(loss.detach())}
        with tempfile.TemporaryDirectory() as folder:
            saved = None
            if context.get_world_rank() == 0:
                state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1}
                torch.save(state, Path(folder, "state.pt"))
                saved = Checkpoint.from_directory(folder)
            ray.train.report(metrics, checkpoint=saved)
            if context.get_world_rank() == 0:
                Path(config["metrics"]).write_text(json.dumps(metrics), encoding="utf-8")


def storage(connection: ConnectionArguments) -> pyarrow.fs.FileSystem:
    """Return OSS as a file system of pyarrow. It is sent to the workers as configuration."""
    return pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(FsspecFileSystem(**connection)))


def main() -> int:
    """Train; return the exit status."""
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    with Emulator(buckets=[BUCKET]) as emulator, tempfile.TemporaryDirectory() as folder:
        ray.init(num_cpus=WORKERS + 1, include_dashboard=False, log_to_driver=False)
        metrics = Path(folder, "metrics.json")
        trainer = TorchTrainer(
            train,
            train_loop_config={"metrics": str(metrics)},
            scaling_config=ScalingConfig(num_workers=WORKERS),
            run_config=RunConfig(
                name="tiny",
                storage_path=f"{BUCKET}/runs",
                storage_filesystem=storage(emulator.connection),
                failure_config=FailureConfig(max_failures=1),
            ),
        )
        result = trainer.fit()
        ray.shutdown()
        last = json.loads(metrics.read_text(encoding="utf-8"))
        print(f"resumed from step {last['resumed_from']}, and ended at step {last['step']}")
        checkpoint = "none" if result.checkpoint is None else f"oss://{result.checkpoint.path}"
        print(f"the newest checkpoint is {checkpoint}")
    return 0 if (last["resumed_from"], last["step"]) == (FAILS_AT - 1, STEPS) else 1


if __name__ == "__main__":
    sys.exit(main())
