"""Write shards of webdataset to OSS, and read their samples in a pipeline of webdataset; no account is needed.

    pip install webdataset
    python examples/webdataset_shards.py

An OSS server runs inside this process. The dataset reads each shard as a stream, divides the shards among ranks and
workers, and shuffles them; the stages of webdataset do the rest, so it needs no ``split_by_node`` or
``split_by_worker``.
"""

import sys
from typing import Any

import webdataset
from torch.utils.data import DataLoader

from osstorchconnector import DataObject, OssClient, OssIterableDataset
from osstorchconnector.testing import ConnectionArguments, Emulator

BUCKET = "shards"
SHARDS = 4
SAMPLES = 25


def write(client: OssClient) -> None:
    """Write all shards straight to OSS. A shard appears when it is complete."""
    for shard in range(SHARDS):
        with (
            client.writer(f"oss://{BUCKET}/train/{shard:04}.tar") as writer,
            webdataset.TarWriter(writer) as samples,
        ):
            for number in range(SAMPLES):
                text = f"sample {number} of shard {shard}"
                samples.write({"__key__": f"{shard:04}-{number:04}", "txt": text, "cls": shard})


def open_shard(item: DataObject) -> dict[str, Any]:
    """Return what the next stage expects of an opened shard."""
    return {"url": item.uri, "stream": item}


def read(connection: ConnectionArguments, workers: int) -> list[tuple[str, int]]:
    """Return the samples in the order in which a training would get them."""
    shards = OssIterableDataset.from_prefix(
        f"oss://{BUCKET}/train/", transform=open_shard, shuffle=True, seed=1, **connection
    )
    pipeline = webdataset.DataPipeline(
        shards,
        webdataset.tariterators.tar_file_expander,
        webdataset.tariterators.group_by_keys,
        webdataset.shuffle(10),
        webdataset.decode(),
        webdataset.to_tuple("txt", "cls"),
    )
    return [(text, label) for text, label in DataLoader(pipeline, batch_size=None, num_workers=workers)]


def main() -> int:
    """Write and read; return the exit status."""
    with Emulator(buckets=[BUCKET]) as emulator:
        write(OssClient(**emulator.connection))
        for workers in (0, 2):
            samples = read(emulator.connection, workers)
            print(f"{workers} workers: {len(samples)} samples, {len(set(samples))} different; first {samples[0][0]!r}")
            if len(samples) != SHARDS * SAMPLES or len(set(samples)) != len(samples):
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
