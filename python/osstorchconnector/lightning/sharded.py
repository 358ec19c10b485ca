"""Strategies that save each rank's shards by themselves, with their checkpoints in OSS.

``FSDPStrategy`` and ``ModelParallelStrategy`` ask no plugin: they make a ``pathlib.Path`` of a URI and write to a local
folder ``oss:``. A class of a mix-in from here and such a strategy saves and loads ``oss://`` through
``torch.distributed.checkpoint``, and other paths as before.
"""

import io
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, TypeVar, cast

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.optimizer import load_sharded_optimizer_state_dict
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.checkpoint.stateful import Stateful
from torch.distributed.fsdp import (
    FullyShardedDataParallel,
    OptimStateKeyType,
    ShardedOptimStateDictConfig,
    ShardedStateDictConfig,
    StateDictType,
)

from osstorchconnector.checkpoint.history import METADATA
from osstorchconnector.connection.uri import split_object
from osstorchconnector.credentials.shield import guards_methods
from osstorchconnector.dcp.file_system import OssFileSystem
from osstorchconnector.dcp.metadata import read_metadata
from osstorchconnector.exceptions import OssConfigError, OssError, OssKeyError, OssNotFoundError
from osstorchconnector.lightning.checkpoint_io import NOT_GIVEN, REST, NotGiven, OssCheckpointIO

# The entry of a distributed checkpoint that holds what is not sharded: bytes of torch.save. As a part of the checkpoint
# it is published together with the shards.
_REST_ENTRY: Final = "lightning_rest"

_WeightsOnly = bool | NotGiven | None
_Result = TypeVar("_Result")


