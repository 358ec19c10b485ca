"""Train a tiny model with the Trainer of Transformers, lose the machine, and resume on another; no account is needed.

    pip install 'transformers>=4.51' 'accelerate>=1.6'
    python examples/transformers_trainer.py

An OSS server runs inside this process. Two directories stand for the disks of two machines.
"""

import sys
import tempfile
from pathlib import Path

import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

from osstorchconnector.testing import ConnectionArguments, Emulator
from osstorchconnector.transformers import OssTrainerCallback

BUCKET = "checkpoints"
RUN = f"oss://{BUCKET}/tiny"


class Sentences(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    """Made-up sentences of eight words."""

    def __len__(self) -> int:
        """Return how many there are."""
        return 64

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """Return the words of a sentence, each one above the word before."""
        words = torch.arange(index, index + 8) % 32
        return {"input_ids": words, "labels": words}


def train(disk: Path, connection: ConnectionArguments, steps: int) -> str | None:
    """Train to a step, from the newest checkpoint on if there is one; return the checkpoint's folder."""
    checkpoints = OssTrainerCallback(RUN, **connection, keep=2)
    arguments = TrainingArguments(
        output_dir=str(disk), max_steps=steps, save_steps=5, report_to=[], use_cpu=True, disable_tqdm=True
    )
    model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=2, n_embd=16, vocab_size=32, n_positions=8))
    resumed = checkpoints.fetch(str(disk))
    Trainer(model, arguments, train_dataset=Sentences(), callbacks=[checkpoints]).train(resume_from_checkpoint=resumed)
    print(f"trained to step {steps}; the newest checkpoint is {checkpoints.latest()}")
    return resumed


def main() -> int:
    """Train twice; return the exit status."""
    with Emulator(buckets=[BUCKET]) as emulator, tempfile.TemporaryDirectory() as disks:
        train(Path(disks, "first"), emulator.connection, 10)
        resumed = train(Path(disks, "second"), emulator.connection, 20)
        print(f"the second machine resumed from {resumed}")
        return 0 if resumed == str(Path(disks, "second", "checkpoint-10")) else 1


if __name__ == "__main__":
    sys.exit(main())
