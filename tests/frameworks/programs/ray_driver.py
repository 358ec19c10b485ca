"""Ray Train starts the ranks itself; each of them runs the cells."""

import sys
from typing import Any

import ray
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from tests.frameworks.programs.rank import run_cells


def train(config: dict[str, Any]) -> None:
    run_cells(config["folder"])


def main() -> None:
    world, folder = sys.argv[1:]
    ray.init(num_cpus=int(world) + 1, include_dashboard=False, log_to_driver=True)
    TorchTrainer(
        train,
        train_loop_config={"folder": folder},
        scaling_config=ScalingConfig(num_workers=int(world)),
        run_config=RunConfig(storage_path=f"{folder}/ray"),
    ).fit()
    ray.shutdown()


if __name__ == "__main__":
    main()
