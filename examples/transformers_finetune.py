"""Fine-tune a model of Transformers: weights and texts come from OSS, and the result goes there; no account is needed.

    pip install 'transformers>=4.51' 'accelerate>=1.6' safetensors datasets
    python examples/transformers_finetune.py

An OSS server runs inside this process, with a tiny model and a few texts. The weights are received into the tensors,
without a copy on the disk. ``datasets`` opens ``oss://`` with fsspec; only the texts are kept in its cache. The
checkpoints of the training are in OSS too.
"""

import json
import sys
import tempfile
from pathlib import Path

import fsspec
from datasets import load_dataset
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

from osstorchconnector import OssClient
from osstorchconnector.fsspec import FsspecFileSystem, use_client
from osstorchconnector.testing import ConnectionArguments, Emulator
from osstorchconnector.transformers import OssTrainerCallback, load_pretrained, save_pretrained

BUCKET = "models"
BASE = f"oss://{BUCKET}/base/"
TUNED = f"oss://{BUCKET}/tuned/"
TEXTS = f"oss://{BUCKET}/texts/*.jsonl"
LENGTH = 16


def upload(connection: ConnectionArguments) -> None:
    """Upload the model that is fine-tuned, and the texts."""
    sizes = {"n_layer": 1, "n_head": 2, "n_embd": 16, "vocab_size": 128, "n_positions": LENGTH}
    save_pretrained(GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0)), BASE, **connection)
    for shard in range(2):
        lines = [json.dumps({"text": f"object {number} is fast"}) for number in range(shard * 32, shard * 32 + 32)]
        OssClient(**connection).put(f"oss://{BUCKET}/texts/{shard}.jsonl", "\n".join(lines).encode())


def tokens(row: dict[str, str]) -> dict[str, list[int]]:
    """Return the tokens of a text: its characters, filled up with spaces."""
    characters = list(row["text"].ljust(LENGTH)[:LENGTH].encode())
    return {"input_ids": characters, "labels": characters}


def main() -> int:
    """Fine-tune; return the exit status."""
    with Emulator(buckets=[BUCKET]) as emulator, tempfile.TemporaryDirectory() as disk:
        connection = emulator.connection
        # fsspec finds an installed package by itself, and this line is for a checkout. The next one chooses the client
        # for everything in this process that opens oss:// with fsspec.
        fsspec.register_implementation("oss", FsspecFileSystem, clobber=True)
        use_client(emulator.client())
        upload(connection)

        texts = load_dataset("json", data_files=TEXTS, split="train", cache_dir=str(Path(disk, "cache")))
        checkpoints = OssTrainerCallback(f"oss://{BUCKET}/run", **connection, keep=1)
        arguments = TrainingArguments(
            output_dir=str(Path(disk, "run")),
            max_steps=40,
            save_steps=20,
            learning_rate=1e-2,
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
        )
        trainer = Trainer(
            load_pretrained(BASE, **connection),
            arguments,
            train_dataset=texts.map(tokens, remove_columns=texts.column_names),
            callbacks=[checkpoints],
        )
        before = trainer.evaluate(trainer.train_dataset)["eval_loss"]
        trainer.train(resume_from_checkpoint=checkpoints.fetch(arguments.output_dir))
        save_pretrained(trainer.model, TUNED, **connection)

        trainer.model = load_pretrained(TUNED, **connection)
        after = trainer.evaluate(trainer.train_dataset)["eval_loss"]
        print(f"{len(texts)} texts; loss {before:.2f} before, {after:.2f} with {TUNED}, newest {checkpoints.latest()}")
        return 0 if after < before / 2 else 1


if __name__ == "__main__":
    sys.exit(main())
