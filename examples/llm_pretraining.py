"""Train a language model on JSONL objects; kill it at any time, and it resumes with the same batches, on any machine.

    pip install torchdata
    python examples/llm_pretraining.py
    torchrun --nproc-per-node 2 examples/llm_pretraining.py

Without ``--endpoint`` an OSS server runs beside this program. Without ``--data`` a small made-up corpus is uploaded to
the bucket ``corpus``; else ``--data`` names yours: objects whose lines are JSON objects with a field ``text``. The
corpus is never downloaded as a whole. The position in it is part of each checkpoint: the object, the line, and the
tokens that no batch has taken.
"""

import argparse
import hashlib
import json
import os
import random
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import IterableDataset
from torchdata.stateful_dataloader import StatefulDataLoader

from osstorchconnector import OssCheckpoint, OssClient, OssIterableDataset
from osstorchconnector.testing import ConnectionArguments, Emulator

BUCKET = "corpus"
SEED = 1
# Bytes are the tokens here; a real job calls its tokenizer in `documents_of`.
VOCABULARY = 257
END_OF_DOCUMENT = 256
BLOCK = 64
BATCH_SIZE = 4
BEGINNING: dict[str, Any] = {"document": 0, "tokens": []}


def documents_of(text: bytes) -> list[list[int]]:
    """Return the tokens of each line of an object."""
    return [[*json.loads(line)["text"].encode(), END_OF_DOCUMENT] for line in text.splitlines()]


class TokenBlocks(IterableDataset[Tensor]):
    """Documents one after the other, cut into blocks of equal length."""

    def __init__(self, objects: OssIterableDataset) -> None:
        """Read the objects of a dataset, which divides them among ranks and workers and shuffles them."""
        self.objects = objects
        self._position = BEGINNING

    def __iter__(self) -> Iterator[Tensor]:
        """Yield the blocks from the position on that was loaded, if one was."""
        document, tokens = self._position["document"], self._position["tokens"]
        self._position = BEGINNING
        before = self.objects.state_dict()
        for item in self.objects:
            documents = documents_of(item.read())
            for number in range(document, len(documents)):
                tokens = tokens + documents[number]
                while len(tokens) >= BLOCK:
                    block, tokens = tokens[:BLOCK], tokens[BLOCK:]
                    # The rest of this document is in `tokens`, and `before` fetches this object once more.
                    self._position = {"document": number + 1, "tokens": tokens, "objects": before}
                    yield torch.tensor(block)
            document, before = 0, self.objects.state_dict()

    def state_dict(self) -> dict[str, Any]:
        """Return the position."""
        return self._position

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from a position in the next iteration."""
        self._position = state
        if "objects" in state:
            self.objects.load_state_dict(state["objects"])


class Model(nn.Module):
    """A small transformer."""

    def __init__(self) -> None:
        """Make it."""
        super().__init__()
        self.tokens = nn.Embedding(VOCABULARY, 32)
        self.places = nn.Embedding(BLOCK, 32)
        layer = nn.TransformerEncoderLayer(32, 2, 64, dropout=0.0, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.head = nn.Linear(32, VOCABULARY)

    def forward(self, blocks: Tensor) -> Tensor:
        """Return the loss of predicting each token from those before it."""
        inputs, targets = blocks[:, :-1], blocks[:, 1:]
        mask = nn.Transformer.generate_square_subsequent_mask(inputs.shape[1])
        hidden = self.tokens(inputs) + self.places(torch.arange(inputs.shape[1]))
        logits = self.head(self.layers(hidden, mask=mask, is_causal=True))
        return nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


def write_corpus(client: OssClient) -> str:
    """Upload made-up documents; return where."""
    generator = random.Random(SEED)  # noqa: S311 - nothing is kept secret with it
    words = ["the", "a", "model", "reads", "writes", "tokens", "bucket", "object", "fast", "again"]
    for shard in range(12):
        lines = [json.dumps({"text": " ".join(generator.choices(words, k=generator.randint(5, 60)))}) for _ in range(6)]
        client.put(f"oss://{BUCKET}/jsonl/{shard:05}.jsonl", "\n".join(lines).encode())
    return f"oss://{BUCKET}/jsonl/"


class Job:
    """What is trained, with what, and how far it is."""

    def __init__(self, data: str, workers: int, connection: ConnectionArguments) -> None:
        """Build the model and the loader of this rank."""
        torch.manual_seed(SEED)
        model = Model()
        self.model = DistributedDataParallel(model) if dist.is_initialized() else model
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3)
        objects = OssIterableDataset.from_prefix(data, shuffle=True, seed=SEED, even="drop", **connection)
        self.objects = objects
        self.loader: Any = StatefulDataLoader(
            TokenBlocks(objects), batch_size=BATCH_SIZE, num_workers=workers, drop_last=True
        )
        self.epoch = 0
        self.step = 0

    def batches(self) -> Iterator[Tensor]:
        """Yield batches without end: the corpus is read again and again, each time in another order."""
        while True:
            self.objects.set_epoch(self.epoch)
            yield from self.loader
            self.epoch += 1

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint holds. Each rank has a position of its own."""
        positions: list[Any] = [(self.epoch, self.loader.state_dict())]
        if dist.is_initialized():
            positions *= world()
            dist.all_gather_object(positions, positions[0])
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "positions": positions,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Resume."""
        if len(state["positions"]) != world():
            sys.exit(f"the checkpoint is of {len(state['positions'])} ranks, and these are {world()}")
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]
        self.epoch, position = state["positions"][rank()]
        self.loader.load_state_dict(position)


def rank() -> int:
    """Return the number of this process."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def train(job: Job, checkpoint: OssCheckpoint, folder: str, steps: int, every: int) -> None:
    """Train to a step, with a checkpoint after each few steps."""
    batches = job.batches()
    while job.step < steps:
        blocks = next(batches)
        loss = job.model(blocks)
        job.optimizer.zero_grad()
        loss.backward()
        job.optimizer.step()
        job.step += 1
        digest = hashlib.sha256(blocks.numpy().tobytes()).hexdigest()[:12]
        # One write for the line: the ranks share the output.
        print(f"rank {rank()} step {job.step}: batch {digest}, loss {loss.item():.4f}\n", end="", flush=True)
        if job.step % every == 0:
            state = job.state()
            if rank() == 0:
                checkpoint.save(state, f"{folder}step-{job.step:06}.pt")
                checkpoint.keep(folder, 2)


