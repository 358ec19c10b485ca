"""Train a ResNet on folders of images, as ImageNet has them, with DistributedDataParallel; no account is needed.

    pip install pillow torchvision
    torchrun --nproc-per-node 2 examples/imagenet_ddp.py

Without ``--endpoint`` the first rank starts an OSS server with a few made-up images. With it, ``--data`` has the
folders ``train/CLASS/NAME.JPEG`` and ``val/CLASS/NAME.JPEG``. The dataset divides the images among ranks and workers,
so there is no sampler; each epoch has another order. Start the program again, with any number of ranks, and it resumes
after the last epoch that was saved. ``train_digits.py`` also resumes in the middle of an epoch.
"""

import argparse
import io
import os
import sys
import time
from contextlib import ExitStack
from typing import Any

import torch
import torch.distributed as dist
from PIL import Image
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader
from torchvision.models import resnet18
from torchvision.transforms import v2

from osstorchconnector import DataObject, OssCheckpoint, OssClient, OssIterableDataset
from osstorchconnector.testing import ConnectionArguments, Emulator

BUCKET = "imagenet"
SEED = 1
# Colours stand for classes: a network learns them in a few steps.
MADE_UP = {"n01440764": "red", "n02102040": "green", "n03000684": "blue"}
MADE_UP_COUNTS = {"train": 48, "val": 8}


