"""The functions that the ranks of a world run."""

import os
import signal
from collections.abc import Callable
from typing import Any, Self

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.utils._pytree import tree_flatten

from osstorchconnector import OssConfig, OssFileSystem
from osstorchconnector.dcp import reader as reading
from osstorchconnector.dcp.writer import OssStorageWriter
from osstorchconnector.testing import ConnectionArguments
from tests.dcp.stages import COORDINATOR_STAGES


def _matrix(seed: float, rows: int = 1201, columns: int = 700) -> Tensor:
    return torch.arange(rows * columns, dtype=torch.float32).view(rows, columns) + seed


def _sharded(value: Tensor, placement: Any) -> DTensor:
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    return distribute_tensor(value, mesh, [placement])


def _state(seed: float) -> dict[str, Any]:
    return {
        "by rows": _sharded(_matrix(seed), Shard(0)),
        "by columns": _sharded(_matrix(seed + 0.25), Shard(1)),
        "replicated": _sharded(_matrix(seed + 0.5), Replicate()),
        "short": _sharded(_matrix(seed, 2, 3), Shard(0)),
        "plain": _matrix(seed, 40, 50),
        "step": int(seed),
    }


def _equal(state: dict[str, Any], seed: float) -> bool:
    expected = {
        "by rows": _matrix(seed),
        "by columns": _matrix(seed + 0.25),
        "replicated": _matrix(seed + 0.5),
        "short": _matrix(seed, 2, 3),
        "plain": _matrix(seed, 40, 50),
    }
    whole = {name: value.full_tensor() if isinstance(value, DTensor) else value for name, value in state.items()}
    return int(whole.pop("step")) == int(seed) and all(torch.equal(whole[name], expected[name]) for name in expected)


def _file_system(connection: ConnectionArguments, max_attempts: int | None) -> OssFileSystem:
    config = None if max_attempts is None else OssConfig(max_attempts=max_attempts)
    return OssFileSystem(**connection, config=config)


def save(
    connection: ConnectionArguments, checkpoint_uri: str, seed: float, max_attempts: int | None = None, **options: Any
) -> None:
    """Save a state that the seed decides."""
    dcp.save(_state(seed), storage_writer=_file_system(connection, max_attempts).writer(checkpoint_uri, **options))


def load(
    connection: ConnectionArguments, checkpoint_uri: str, seed: float, max_attempts: int | None = None, **options: Any
) -> dict[str, Any]:
    """Load a state and compare it with the state of the seed; return what was read."""
    state = _state(-1)
    reader = _file_system(connection, max_attempts).reader(checkpoint_uri, **options)
    dcp.load(state, storage_reader=reader)
    assert _equal(state, seed)
    assert reader.report is not None
    return {"amplification": reader.report.amplification, "read_bytes": reader.report.read_bytes}


def load_on_machines(connection: ConnectionArguments, checkpoint_uri: str, seed: float, machines: list[str]) -> None:
    """Load a state and share common items, while each rank believes to run on one of the machines."""
    name = machines[dist.get_rank()]
    vars(reading)["this_machine"] = lambda: name
    load(connection, checkpoint_uri, seed, share_replicated=True)


def load_while_replaced(connection: ConnectionArguments, checkpoint_uri: str) -> None:
    """Load, but another save replaces the checkpoint after one rank read the metadata and before the other does."""
    file_system = OssFileSystem(**connection)

    def save_alone(value: float) -> None:
        dcp.save({"a": torch.full((1000,), value)}, storage_writer=file_system.writer(checkpoint_uri), no_dist=True)

    def replace() -> None:
        save_alone(2.0)
        dist.send(torch.zeros(1), 1)

    reader = file_system.reader(checkpoint_uri)
    if dist.get_rank() == 0:
        save_alone(1.0)
        _after(reader, "read_metadata", replace)
    else:
        _before(reader, "read_metadata", lambda *_: dist.recv(torch.zeros(1), 0))
    dist.barrier()
    dcp.load({"a": torch.zeros(1000)}, storage_reader=reader)