def connect(options: argparse.Namespace, stack: ExitStack) -> ConnectionArguments:
    """Return the connection arguments: the user's, or those of a server that the first rank starts."""
    if options.endpoint:
        return {"endpoint": options.endpoint, "cred_path": options.cred_path, "region": options.region}
    sent: list[Any] = [None]
    if rank() == 0:
        sent = [stack.enter_context(Emulator(buckets=[BUCKET])).connection]
    if dist.is_initialized():
        dist.broadcast_object_list(sent, src=0)
    connection: ConnectionArguments = sent[0]
    return connection


def main() -> int:
    """Train one rank; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", default="", help="prefix of JSONL objects (default: a made-up corpus)")
    parser.add_argument(
        "--checkpoints", default=f"oss://{BUCKET}/run/", help="where they are kept (default: %(default)s)"
    )
    parser.add_argument("--steps", type=int, default=60, help="where the training ends (default: %(default)s)")
    parser.add_argument("--every", type=int, default=5, help="steps between checkpoints (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="DataLoader workers of each rank (default: %(default)s)")
    parser.add_argument("--endpoint", default="", help="OSS endpoint (default: start a server)")
    parser.add_argument("--cred-path", default="", help="JSON file with the access key for --endpoint")
    parser.add_argument("--region", default="", help="region of --endpoint, if its name does not contain it")
    options = parser.parse_args()
    if "RANK" in os.environ:
        dist.init_process_group("gloo")
    with ExitStack() as stack:
        connection = connect(options, stack)
        data = options.data
        if not data:
            data = write_corpus(OssClient(**connection)) if rank() == 0 else f"oss://{BUCKET}/jsonl/"
            if dist.is_initialized():
                dist.barrier()
        job = Job(data, options.workers, connection)
        checkpoint = OssCheckpoint(**connection)
        if latest := checkpoint.latest(options.checkpoints):
            job.load_state(checkpoint.load(latest))
            print(f"rank {rank()} resumes from {latest}\n", end="", flush=True)
        train(job, checkpoint, options.checkpoints, options.steps, options.every)
        if dist.is_initialized():
            # The server must run until every rank has finished.
            dist.barrier()
            dist.destroy_process_group()
    return 0


if __name__ == "__main__":
    sys.exit(main())
