"""Train a network on images that stream out of an OSS bucket, on this machine and without an account.

It starts an OSS server, uploads the 1,797 handwritten digits that come with scikit-learn as PNG objects, streams the
training images through a DataLoader with two workers, and evaluates on images it has not seen.
"""

import argparse
import io
import random
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset
from tqdm import tqdm

from osstorchconnector import DataObject, OssClient, OssIterableDataset, OssMapDataset
from osstorchconnector.testing import Emulator

BUCKET = "images"
# Every fifth image is held out.
TEST_EVERY = 5
# Pixels of the images have 17 shades, PNG has 256.
SHADE = 15
# More than a worker's share of the training images, so that a worker shuffles all of it.
SHUFFLE_BUFFER = 2048
BATCH_SIZE = 64
LEAST_ACCURACY = 95.0


class Shuffled(IterableDataset[tuple[Tensor, int]]):
    """Shuffles a stream through a buffer: keys are listed in order, and in order a prefix per label is bad to learn."""

    def __init__(self, dataset: OssIterableDataset) -> None:
        """Hold the dataset."""
        super().__init__()
        self.dataset = dataset

    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        """Fill the buffer, then hand out a random one for each that comes in."""
        # torch seeds every worker differently, and each draw gives the next epoch another order.
        generator = random.Random(int(torch.randint(2**62, ())))  # noqa: S311 - nothing secret
        buffer: list[tuple[Tensor, int]] = []
        for image in self.dataset:
            buffer.append(image)
            if len(buffer) >= SHUFFLE_BUFFER:
                yield buffer.pop(generator.randrange(len(buffer)))
        generator.shuffle(buffer)
        yield from buffer


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


def train(network: nn.Module, loader: Iterable[tuple[Tensor, Tensor]], epochs: int, count: int) -> None:
    """Train, with a progress bar and the rate of each epoch."""
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    network.train()
    for epoch in range(1, epochs + 1):
        start = time.perf_counter()
        seen, total_loss = 0, 0.0
        with tqdm(total=count, desc=f"epoch {epoch}/{epochs}", unit="images") as progress:
            for images, labels in loader:
                loss = nn.functional.cross_entropy(network(images), labels)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                seen += len(labels)
                total_loss += loss.item() * len(labels)
                progress.update(len(labels))
        if seen != count:
            sys.exit(f"epoch {epoch} delivered {seen} images instead of {count}")
        rate = seen / (time.perf_counter() - start)
        print(f"epoch {epoch}: loss {total_loss / seen:.3f}, {rate:,.0f} images/s", flush=True)


@torch.inference_mode()
def evaluate(network: nn.Module, loader: Iterable[tuple[Tensor, Tensor]]) -> float:
    """Return the percentage of images that the network reads correctly."""
    network.eval()
    correct, seen = 0, 0
    for images, labels in loader:
        correct += int((network(images).argmax(1) == labels).sum())
        seen += len(labels)
    return 100 * correct / seen


def main() -> int:
    """Run it all and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=8, help="passes over the training images (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="DataLoader workers (default: %(default)s)")
    options = parser.parse_args()
    torch.manual_seed(0)
    with Emulator(buckets=[BUCKET]) as emulator:
        print(f"OSS server at {emulator.endpoint}", flush=True)
        train_count, test_count = upload(emulator.client())
        train_set = OssIterableDataset.from_prefix(
            f"oss://{BUCKET}/digits/train/", transform=decode, **emulator.connection
        )
        test_set = OssMapDataset.from_prefix(f"oss://{BUCKET}/digits/test/", transform=decode, **emulator.connection)
        network = build_network()
        train_loader = DataLoader(
            Shuffled(train_set),
            batch_size=BATCH_SIZE,
            num_workers=options.workers,
            persistent_workers=options.workers > 0,
        )
        train(network, train_loader, options.epochs, train_count)
        accuracy = evaluate(network, DataLoader(test_set, batch_size=BATCH_SIZE))
    print(f"test accuracy {accuracy:.1f}% on {test_count} images")
    if accuracy < LEAST_ACCURACY:
        sys.stderr.write(f"the accuracy is below {LEAST_ACCURACY:.0f}%\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