class Decode:
    """Makes a tensor and a label of an object. It is sent to the workers, so it holds only what it needs."""

    def __init__(self, classes: list[str], size: int, *, training: bool) -> None:
        """Choose the crops: random ones for training, the middle for testing."""
        self.labels = {name: number for number, name in enumerate(classes)}
        crops = (
            [v2.RandomResizedCrop(size), v2.RandomHorizontalFlip()]
            if training
            else [v2.Resize(size * 8 // 7), v2.CenterCrop(size)]
        )
        normal = v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
        self.transform = v2.Compose([v2.PILToTensor(), *crops, v2.ToDtype(torch.float32, scale=True), normal])

    def __call__(self, item: DataObject) -> tuple[Tensor, int]:
        """Decode."""
        with Image.open(io.BytesIO(item.read())) as image:
            pixels: Tensor = self.transform(image.convert("RGB"))
        return pixels, self.labels[item.name.split("/")[-2]]


def write_images(client: OssClient) -> None:
    """Upload made-up images."""
    for part, count in MADE_UP_COUNTS.items():
        for name, colour in MADE_UP.items():
            for number in range(count):
                jpeg = io.BytesIO()
                Image.new("RGB", (80 + number % 7, 72), colour).save(jpeg, "JPEG")
                client.put(f"oss://{BUCKET}/{part}/{name}/{name}_{number}.JPEG", jpeg.getvalue())


def classes_of(client: OssClient, prefix: str) -> list[str]:
    """Return the names of the folders below a prefix, in order: a name's place is its label."""
    return [item.name.split("/")[-2] for item in client.list(prefix, delimiter="/") if item.name.endswith("/")]


class Job:
    """What is trained, and how far it is."""

    def __init__(self, options: argparse.Namespace, connection: ConnectionArguments) -> None:
        """Build the model, its optimizer and the loaders of this rank."""
        torch.manual_seed(SEED)
        self.device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if torch.cuda.is_available() else "cpu"
        classes = classes_of(OssClient(**connection), f"{options.data}train/")
        self.model = DistributedDataParallel(resnet18(num_classes=len(classes)).to(self.device))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3)
        self.images = OssIterableDataset.from_prefix(
            f"{options.data}train/",
            transform=Decode(classes, options.size, training=True),
            shuffle=True,
            seed=SEED,
            # The batches are the same for any number of workers. All ranks have the same number of them.
            batch_size=options.batch_size,
            even="drop",
            **connection,
        )
        tests = OssIterableDataset.from_prefix(
            f"{options.data}val/", transform=Decode(classes, options.size, training=False), even="none", **connection
        )
        self.loader = DataLoader(
            self.images, options.batch_size, num_workers=options.workers, persistent_workers=options.workers > 0
        )
        self.tests = DataLoader(tests, options.batch_size, num_workers=options.workers)
        self.epoch = 0

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint holds."""
        return {
            "model": self.model.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "epoch": self.epoch,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Resume."""
        self.model.module.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.epoch = state["epoch"]

    def train_epoch(self) -> float:
        """Train to the end of the epoch; return the images per second of all ranks."""
        self.images.set_epoch(self.epoch)
        self.model.train()  # type: ignore[no-untyped-call]
        seen, began = 0, time.perf_counter()
        for pixels, labels in self.loader:
            loss = nn.functional.cross_entropy(self.model(pixels.to(self.device)), labels.to(self.device))
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            seen += len(labels)
        return seen * dist.get_world_size() / (time.perf_counter() - began)

    @torch.inference_mode()
    def accuracy(self) -> tuple[float, int]:
        """Return the percentage of test images that are recognised, and how many there are."""
        self.model.eval()
        counts = torch.zeros(2, device=self.device)
        for pixels, labels in self.tests:
            # Without DistributedDataParallel: ranks may have different numbers of batches here.
            right = self.model.module(pixels.to(self.device)).argmax(1).cpu() == labels
            counts += torch.tensor([int(right.sum()), len(labels)], device=self.device)
        dist.all_reduce(counts)
        right_count, count = counts.tolist()
        return 100 * right_count / count, int(count)


def connect(options: argparse.Namespace, stack: ExitStack) -> ConnectionArguments:
    """Return the connection arguments: the user's, or those of a server that the first rank starts."""
    if options.endpoint:
        return {"endpoint": options.endpoint, "cred_path": options.cred_path, "region": options.region}
    sent: list[Any] = [None]
    if dist.get_rank() == 0:
        sent = [stack.enter_context(Emulator(buckets=[BUCKET])).connection]
        write_images(OssClient(**sent[0]))
    dist.broadcast_object_list(sent, src=0)
    connection: ConnectionArguments = sent[0]
    return connection


def main() -> int:
    """Train one rank; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", default=f"oss://{BUCKET}/", help="where train/ and val/ are (default: %(default)s)")
    parser.add_argument(
        "--checkpoints", default=f"oss://{BUCKET}/run/", help="where they are kept (default: %(default)s)"
    )
    parser.add_argument("--epochs", type=int, default=3, help="passes over the images (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=12, help="images of a batch of a rank (default: %(default)s)")
    parser.add_argument(
        "--size", type=int, default=32, help="pixels of a crop; 224 for ImageNet (default: %(default)s)"
    )
    parser.add_argument("--workers", type=int, default=1, help="DataLoader workers of each rank (default: %(default)s)")
    parser.add_argument("--endpoint", default="", help="OSS endpoint (default: start a server)")
    parser.add_argument("--cred-path", default="", help="JSON file with the access key for --endpoint")
    parser.add_argument("--region", default="", help="region of --endpoint, if its name does not contain it")
    options = parser.parse_args()
    if torch.cuda.is_available():
        # NCCL takes the current device for what is not about a tensor, such as a barrier.
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    with ExitStack() as stack:
        connection = connect(options, stack)
        job, checkpoint = Job(options, connection), OssCheckpoint(**connection)
        if latest := checkpoint.latest(options.checkpoints):
            job.load_state(checkpoint.load(latest, map_location="cpu"))
        first = dist.get_rank() == 0
        if first:
            print(f"{dist.get_world_size()} ranks, {'from ' + latest if latest else 'from the beginning'}", flush=True)
        while job.epoch < options.epochs:
            rate = job.train_epoch()
            accuracy, count = job.accuracy()
            job.epoch += 1
            if first:
                checkpoint.save(job.state(), f"{options.checkpoints}epoch-{job.epoch}.pt")
                checkpoint.keep(options.checkpoints, 2)
                print(f"epoch {job.epoch}: {rate:,.0f} images/s, {accuracy:.1f}% of {count} images", flush=True)
        # The server must run until every rank has finished.
        dist.barrier()
    dist.destroy_process_group()
    return 0


if __name__ == "__main__":
    if "RANK" not in os.environ:
        sys.exit("start it with: torchrun --nproc-per-node 2 examples/imagenet_ddp.py")
    sys.exit(main())