def which(connection: ConnectionArguments, checkpoint_uri: str, seeds: list[float]) -> float:
    """Load a state and return its seed."""
    state = _state(-1)
    dcp.load(state, storage_reader=OssFileSystem(**connection).reader(checkpoint_uri))
    (found,) = [seed for seed in seeds if _equal(state, seed)]
    return found


def _model() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(7)
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for layer in model:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model, torch.optim.AdamW(model.parameters(), lr=0.01)


def _train(model: nn.Module, optimizer: torch.optim.Optimizer) -> float:
    torch.manual_seed(8)
    loss = model(torch.randn(16, 64)).square().mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return float(loss.item())


def _values(state: Any) -> list[Tensor]:
    """Return the whole tensors of a state, with the shards of other ranks, in a fixed order."""
    leaves, _ = tree_flatten(state)
    return [
        leaf.full_tensor() if isinstance(leaf, DTensor) else leaf.clone() for leaf in leaves if isinstance(leaf, Tensor)
    ]


def _fill(state: Any, values: list[Tensor]) -> None:
    leaves, _ = tree_flatten(state)
    for leaf, value in zip([leaf for leaf in leaves if isinstance(leaf, Tensor)], values, strict=True):
        if isinstance(leaf, DTensor):
            leaf.to_local().copy_(distribute_tensor(value, leaf.device_mesh, leaf.placements).to_local())
        else:
            leaf.copy_(value)


def train_and_save(connection: ConnectionArguments, checkpoint_uri: str, kept: str) -> list[float]:
    """Train a model of FSDP2, save it with its optimizer, and train on; return the losses after the save.

    torch alone keeps the state in a local file too.
    """
    model, optimizer = _model()
    _train(model, optimizer)
    model_state, optimizer_state = get_state_dict(model, optimizer)
    state = {"model": model_state, "optimizer": optimizer_state}
    values = _values(state)
    if dist.get_rank() == 0:
        torch.save(values, kept)
    dcp.save(state, storage_writer=OssFileSystem(**connection).writer(checkpoint_uri))
    return [_train(model, optimizer) for _ in range(3)]


