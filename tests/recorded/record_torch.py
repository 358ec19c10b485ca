"""Write small distributed checkpoints with the torch that is installed, without this package.

``python tests/recorded/record_torch.py FOLDER`` writes them into a folder named after the version of torch in FOLDER.
"""

import os
import sys
from pathlib import Path
from typing import Any, Final

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import get_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

TENSORS: Final[dict[str, torch.Tensor]] = {
    "weight": torch.arange(6.0).reshape(2, 3),
    "half": torch.ones(3, dtype=torch.bfloat16),
    "empty": torch.empty(0),
}


def plain() -> dict[str, Any]:
    """Return what the checkpoint ``plain`` holds."""
    return {**TENSORS, "step": 7, "nested": {"list": [torch.zeros(2), 1]}, "text": "word"}


def trained() -> dict[str, Any]:
    """Return a module's and an optimizer's state, and a sharded tensor."""
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    states = dict(zip(("model", "optim"), get_state_dict(model, optimizer), strict=True))
    sharded = distribute_tensor(torch.arange(8.0), init_device_mesh("cpu", (1,)), [Shard(0)])
    return {**states, "sharded": sharded}


def main(folder: Path) -> None:
    """Write the checkpoints."""
    place = folder / torch.__version__.partition("+")[0]
    place.mkdir(parents=True)
    # torch records the path.
    os.chdir(place)
    dcp.save(plain(), storage_writer=dcp.FileSystemWriter("plain"))
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="29533", RANK="0", WORLD_SIZE="1")
    dist.init_process_group("gloo")
    dcp.save(trained(), storage_writer=dcp.FileSystemWriter("trained"))
    # The tests read only its metadata.
    Path("trained/__0_0.distcp").unlink()
    dist.destroy_process_group()
    if hasattr(dcp, "HuggingFaceStorageWriter"):
        writer: Any = dcp.HuggingFaceStorageWriter("hf", dict.fromkeys(TENSORS, 1))
        dcp.save(dict(TENSORS), storage_writer=writer)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
