"""Train with Lightning on objects of OSS, and resume from a checkpoint in OSS; no account is needed.

    pip install 'lightning>=2.4'
    python examples/lightning_trainer.py

An OSS server runs inside this process.
"""

import io
import sys
import warnings

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from osstorchconnector import DataObject, OssClient, OssIterableDataset
from osstorchconnector.lightning import OssCheckpointIO
from osstorchconnector.testing import ConnectionArguments, Emulator

BUCKET = "training"
EXAMPLES = 64


class Sum(LightningModule):
    """Learns to add numbers."""

    def __init__(self) -> None:
        """Make a model of one layer."""
        super().__init__()
        self.layer = torch.nn.Linear(8, 1)

    def training_step(self, batch: torch.Tensor, _index: int) -> torch.Tensor:
        """Return the loss of a batch."""
        loss: torch.Tensor = (self.layer(batch) - batch.sum(1, keepdim=True)).square().mean()
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimizer."""
        return torch.optim.Adam(self.parameters(), lr=0.02)


def load(item: DataObject) -> torch.Tensor:
    """Return the tensor that an object holds."""
    tensor: torch.Tensor = torch.load(io.BytesIO(item.read()))
    return tensor


def train(connection: ConnectionArguments, epochs: int) -> tuple[str | None, int]:
    """Train up to an epoch, from the newest checkpoint on; return that and how many steps were taken in all."""
    data = OssIterableDataset.from_prefix(f"oss://{BUCKET}/data/", transform=load, shuffle=True, **connection)
    checkpoints = OssCheckpointIO(**connection)
    trainer = Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        plugins=[checkpoints],
        callbacks=[ModelCheckpoint(dirpath=f"oss://{BUCKET}/run", filename="{epoch}")],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    newest = checkpoints.latest(f"oss://{BUCKET}/run")
    trainer.fit(Sum(), torch.utils.data.DataLoader(data, batch_size=8), ckpt_path=newest)
    return newest, trainer.global_step


def main() -> int:
    """Train twice; return the exit status."""
    # Lightning advises how to be faster with a larger model.
    warnings.filterwarnings("ignore", module=r"lightning\.")
    with Emulator(buckets=[BUCKET]) as emulator:
        client = OssClient(**emulator.connection)
        for number in range(EXAMPLES):
            buffer = io.BytesIO()
            torch.save(torch.rand(8), buffer)
            client.put(f"oss://{BUCKET}/data/{number:03}", buffer.getvalue())
        train(emulator.connection, 2)
        resumed, steps = train(emulator.connection, 4)
    print(f"resumed from {resumed}, and ended after {steps} steps")
    return 0 if resumed is not None and steps == 4 * EXAMPLES // 8 else 1


if __name__ == "__main__":
    sys.exit(main())