class _ShardedCheckpoints:
    """What the mix-ins for ``Trainer`` and ``Fabric`` share. All methods are called on every rank."""

    # Of the strategy.
    checkpoint_io: Any
    is_global_zero: bool
    broadcast: Callable[[Any], Any]

    def _is_sharded(self) -> bool:
        """Return whether the strategy was asked to save shards, not one object."""
        kind = getattr(self, "_state_dict_type", None)
        return bool(kind == "sharded" if kind is not None else getattr(self, "_save_distributed_checkpoint", False))

    def _oss(self) -> OssCheckpointIO:
        plugin = self.checkpoint_io
        while not isinstance(plugin, OssCheckpointIO) and getattr(plugin, "checkpoint_io", None) is not None:
            plugin = plugin.checkpoint_io
        if not isinstance(plugin, OssCheckpointIO):
            raise OssConfigError(
                f"{type(self).__name__} needs an OssCheckpointIO to save to oss://, but has a "
                f"{type(plugin).__name__}: give plugins=[OssCheckpointIO(...)]"
            )
        return plugin

    def _shared_path(self, path: str | os.PathLike[str]) -> str | None:
        """Return the path of the first rank if it is on OSS, so that all ranks use one."""
        shared = self.broadcast(os.fspath(path))
        return shared if str(shared).startswith("oss:/") else None

    def _first_rank(self, action: Callable[[], _Result]) -> _Result:
        """Return the result of the first rank on all ranks. If it raises, all ranks raise."""
        result: Any = None
        error: Exception | None = None
        if self.is_global_zero:
            try:
                result = action()
            except Exception as raised:  # noqa: BLE001 - raised again, after the other ranks know
                error = raised
        message, result = self.broadcast((None if error is None else f"{type(error).__name__}: {error}", result))
        if error is not None:
            raise error
        if message is not None:
            raise OssError(f"the first rank failed: {message}")
        return cast("_Result", result)

    def _save_shards(self, state: dict[str, Any], rest: Mapping[str, Any], uri: str) -> None:
        oss = self._oss()
        data = b""
        if self.is_global_zero:
            stream = io.BytesIO()
            torch.save(dict(rest), stream)
            data = stream.getvalue()
            state = {**state, _REST_ENTRY: torch.frombuffer(bytearray(data), dtype=torch.uint8)}
        client = oss._client  # noqa: SLF001 - one package
        dcp.save(state, storage_writer=OssFileSystem.of_client(client).writer(uri))

        def publish() -> None:
            # Lightning itself looks for it, in a copy of the checkpoint on a disk.
            client.put(f"{uri}/{REST}", data)
            # An older checkpoint of one object would have the same name.
            client.delete(uri)
            oss._stored(uri)  # noqa: SLF001 - one package

        self._first_rank(publish)

    def _save_one_object(self, save: Callable[[], None], uri: str) -> None:
        oss = self._oss()

        def save_and_clean() -> None:
            save()
            # An older checkpoint of shards would have the same name, and a load prefers it.
            oss._delete_distributed(uri)  # noqa: SLF001 - one package

        self._first_rank(save_and_clean)

    def _stored_entries(self, uri: str) -> frozenset[str] | None:
        """Return the names of a distributed checkpoint's entries, or None if there is none."""
        client = self._oss()._client  # noqa: SLF001 - one package

        def entries() -> frozenset[str] | None:
            try:
                return frozenset(read_metadata(client, f"{uri}/{METADATA}").state_dict_metadata)
            except OssNotFoundError:
                return None

        return self._first_rank(entries)

    def _load_shards(
        self,
        uri: str,
        model: tuple[str, torch.nn.Module],
        optimizers: Mapping[str, torch.optim.Optimizer],
        *,
        strict: bool,
    ) -> None:
        def load(state: dict[str, Any], *, partial: bool) -> dict[str, Any]:
            planner = DefaultLoadPlanner(allow_partial_load=partial)
            dcp.load(state, storage_reader=self._file_system().reader(uri), planner=planner)
            return state

        name, module = model
        flat = _is_flat(module)
        with _sharded_states(module) if flat else nullcontext():
            loaded = load({name: module.state_dict() if flat else get_model_state_dict(module)}, partial=not strict)[
                name
            ]
            if flat:
                module.load_state_dict(loaded, strict=strict)
            else:
                set_model_state_dict(module, loaded, options=StateDictOptions(strict=strict))
            # One after the other, so that only one optimizer's state is in memory twice.
            for key, optimizer in optimizers.items():
                if flat:
                    reader = self._file_system().reader(uri)
                    state = load_sharded_optimizer_state_dict(loaded, key, reader)[key]
                    optimizer.load_state_dict(
                        FullyShardedDataParallel.optim_state_dict_to_load(module, optimizer, state)
                    )
                else:
                    state = load({key: get_optimizer_state_dict(module, optimizer)}, partial=False)[key]
                    set_optimizer_state_dict(module, optimizer, optim_state_dict=state)

    def _load_rest(self, uri: str, entries: frozenset[str], weights_only: "_WeightsOnly") -> dict[str, Any]:
        """Return what is not sharded."""
        oss = self._oss()
        if _REST_ENTRY in entries:
            reader = self._file_system().reader(uri)
            size = reader.read_metadata().state_dict_metadata[_REST_ENTRY].size  # type: ignore[union-attr]
            state = {_REST_ENTRY: torch.empty(size, dtype=torch.uint8)}
            dcp.load(state, storage_reader=reader)
            data = state[_REST_ENTRY].numpy().tobytes()
        else:
            # Lightning saved it to a disk, and it was copied to OSS.
            data = oss._client.get(f"{uri}/{REST}")  # noqa: SLF001 - one package
        chosen = oss._chosen_weights_only(weights_only)  # noqa: SLF001 - one package
        rest: dict[str, Any] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=chosen)
        oss._retention.loaded(uri)  # noqa: SLF001 - one package
        return rest

    def _load_one_object(self, uri: str, weights_only: "_WeightsOnly") -> dict[str, Any]:
        given = {} if isinstance(weights_only, NotGiven) else {"weights_only": weights_only}
        loaded: dict[str, Any] = self.checkpoint_io.load_checkpoint(uri, map_location="cpu", **given)
        return loaded

    def _file_system(self) -> OssFileSystem:
        return OssFileSystem.of_client(self._oss()._client)  # noqa: SLF001 - one package


def _sharded_states(module: torch.nn.Module) -> AbstractContextManager[Any]:
    """Return a context in which the states of FSDP's first version are shards."""
    return FullyShardedDataParallel.state_dict_type(
        module,
        StateDictType.SHARDED_STATE_DICT,
        ShardedStateDictConfig(offload_to_cpu=True),
        ShardedOptimStateDictConfig(offload_to_cpu=True),
    )


def _set_full_state(
    module: torch.nn.Module,
    model_state: dict[str, Any],
    optimizers: Iterable[tuple[torch.optim.Optimizer, dict[str, Any]]],
    *,
    strict: bool,
) -> None:
    """Give a model and its optimizers what a checkpoint of one object holds."""
    set_model_state_dict(module, model_state, options=StateDictOptions(full_state_dict=True, strict=strict))
    for optimizer, given in optimizers:
        state = given
        if any(isinstance(key, int) for key in state["state"]):
            # Lightning stores numbers in place of names, as a strategy without shards does.
            state = FullyShardedDataParallel.rekey_optim_state_dict(state, OptimStateKeyType.PARAM_NAME, module)
        set_optimizer_state_dict(
            module, optimizer, optim_state_dict=state, options=StateDictOptions(full_state_dict=True)
        )


