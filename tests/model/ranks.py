"""The functions that the ranks of a world run."""

import errno
import os
import signal
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist

from osstorchconnector import OssClient
from osstorchconnector.model import OssModel, machine, open_model, staging, targets
from osstorchconnector.testing import ConnectionArguments
from tests.model.models import put, random_tensors, raw, same, shared_tensors


def read(
    connection: ConnectionArguments, uri: str, share: Any, how: str = "load", machines: str | None = None
) -> dict[str, int]:
    """Load a model and return a checksum of each tensor."""
    if machines is not None:
        name = machines[dist.get_rank()]
        machine.this_machine = lambda: name  # type: ignore[attr-defined]
    with open_model(uri, **connection, share=share, budget=48 << 20) as model:
        return {name: zlib.crc32(raw(tensor)) for name, tensor in sorted(_read(model, how).items())}


def _read(model: OssModel, how: str) -> dict[str, torch.Tensor]:
    if how == "load":
        return model.load()
    if how == "iterate":
        return dict(model)
    given = {name: torch.empty(info.shape, dtype=info.torch_dtype) for name, info in model.tensors.items()}
    model.load_into(given)
    return given


def read_slices(connection: ConnectionArguments, uri: str) -> bool:
    """Load what one of three ranks of tensor parallelism needs, beside the whole model."""
    rank = dist.get_rank()
    slices: Any = {
        "embed.weight": slice(100 * rank, 100 * (rank + 1)),
        "layer.0.weight": (slice(None), slice(32 * rank, 32 * (rank + 1))),
        "layer.1.experts": slice(rank, rank + 1),
        "large.1": slice(rank << 20, (rank + 1) << 20),
    }
    with open_model(uri, **connection, share="node", budget=48 << 20) as model:
        found = model.load(slices=slices)
    whole = shared_tensors()
    return all(torch.equal(found[name], tensor[slices.get(name, ...)]) for name, tensor in whole.items())


def fail(connection: ConnectionArguments, uri: str, how: str) -> str | None:
    """Load a model; rank 1 fails."""
    fails = dist.get_rank() == 1
    wrong: dict[str, dict[str, Any]] = {"client": {"cred_path": "/nothing"}, "budget": {"budget": 5}}
    options: Any = {**connection, **(wrong.get(how, {}) if fails else {})}
    with open_model(f"{uri}nothing/" if fails and how == "open" else uri, **options, share="node") as model:
        if fails and how in {"device", "closed", "names"}:
            return str(_load_wrongly(model, how))
        if fails and how in {"copy", "map"}:
            _break(how)
        if fails and how == "memory":
            _refuse_large_4()
        for name, _ in model:
            if fails and how == "raise" and name == "large.4":
                raise ValueError("this rank has other troubles")
            if fails and how == "leave" and name == "large.4":
                break
            if fails and how == "kill" and name == "large.4":
                os.kill(os.getpid(), signal.SIGKILL)
    return "all was read"


def read_apart(connection: ConnectionArguments, uri: str, budgets: Any, shares: Any) -> bool:
    """Load a model with arguments that the ranks do not share."""
    rank = dist.get_rank()
    name = str(rank)
    machine.this_machine = (lambda: name) if len(set(shares)) > 1 else machine.this_machine  # type: ignore[attr-defined]
    with open_model(uri, **connection, share=shares[rank], budget=budgets[rank] << 20) as model:
        return same(model.load(), shared_tensors())


def _load_wrongly(model: OssModel, how: str) -> dict[str, torch.Tensor]:
    if how == "closed":
        model.close()
    return model.load(["embed.weight"] if how == "names" else None, device="nowhere" if how == "device" else "cpu")


def _break(what: str) -> None:
    def copy(*_: object) -> None:
        raise RuntimeError("the accelerator has fallen off the bus")

    def map_(*_: object) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    if what == "copy":
        staging.Staging.copy = copy  # type: ignore[method-assign, assignment]
    else:
        machine.mmap = SimpleNamespace(mmap=map_)  # type: ignore[attr-defined, assignment]


def _refuse_large_4() -> None:
    allocate = targets.Target.allocate

    def refuse(target: targets.Target) -> None:
        if target.name == "large.4":
            target._wish = targets.Wish(torch.device("cuda:99"))
        allocate(target)

    targets.Target.allocate = refuse  # type: ignore[method-assign, assignment]


def open_apart(connection: ConnectionArguments, uri: str, folder: str) -> None:
    """Open a model on two ranks, between which it is replaced."""
    opened_here = OssModel._open

    def open_in_turn(model: OssModel, *arguments: Any) -> Any:
        if dist.get_rank() == 0:
            found = opened_here(model, *arguments)
            put(OssClient(**connection), uri, random_tensors(2))
            Path(folder, "replaced").touch()
            return found
        while not Path(folder, "replaced").exists():
            pass
        return opened_here(model, *arguments)

    OssModel._open = open_in_turn  # type: ignore[method-assign, assignment]
    with open_model(uri, **connection, share="node") as model:
        assert same(model.load(), {})
