"""Train with Accelerate, save its state in OSS, and resume in a fresh program; no account is needed.

    pip install 'accelerate>=1.6'
    python examples/accelerate_state.py
    torchrun --nproc-per-node 2 examples/accelerate_state.py

The first process starts an OSS server, and sends its address to the others.
"""

import sys
from contextlib import ExitStack

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from osstorchconnector.accelerate import OssAcceleratorState
from osstorchconnector.testing import ConnectionArguments, Emulator

BUCKET = "checkpoints"
STEPS = 20


def connection(accelerator: Accelerator, stack: ExitStack) -> ConnectionArguments:
    """Start a server in the first process, and return its address and access key in all."""
    sent = [stack.enter_context(Emulator(buckets=[BUCKET])).connection if accelerator.is_main_process else None]
    found: ConnectionArguments | None = broadcast_object_list(sent)[0]
    if found is None:
        raise RuntimeError("the first process has no server")
    return found


def train(accelerator: Accelerator, arguments: ConnectionArguments, steps: int) -> tuple[int, float]:
    """Train a new model to a step, from the newest checkpoint on; return the step resumed from, and the last loss."""
    model = torch.nn.Linear(8, 1)
    prepared, optimizer = accelerator.prepare(model, torch.optim.Adam(model.parameters(), lr=0.05))
    checkpoints = OssAcceleratorState(accelerator, f"oss://{BUCKET}/run", **arguments, keep=2)
    first = checkpoints.load_state() or 0
    loss = torch.zeros(())
    for step in range(first, steps):
        inputs = torch.rand(16, 8)
        loss = (prepared(inputs) - inputs.sum(1, keepdim=True)).square().mean()
        optimizer.zero_grad()
        accelerator.backward(loss)
        optimizer.step()
        if (step + 1) % STEPS == 0:
            checkpoints.save_state(step + 1)
    # The next training prepares its own model.
    accelerator.free_memory()
    return first, float(loss.detach())


def main() -> int:
    """Train in two halves; return the exit status."""
    accelerator = Accelerator(cpu=True)
    with ExitStack() as stack:
        arguments = connection(accelerator, stack)
        train(accelerator, arguments, STEPS)
        resumed, loss = train(accelerator, arguments, 2 * STEPS)
        # The server must run until every process has finished.
        accelerator.wait_for_everyone()
    accelerator.print(f"{accelerator.num_processes} processes resumed from step {resumed}; the last loss is {loss:.4f}")
    accelerator.end_training()
    return 0 if resumed == STEPS else 1


if __name__ == "__main__":
    sys.exit(main())
