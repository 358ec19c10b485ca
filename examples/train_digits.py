"""Train a network on images that stream out of an OSS bucket, on this machine and without an account.

It starts an OSS server and uploads the 1,797 handwritten digits that come with scikit-learn as PNG objects. It streams
the shuffled training images through a DataLoader with two workers, and saves a checkpoint to the bucket after each
epoch. At the end it evaluates the network on images that it has not seen. If the server outlives the program
(``--endpoint``), you may kill the program and start it again: it resumes from the last checkpoint, in the middle of an
epoch too (``--checkpoint-batches``), and ends with the same weights.
"""

import argparse
import contextlib
import hashlib
import io
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from osstorchconnector import DataObject, OssCheckpoint, OssClient, OssIterableDataset, OssMapDataset
from osstorchconnector.testing import ConnectionArguments, Emulator

BUCKET = "images"
CHECKPOINTS = f"oss://{BUCKET}/checkpoints/"
# Every fifth image is held out.
TEST_EVERY = 5
# Pixels of the images have 17 shades, PNG has 256.
SHADE = 15
BATCH_SIZE = 64
SEED = 0
LEAST_ACCURACY = 95.0


def decode(item: DataObject) -> tuple[Tensor, int]:
    """Make an image and its label from an object such as ``digits/train/3/00017.png``."""
    with Image.open(io.BytesIO(item.read())) as image:
        pixels = torch.from_numpy(np.array(image, dtype=np.float32))
    return pixels.unsqueeze(0) / 255, int(item.name.split("/")[-2])


