"""Write the files of this folder with the package that is installed: one file of each stored format.

The tests read what release 2.0.0a1 wrote, so run this only to record a new version of a format, into a new folder:
``python tests/recorded/record.py FOLDER``.
"""

import json
import shutil
import sys
import tarfile
from itertools import islice
from pathlib import Path
from typing import Any

import oss2
import torch
import torch.distributed.checkpoint as dcp
from torchdata.stateful_dataloader import StatefulDataLoader

from osstorchconnector import OssFileSystem, OssIterableDataset, generate_tar_archive
from osstorchconnector.cli.__main__ import main as osst
from osstorchconnector.testing import Emulator

BUCKET = "recorded"
NAMES = [f"class-{number % 3}/{number:03}" for number in range(30)]


def put_objects(emulator: Emulator) -> None:
    """Store the objects that all recorded files are about."""
    client = emulator.client()
    for name in NAMES:
        client.put(f"oss://{BUCKET}/train/{name}", name.encode())


def tensors() -> dict[str, Any]:
    """Return what the recorded distributed checkpoint holds."""
    return {"weight": torch.arange(6.0).reshape(2, 3), "step": 7}


def _states(emulator: Emulator) -> dict[str, Any]:
    def dataset(**options: Any) -> OssIterableDataset:
        return OssIterableDataset.from_prefix(
            f"oss://{BUCKET}/train/", **emulator.connection, transform=_name, **options
        )

    def consumed(count: int, **options: Any) -> dict[str, Any]:
        started = dataset(**options)
        iterator = iter(started)
        list(islice(iterator, count))
        return {
            "options": options,
            "state": started.state_dict(),
            "remaining": [*iterator],
        }

    workers = dataset(shuffle=True, seed=5, batch_size=4)
    loader = StatefulDataLoader(workers, batch_size=4, num_workers=2, collate_fn=list)
    batches = iter(loader)
    next(batches)
    loader_state = loader.state_dict()
    rest = [name for batch in batches for name in batch]
    ahead = dataset(shuffle=True, seed=5, batch_size=4, shard=(1, 2))
    started = iter(ahead)
    list(islice(started, 8))
    return {
        "in order": consumed(7),
        "shuffled": consumed(7, shuffle=True, seed=3),
        "blocks of a rank": consumed(5, shuffle=True, shuffle_block=8, seed=1, batch_size=2, shard=(1, 2), even="drop"),
        "finished": consumed(30),
        "loader": {"options": {"shuffle": True, "seed": 5, "batch_size": 4}, "state": loader_state, "remaining": rest},
        "cursor": {
            "options": {"shuffle": True, "seed": 5, "batch_size": 4, "shard": [1, 2]},
            "state": ahead.cursor(samples_consumed=8),
            "remaining": [*started],
        },
    }


def _name(item: Any) -> str:
    return str(item.name)


def _write_store(folder: Path) -> None:
    """Write a store of the emulator with each kind of thing that it keeps."""
    root = folder / "store"
    shutil.rmtree(root, ignore_errors=True)
    with Emulator(buckets=[BUCKET], root=root) as emulator:
        client = emulator.client()
        client.put(f"oss://{BUCKET}/a", b"a", content_type="text/plain")
        client.put(f"oss://{BUCKET}/a/b", b"below a")
        client.put(f"oss://{BUCKET}/../\u6570\u636e", b"a hostile name")
        with client.writer(f"oss://{BUCKET}/parts") as writer:
            writer.write(bytes(9 << 20))
        auth = oss2.Auth(emulator.access_key_id, emulator.access_key_secret)
        bucket = oss2.Bucket(auth, emulator.endpoint, BUCKET)
        bucket.put_symlink("a", "link")
        tags = oss2.models.TaggingRule()
        tags.add("kind", "letter")
        bucket.put_object_tagging("a", oss2.models.Tagging(tags))
        upload = bucket.init_multipart_upload("unfinished")
        bucket.upload_part("unfinished", upload.upload_id, 1, b"a part")
    with tarfile.open(folder / "store.tar.xz", "w:xz") as archive:
        archive.add(root, "store")
    shutil.rmtree(root)


def write_snapshot(emulator: Emulator, folder: Path) -> None:
    """Write a snapshot of the listing with labels."""
    arguments = ["--endpoint", emulator.endpoint, "--region", emulator.region, "--cred-path", emulator.cred_path]
    output = ["--snapshot", "--labels-from-prefix", "--output", str(folder / "snapshot")]
    if osst(["manifest", f"oss://{BUCKET}/train/", *output, *arguments]):
        raise SystemExit(1)


def write_archive(emulator: Emulator, folder: Path) -> None:
    """Write a tar archive of the objects, and its index."""
    generate_tar_archive(
        emulator.endpoint,
        emulator.cred_path,
        "",
        str(folder / "archive.tar"),
        str(folder / "archive.index"),
        f"oss://{BUCKET}/train/",
        region=emulator.region,
        labels_from_prefix=True,
    )


def main(folder: Path) -> None:
    """Write all files into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_store(folder)
    with Emulator(buckets=[BUCKET]) as emulator:
        put_objects(emulator)
        (folder / "states.json").write_text(json.dumps(_states(emulator), indent=1) + "\n")
        write_snapshot(emulator, folder)
        write_archive(emulator, folder)
        file_system = OssFileSystem(**emulator.connection)
        dcp.save(tensors(), storage_writer=file_system.writer(f"oss://{BUCKET}/checkpoint"))
        (folder / "checkpoint").mkdir(exist_ok=True)
        for item in emulator.client().list(f"oss://{BUCKET}/checkpoint/"):
            (folder / "checkpoint" / item.name.removeprefix("checkpoint/")).write_bytes(item.read())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
