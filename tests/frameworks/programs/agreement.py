"""One rank builds datasets with arguments of its own, and writes what each comparison with the other ranks says."""

import json
import os
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import torch.distributed as dist

from osstorchconnector import OssConfigError, OssIterableDataset


def said(options: dict[str, Any]) -> str:
    uris, folder = options.pop("uris", None), options.pop("folder")
    options = {name: tuple(value) if name == "shard" else value for name, value in options.items()}
    epoch, listed, broken = options.pop("epoch", None), options.pop("listed", False), options.pop("broken", False)
    if uris is None:
        dataset = OssIterableDataset.from_prefix(f"{folder}/", "", **options)
    else:
        dataset = OssIterableDataset.from_objects(uris, "", **options)
    if epoch is not None:
        dataset.set_epoch(epoch)
    if listed:
        list(dataset)
    patched: AbstractContextManager[Any] = nullcontext()
    if broken:
        patched = mock.patch("osstorchconnector.dataset.iterable.comparable", _cannot_say)
    with patched:
        try:
            dataset.check_ranks()
        except OssConfigError as error:
            return str(error)
    return ""


def _cannot_say(*_: object) -> dict[str, str]:
    raise OssConfigError("no room")


def main() -> None:
    store, folder = sys.argv[1:]
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    cases = json.loads(Path(folder, "cases.json").read_text())
    found = [said(ranks[rank]) for ranks in cases]
    # A rank must not end while others still need the group.
    dist.barrier()
    dist.destroy_process_group()
    Path(folder, f"rank-{rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