def upload(client: OssClient) -> tuple[int, int]:
    """Upload the images and return how many are for training and for testing."""
    digits = load_digits()
    uploads = []
    for number, (pixels, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        part = "test" if number % TEST_EVERY == 0 else "train"
        uploads.append((f"oss://{BUCKET}/digits/{part}/{label}/{number:05}.png", encode(pixels)))
    # A few at a time: one request after the other would wait for each answer.
    with ThreadPoolExecutor(8) as pool:
        done = pool.map(lambda upload: client.put(*upload, content_type="image/png"), uploads)
        for _ in tqdm(done, "upload", total=len(uploads), unit="images"):
            pass
    test_count = sum("/test/" in uri for uri, _ in uploads)
    return len(uploads) - test_count, test_count


def encode(pixels: "np.ndarray[tuple[int, int], np.dtype[np.float64]]") -> bytes:
    """Make a PNG from pixels."""
    png = io.BytesIO()
    Image.fromarray((pixels * SHADE).astype(np.uint8)).save(png, "PNG")
    return png.getvalue()


def build_network() -> nn.Module:
    """Return a small convolutional network for images of 8 by 8 pixels."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * 4 * 4, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )


@dataclass
class Job:
    """A training run: what a checkpoint holds, and where its images come from."""

    dataset: OssIterableDataset
    count: int
    workers: int
    network: nn.Module = field(default_factory=build_network)
    epoch: int = 0
    # Images of this epoch that the network has learned from.
    seen: int = 0

    def __post_init__(self) -> None:
        """Build the optimizer and the loader."""
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=2e-3)
        self.loader = DataLoader(
            self.dataset, batch_size=BATCH_SIZE, num_workers=self.workers, persistent_workers=self.workers > 0
        )

    def state(self) -> dict[str, Any]:
        """Return the state from which a later run can resume."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "epoch": self.epoch,
            "seen": self.seen,
            "cursor": self.dataset.cursor(samples_consumed=self.seen),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Resume from the state of an earlier run."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.epoch, self.seen = state["epoch"], state["seen"]
        self.dataset.load_state_dict(state["cursor"])


def save(checkpoint: OssCheckpoint, job: Job) -> None:
    """Save a checkpoint under a name whose numbers grow, and delete all but the last two."""
    checkpoint.save(job.state(), f"{CHECKPOINTS}{job.epoch * job.count + job.seen:08}.pt")
    checkpoint.keep(CHECKPOINTS, 2)


def train(job: Job, checkpoint: OssCheckpoint, epochs: int, checkpoint_batches: int) -> None:
    """Train, with a progress bar and the rate of each epoch."""
    job.network.train()
    while job.epoch < epochs:
        start, resumed_at, total_loss = time.perf_counter(), job.seen, 0.0
        name = f"epoch {job.epoch + 1}/{epochs}"
        with tqdm(total=job.count, initial=resumed_at, desc=name, unit="images") as progress:
            for batch, (images, labels) in enumerate(job.loader, start=1):
                loss = nn.functional.cross_entropy(job.network(images), labels)
                job.optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                job.optimizer.step()
                job.seen += len(labels)
                total_loss += loss.item() * len(labels)
                progress.update(len(labels))
                if checkpoint_batches and batch % checkpoint_batches == 0:
                    save(checkpoint, job)
        if job.seen != job.count:
            sys.exit(f"epoch {job.epoch + 1} delivered {job.seen} images instead of {job.count}")
        learned = job.seen - resumed_at
        rate = learned / (time.perf_counter() - start)
        print(f"epoch {job.epoch + 1}: loss {total_loss / max(learned, 1):.3f}, {rate:,.0f} images/s", flush=True)
        job.epoch, job.seen = job.epoch + 1, 0
        job.dataset.set_epoch(job.epoch)
        save(checkpoint, job)


@torch.inference_mode()
def evaluate(network: nn.Module, loader: Iterable[tuple[Tensor, Tensor]]) -> float:
    """Return the percentage of images that the network reads correctly."""
    network.eval()
    correct, seen = 0, 0
    for images, labels in loader:
        correct += int((network(images).argmax(1) == labels).sum())
        seen += len(labels)
    return 100 * correct / seen


@contextlib.contextmanager
def bucket_of(options: argparse.Namespace) -> Iterator[ConnectionArguments]:
    """Yield the connection arguments of the server: the user's, or one that runs until the program ends."""
    if options.endpoint:
        yield {"endpoint": options.endpoint, "cred_path": options.cred_path, "region": options.region}
        return
    with Emulator(buckets=[BUCKET]) as emulator:
        yield emulator.connection


def main() -> int:
    """Upload, train and evaluate; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=8, help="passes over the training images (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="DataLoader workers (default: %(default)s)")
    parser.add_argument("--checkpoint-batches", type=int, default=0, help="also save after this many batches")
    parser.add_argument("--endpoint", default="", help=f"OSS endpoint with a bucket {BUCKET} (default: start a server)")
    parser.add_argument("--cred-path", default="", help="JSON file with the access key for --endpoint")
    parser.add_argument("--region", default="", help="region of --endpoint, if its name does not contain it")
    options = parser.parse_args()
    torch.manual_seed(SEED)
    with bucket_of(options) as connection:
        print(f"OSS server at {connection['endpoint']}", flush=True)
        train_count, test_count = upload(OssClient(**connection))
        train_set = OssIterableDataset.from_prefix(
            f"oss://{BUCKET}/digits/train/",
            transform=decode,
            shuffle=True,
            seed=SEED,
            batch_size=BATCH_SIZE,
            **connection,
        )
        test_set = OssMapDataset.from_prefix(f"oss://{BUCKET}/digits/test/", transform=decode, **connection)
        job = Job(train_set, train_count, options.workers)
        checkpoint = OssCheckpoint(**connection)
        if latest := checkpoint.latest(CHECKPOINTS):
            print(f"resuming from {latest}", flush=True)
            job.load_state(checkpoint.load(latest))
        train(job, checkpoint, options.epochs, options.checkpoint_batches)
        accuracy = evaluate(job.network, DataLoader(test_set, batch_size=BATCH_SIZE))
    weights = hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in job.network.parameters())).hexdigest()
    print(f"test accuracy {accuracy:.1f}% on {test_count} images, weights {weights[:16]}")
    if accuracy < LEAST_ACCURACY:
        sys.stderr.write(f"the accuracy is below {LEAST_ACCURACY:.0f}%\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