@guards_methods
class OssShardedCheckpoints(_ShardedCheckpoints):
    """A mix-in for ``FSDPStrategy`` and ``ModelParallelStrategy`` of a ``Trainer``: their checkpoints go to OSS.

    ::

        class Strategy(OssShardedCheckpoints, FSDPStrategy):
            pass


        trainer = Trainer(strategy=Strategy(state_dict_type="sharded"), plugins=[OssCheckpointIO(...)])

    Each rank saves and loads its own shards, through ``torch.distributed.checkpoint``. The checkpoint appears whole, or
    the previous one stays, and a failure is an error on all ranks. Paths that do not begin with ``oss://`` are saved by
    the strategy as before.
    """

    model: Any
    optimizers: list[torch.optim.Optimizer]
    lightning_module: Any

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        filepath: str | os.PathLike[str],
        storage_options: Any = None,  # noqa: ANN401 - the interface's type
    ) -> None:
        """Store a checkpoint; all ranks call it.

        Args:
            checkpoint: The checkpoint.
            filepath: Its URI, or another path.
            storage_options: Must be None.

        Raises:
            OssError: The checkpoint was not stored; the previous one is unchanged.
        """
        uri = self._shared_path(filepath)
        if uri is None:
            super().save_checkpoint(checkpoint, filepath, storage_options)  # type: ignore[misc]
            return
        split_object(uri)
        if storage_options is not None:
            raise OssConfigError("OssCheckpointIO has no storage_options: give them to its constructor, as config")
        if not self._is_sharded():
            self._save_one_object(lambda: self.checkpoint_io.save_checkpoint(checkpoint, uri), uri)
            return
        rest = dict(checkpoint)
        state = {self._model_key: rest.pop("state_dict")}
        state |= {f"optimizer_{index}": one for index, one in enumerate(rest.pop("optimizer_states", []))}
        self._save_shards(state, rest, uri)

    def load_checkpoint(
        self,
        checkpoint_path: str | os.PathLike[str],
        weights_only: bool | NotGiven | None = NOT_GIVEN,  # noqa: FBT001 - the interface's position
    ) -> dict[str, Any]:
        """Load a checkpoint into the model, and into the optimizers if the ``Trainer`` fits; all ranks call it.

        Args:
            checkpoint_path: Its URI, or another path.
            weights_only: As for :meth:`OssCheckpointIO.load_checkpoint`, for what is not sharded.

        Returns:
            The rest of the checkpoint.

        Raises:
            OssNotFoundError: There is no such checkpoint.
            OssError: The checkpoint could not be read.
        """
        uri = self._shared_path(checkpoint_path)
        if uri is None:
            given = {} if isinstance(weights_only, NotGiven) else {"weights_only": weights_only}
            local: dict[str, Any] = super().load_checkpoint(checkpoint_path, **given)  # type: ignore[misc]
            return local
        split_object(uri)
        strict = self.lightning_module.strict_loading
        fitting = self.lightning_module.trainer.state.fn == "fit"
        optimizers = self.optimizers if fitting else []
        entries = self._stored_entries(uri)
        if entries is not None:
            named = {f"optimizer_{index}": one for index, one in enumerate(optimizers)}
            self._load_shards(uri, (self._model_key, self.model), named, strict=strict)
            return self._load_rest(uri, entries, weights_only)
        checkpoint = self._load_one_object(uri, weights_only)
        states = checkpoint.get("optimizer_states", [])
        if states and len(states) != len(optimizers) and fitting:
            raise OssConfigError(
                f"{uri} holds the state of {len(states)} optimizers, but the model has {len(optimizers)}: resume with "
                "as many as were saved"
            )
        pairs = zip(optimizers, states, strict=False)
        _set_full_state(self.model, checkpoint.pop("state_dict"), pairs, strict=strict)
        return checkpoint

    @property
    def _model_key(self) -> str:
        """The entry of the model: the two strategies name it differently."""
        return "model" if hasattr(self, "_state_dict_type") else "state_dict"