def load_and_train(connection: ConnectionArguments, checkpoint_uri: str, kept: str) -> list[float]:
    """Load what :func:`train_and_save` saved into a new model and train on; do the same with the local file."""
    losses = []
    values = torch.load(kept)
    for from_oss in (True, False):
        model, optimizer = _model()
        model_state, optimizer_state = get_state_dict(model, optimizer)
        state: dict[str, Any] = {"model": model_state, "optimizer": optimizer_state}
        if from_oss:
            dcp.load(state, storage_reader=OssFileSystem(**connection).reader(checkpoint_uri))
            loaded = _values(state)
            assert len(loaded) == len(values) > 10
            assert all(map(torch.equal, loaded, values))
        else:
            _fill(state, values)
        set_state_dict(model, optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"])
        losses.append([_train(model, optimizer) for _ in range(3)])
    assert losses[0] == losses[1]
    return losses[0]


def _own_state(seed: float) -> dict[str, Any]:
    return {**_state(seed), "of this rank": torch.full((3000,), seed + dist.get_rank()), "rank": dist.get_rank()}


def save_alone(connection: ConnectionArguments, checkpoint_uri: str, seed: float) -> None:
    """Save without collective operations: each rank writes a checkpoint of its own."""
    dcp.save(_own_state(seed), storage_writer=OssFileSystem(**connection).writer(checkpoint_uri), use_collectives=False)


def load_alone(connection: ConnectionArguments, checkpoint_uri: str, seed: float) -> None:
    """Load what :func:`save_alone` saved."""
    state = _own_state(-1)
    state["rank"] = -1
    dcp.load(state, storage_reader=OssFileSystem(**connection).reader(checkpoint_uri, share_replicated=True))
    assert state.pop("rank") == dist.get_rank()
    assert torch.equal(state.pop("of this rank"), torch.full((3000,), seed + dist.get_rank()))
    assert _equal(state, seed)


def load_columns(connection: ConnectionArguments, checkpoint_uri: str, seed: float) -> None:
    """Load by columns what was saved by rows."""
    state = {"by rows": _sharded(_matrix(-1), Shard(1))}
    dcp.load(state, storage_reader=OssFileSystem(**connection).reader(checkpoint_uri))
    assert torch.equal(state["by rows"].full_tensor(), _matrix(seed))


def _before(target: object, name: str, action: Callable[..., object]) -> None:
    """Do something before each call of a method."""
    original = getattr(target, name)

    def replaced(*arguments: Any, **keywords: Any) -> Any:
        action(*arguments)
        return original(*arguments, **keywords)

    setattr(target, name, replaced)


def _after(target: object, name: str, action: Callable[[], None]) -> None:
    original = getattr(target, name)

    def replaced(*arguments: Any, **keywords: Any) -> Any:
        result = original(*arguments, **keywords)
        action()
        return result

    setattr(target, name, replaced)


class _Upload:
    """An upload that runs an action at one of its stages."""

    def __init__(self, upload: Any, stage: str, action: Callable[[], None]) -> None:
        self._upload = upload
        self._stage = stage
        self._action = action

    def __enter__(self) -> Self:
        self._upload.__enter__()
        return self

    def write(self, data: Any) -> int:
        written: int = self._upload.write(data)
        if self._stage == "within a file":
            self._action()
        return written

    def __exit__(self, *raised: object) -> None:
        if self._stage == "end of a file":
            self._action()
        self._upload.__exit__(*raised)
        if self._stage == "after a file":
            self._action()


def which_and_save(connection: ConnectionArguments, checkpoint_uri: str, seeds: list[float], seed: float) -> float:
    """Return the seed of the checkpoint, then save another one to the same URI."""
    found = which(connection, checkpoint_uri, seeds)
    save(connection, checkpoint_uri, seed)
    load(connection, checkpoint_uri, seed)
    return found


def save_and_die(
    connection: ConnectionArguments, checkpoint_uri: str, seeds: list[float], victim: int, stage: str
) -> None:
    """Save twice; one rank is killed at a stage of the second save.

    The rank kills itself. At a stage of the coordinator, during which the rank waits, the coordinator kills it.
    """
    first, seed = seeds
    save(connection, checkpoint_uri, first)
    file_system = OssFileSystem(**connection)
    writer = file_system.writer(checkpoint_uri, thread_count=2)
    state = _state(seed)
    processes = [0] * dist.get_world_size()
    dist.all_gather_object(processes, os.getpid())
    if dist.get_rank() == (0 if stage in COORDINATOR_STAGES else victim):
        _arm(writer, file_system, stage, lambda: os.kill(processes[victim], signal.SIGKILL))
    dcp.save(state, storage_writer=writer)


def _arm(writer: OssStorageWriter, file_system: OssFileSystem, stage: str, kill: Callable[[], None]) -> None:
    client = file_system.client

    def kills_at(wanted: str) -> Callable[..., None]:
        return lambda uri, *_: kill() if wanted in str(uri) else None

    if stage in {"prepare_local_plan", "prepare_global_plan", "write_data", "finish"}:
        _before(writer, stage, lambda *_: kill())
    elif stage in {"after prepare_local_plan", "after prepare_global_plan", "after write_data", "after finish"}:
        _after(writer, stage.removeprefix("after "), kill)
    elif stage == "first file":
        _before(client, "writer", lambda *_: kill())
    elif stage in {"within a file", "end of a file", "after a file"}:
        original = client.writer
        client.writer = lambda uri: _Upload(original(uri), stage, kill)  # type: ignore[assignment]
    elif stage == "old metadata":
        _before(client, "_get_bounded", kills_at("/.metadata"))
    elif stage == "checksums":
        _before(client, "put", kills_at("/.items-"))
    elif stage == "metadata":
        _before(client, "put", kills_at("/.metadata"))
    else:
        assert stage == "deleting", stage
        _before(client, "delete_many", lambda *_: kill())
