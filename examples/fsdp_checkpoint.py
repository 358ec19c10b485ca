"""Train with FSDP, save a distributed checkpoint to OSS in the background, and resume from it; no account is needed.

    torchrun --nproc-per-node 2 examples/fsdp_checkpoint.py

The first rank starts an OSS server. Every rank saves and loads its own shards. After the save, a fresh model loads the
checkpoint and continues training exactly as the first model did.
"""

import os
import sys
from concurrent.futures import Future
from contextlib import ExitStack
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from osstorchconnector import OssFileSystem
from osstorchconnector.testing import ConnectionArguments, Emulator

BUCKET = "checkpoints"
PLACE = f"oss://{BUCKET}/demo/step-20"
STEPS = 20


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    """Return a model that is sharded over the ranks, with its optimizer."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(256, 1024), nn.ReLU(), nn.Linear(1024, 10))
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for layer in model:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model, torch.optim.AdamW(model.parameters(), lr=1e-3)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> float:
    """Train on made-up data and return the last loss."""
    generator = torch.Generator().manual_seed(2)
    loss = torch.zeros(())
    for _ in range(steps):
        inputs = torch.randn(64, 256, generator=generator)
        loss = (model(inputs) - inputs[:, :10]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return float(loss.item())


def state_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return the state to save and load."""
    model_state, optimizer_state = get_state_dict(model, optimizer)
    return {"model": model_state, "optimizer": optimizer_state}


def connection(stack: ExitStack) -> ConnectionArguments:
    """Start a server on the first rank, and send its address and access key to all ranks."""
    sent: list[ConnectionArguments | None] = [None]
    if dist.get_rank() == 0:
        sent = [stack.enter_context(Emulator(buckets=[BUCKET])).connection]
    dist.broadcast_object_list(sent, src=0)
    (found,) = sent
    if found is None:
        raise RuntimeError("the first rank has no server")
    return found


def main() -> int:
    """Run one rank; return its exit status."""
    dist.init_process_group("gloo")
    with ExitStack() as stack:
        file_system = OssFileSystem(**connection(stack))

        model, optimizer = build()
        train(model, optimizer, STEPS)
        # A group of its own: messages of the save must not mix with those of the training steps.
        group = dist.new_group(backend="gloo")
        saving = dcp.async_save(
            state_of(model, optimizer),
            storage_writer=file_system.writer(PLACE),
            process_group=group if isinstance(group, dist.ProcessGroup) else None,
        )
        expected = train(model, optimizer, STEPS)
        if not isinstance(saving, Future):
            saving = saving.upload_completion
        # Raises if the save has failed.
        saving.result()

        model, optimizer = build()
        state = state_of(model, optimizer)
        reader = file_system.reader(PLACE)
        dcp.load(state, storage_reader=reader)
        set_state_dict(model, optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"])
        resumed = train(model, optimizer, STEPS)

        same = abs(resumed - expected) < 1e-6  # noqa: PLR2004
        if dist.get_rank() == 0 and reader.report is not None:
            megabytes = reader.report.read_bytes / 1e6
            print(f"rank 0 of {dist.get_world_size()} loaded {megabytes:.1f} MB in {reader.report.ranges} ranges")
            print(f"loss after {2 * STEPS} steps: {expected:.6f}; resumed from the checkpoint: {resumed:.6f}")
        # The server must run until every rank has finished.
        dist.barrier()
    dist.destroy_process_group()
    return 0 if same else 1


if __name__ == "__main__":
    if "RANK" not in os.environ:
        sys.exit("start it with: torchrun --nproc-per-node 2 examples/fsdp_checkpoint.py")
    sys.exit(main())