@guards_methods
class OssFabricShardedCheckpoints(_ShardedCheckpoints):
    """A mix-in for ``FSDPStrategy`` and ``ModelParallelStrategy`` of ``Fabric``: their checkpoints go to OSS.

    ::

        class Strategy(OssFabricShardedCheckpoints, ModelParallelStrategy):
            pass


        fabric = Fabric(strategy=Strategy(parallelize), plugins=[OssCheckpointIO(...)])

    What is stored, and what happens if a rank fails, is as for :class:`OssShardedCheckpoints`.
    """

    _oss_plugin: Any = None

    @property
    def checkpoint_io(self) -> Any:  # noqa: ANN401 - the interface's type
        """The plugin, which these strategies refuse without the mix-in."""
        return self._oss_plugin

    @checkpoint_io.setter
    def checkpoint_io(self, plugin: Any) -> None:  # noqa: ANN401 - the interface's type
        self._oss_plugin = plugin

    def save_checkpoint(
        self,
        path: str | os.PathLike[str],
        state: dict[str, Any],
        storage_options: Any = None,  # noqa: ANN401 - the interface's type
        filter: Any = None,  # noqa: A002, ANN401 - the interface's name and type
    ) -> None:
        """Store a model, its optimizers and other values; all ranks call it.

        Args:
            path: The URI, or another path.
            state: What to store.
            storage_options: Must be None.
            filter: Must be None.

        Raises:
            OssError: The checkpoint was not stored; the previous one is unchanged.
        """
        uri = self._shared_path(path)
        if uri is None:
            super().save_checkpoint(path, state, storage_options, filter)  # type: ignore[misc]
            return
        split_object(uri)
        if storage_options is not None or filter is not None:
            raise OssConfigError(f"{uri} cannot be saved with storage_options or a filter: give neither")
        sharded = self._is_sharded()
        parts = _states_of(state, sharded=sharded)
        rest = {
            key: value.state_dict() if isinstance(value, Stateful) else value
            for key, value in state.items()
            if key not in parts
        }
        if sharded:
            self._save_shards(parts, rest, uri)
        else:
            self._save_one_object(lambda: self.checkpoint_io.save_checkpoint({**parts, **rest}, uri), uri)

    def load_checkpoint(
        self,
        path: str | os.PathLike[str],
        state: Any = None,  # noqa: ANN401 - the interface's type
        strict: bool = True,  # noqa: FBT001, FBT002 - the interface's position
        weights_only: bool | NotGiven | None = NOT_GIVEN,  # noqa: FBT001 - the interface's position
    ) -> dict[str, Any]:
        """Load a checkpoint into a model, its optimizers and other values; all ranks call it.

        Args:
            path: The URI, or another path.
            state: The objects to load into.
            strict: Whether the checkpoint must have each of them, and each weight of the model.
            weights_only: As for :meth:`OssCheckpointIO.load_checkpoint`, for what is not sharded.

        Returns:
            What the checkpoint holds besides.

        Raises:
            OssNotFoundError: There is no such checkpoint.
            OssKeyError: It lacks a value of `state`.
            OssError: The checkpoint could not be read.
        """
        uri = self._shared_path(path)
        if uri is None:
            given = {} if isinstance(weights_only, NotGiven) else {"weights_only": weights_only}
            local: dict[str, Any] = super().load_checkpoint(path, state, strict, **given)  # type: ignore[misc]
            return local
        split_object(uri)
        if not isinstance(state, dict):
            raise OssConfigError(f"to load {uri}, give a dictionary with the model, as it was saved")
        name, module = _sharded_module(state)
        optimizers = {key: value for key, value in state.items() if isinstance(value, torch.optim.Optimizer)}
        entries = self._stored_entries(uri)
        if entries is not None:
            self._load_shards(uri, (name, module), optimizers, strict=strict)
            rest = self._load_rest(uri, entries, weights_only)
        else:
            rest = self._load_one_object(uri, weights_only)
            model_state = rest.pop(name)
            pairs = [(optimizer, rest.pop(key)) for key, optimizer in optimizers.items()]
            _set_full_state(module, model_state, pairs, strict=strict)
        for key in state.keys() - optimizers.keys() - {name}:
            if key in rest:
                state[key] = rest.pop(key)
            elif strict:
                raise OssKeyError(f"{uri} has no {key!r}: leave it out, or load with strict=False")
        return rest


def _states_of(state: Mapping[str, Any], *, sharded: bool) -> dict[str, Any]:
    """Return the states of the model and the optimizers in `state`: shards, or whole ones on the first rank."""
    _, module = _sharded_module(state)
    options = StateDictOptions(full_state_dict=not sharded, cpu_offload=True)
    optimizers = {key: value for key, value in state.items() if isinstance(value, torch.optim.Optimizer)}
    models = {key: value for key, value in state.items() if isinstance(value, torch.nn.Module)}
    if sharded and _is_flat(module):
        with _sharded_states(module):
            of_optimizer = FullyShardedDataParallel.optim_state_dict
            return {
                **{key: model.state_dict() for key, model in models.items()},
                **{key: of_optimizer(module, optimizer) for key, optimizer in optimizers.items()},
            }
    return {
        **{key: get_model_state_dict(model, options=options) for key, model in models.items()},
        **{key: get_optimizer_state_dict(module, one, options=options) for key, one in optimizers.items()},
    }


def _is_flat(module: torch.nn.Module) -> bool:
    """Return whether the first version of FSDP shards a module."""
    return any(isinstance(part, FullyShardedDataParallel) for part in module.modules())


def _sharded_module(state: Mapping[str, Any]) -> tuple[str, torch.nn.Module]:
    found = [(key, value) for key, value in state.items() if isinstance(value, torch.nn.Module)]
    if len(found) != 1:
        raise OssConfigError(
            f"a sharded checkpoint holds one model, but the state has {len(found)}: save each under a URI of its own"
        )
    return found[0]
