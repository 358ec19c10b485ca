"""What a conversion writes: safetensors files, one file of ``torch.save``, or a distributed checkpoint."""

import contextlib
import io
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, cast

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.planner import SavePlan, WriteItem, WriteItemType

from osstorchconnector.connection.client import OssClient
from osstorchconnector.conversion.source import Source, batches_of
from osstorchconnector.dcp.file_system import OssFileSystem
from osstorchconnector.dcp.memory import bytes_of
from osstorchconnector.dcp.writer import OssStorageWriter
from osstorchconnector.exceptions import OssConfigError
from osstorchconnector.files.transfer import is_remote
from osstorchconnector.files.writing import writing
from osstorchconnector.safetensor.header import write_header
from osstorchconnector.safetensor.shards import INDEX_NAME, SINGLE_NAME, split, write_index

Advance = Callable[[int], object]

_FORMAT: Final = {"format": "pt"}


def write_hugging_face(
    source: Source, target: str, client: OssClient | None, advance: Advance, *, shard_bytes: int
) -> None:
    """Write a directory of safetensors files, with an index that is written last; without one, if there is one file.

    Raises:
        OssConfigError: Something is no tensor, or cannot be stored.
    """
    _check_tensors(source)
    empty = {name: info.meta() for name, info in source.tensors.items()}
    shards, _ = split(empty, shard_bytes)
    groups = list(shards.values())
    if len(groups) == 1:
        _write_file(source, groups[0], _join(target, SINGLE_NAME), client, advance)
        return
    index: dict[str, str] = {}
    try:
        for number, group in enumerate(groups, start=1):
            name = f"model-{number:05}-of-{len(groups):05}.safetensors"
            index |= dict.fromkeys(group, name)
            _write_file(source, group, _join(target, name), client, advance)
        with writing(_join(target, INDEX_NAME), client) as file:
            file.write(write_index(index, empty))
    except BaseException:
        # A program could take some of the files for a model.
        _remove([_join(target, name) for name in dict.fromkeys(index.values())], client)
        raise


def _remove(files: list[str], client: OssClient | None) -> None:
    for file in files:
        if client is not None and is_remote(file):
            client.delete(file)
        else:
            Path(file).unlink(missing_ok=True)


def write_safetensors(source: Source, target: str, client: OssClient | None, advance: Advance) -> None:
    """Write one safetensors file.

    Raises:
        OssConfigError: Something is no tensor, or cannot be stored.
    """
    _check_tensors(source)
    _write_file(source, {name: info.meta() for name, info in source.tensors.items()}, target, client, advance)


def _write_file(
    source: Source, empty: Mapping[str, torch.Tensor], target: str, client: OssClient | None, advance: Advance
) -> None:
    aliases = {name: kept for name, kept in source.aliases.items() if kept in empty}
    head, order = write_header(empty, {**_FORMAT, **source.texts, **aliases})
    with _file(target, client, len(head) + sum(tensor.nbytes for tensor in empty.values())) as file:
        file.write(head)
        for _, tensor in source.read(order):
            if tensor.nbytes:
                file.write(bytes_of(tensor))
                advance(tensor.nbytes)


def _check_tensors(source: Source) -> None:
    if source.objects:
        shown = ", ".join(map(repr, list(source.objects)[:5]))
        raise OssConfigError(
            f"{source.place} has {len(source.objects)} entries that are no tensors, such as {shown}, and safetensors "
            "files hold tensors only: choose the tensors of the model, such as --keys 'model.*' --strip model."
        )


@contextlib.contextmanager
def _file(target: str, client: OssClient | None, size: int) -> Iterator[Any]:
    if client is not None and is_remote(target):
        with client.writer(target, size_hint=size) as writer:
            yield writer
        return
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    with writing(target, None) as file:
        yield file


def write_torch(source: Source, target: str, client: OssClient | None, advance: Advance) -> None:
    """Write one file of ``torch.save``, with the dictionaries that the checkpoint has."""
    from osstorchconnector.conversion.torch_file import write_torch_file  # noqa: PLC0415 - few conversions need it

    with _file(target, client, source.nbytes) as file:
        write_torch_file(source, file, advance)


def write_distributed(source: Source, target: str, client: OssClient | None, advance: Advance) -> None:
    """Write a distributed checkpoint of one rank."""
    empty = {name: info.meta() for name, info in source.tensors.items()}

    def leaf(name: str) -> object:
        kept = source.aliases.get(name, name)
        return empty[kept] if kept in empty else source.objects[name]

    writer: Any
    if client is not None and is_remote(target):
        writer = OssStorageWriter(OssFileSystem.of_client(client), target.rstrip("/"), overwrite=False)
    else:
        writer = dcp.FileSystemWriter(target, overwrite=False)
    planner = _StreamingPlanner(source, advance)
    # As `torch.distributed.checkpoint.save` does in one process.
    planner.set_up_planner(source.nested(leaf), writer.storage_meta(), is_coordinator=True)
    writer.set_up_storage_writer(is_coordinator=True)
    plans, metadata = planner.create_global_plan([writer.prepare_local_plan(planner.create_local_plan())])
    (plan,) = writer.prepare_global_plan(plans)
    writer.finish(metadata, [writer.write_data(planner.finish_plan(plan), planner).wait()])


class _StreamingPlanner(dcp.DefaultSavePlanner):
    """Reads each tensor when the writer asks for it, and those that the writer will ask for next."""

    def __init__(self, source: Source, advance: Advance) -> None:
        super().__init__()
        self._source = source
        self._advance = advance
        self._order: list[str] = []
        self._read: dict[str, torch.Tensor] = {}

    def finish_plan(self, new_plan: SavePlan) -> SavePlan:
        plan = super().finish_plan(new_plan)
        names = (item.index.fqn for item in plan.items if item.type != WriteItemType.BYTE_IO)
        self._order = [self._source.aliases.get(name, name) for name in names]
        return plan

    def resolve_data(self, write_item: WriteItem) -> torch.Tensor | io.BytesIO:
        if write_item.type == WriteItemType.BYTE_IO:
            return cast("io.BytesIO", super().resolve_data(write_item))
        name = self._source.aliases.get(write_item.index.fqn, write_item.index.fqn)
        if name not in self._read:
            # What was read and not asked for is dropped: writers may have another order.
            following = self._order[self._order.index(name) :]
            self._read = dict(self._source.fetch(next(batches_of(dict.fromkeys(following), self._source.tensors))))
        tensor = self._read.pop(name)
        self._advance(tensor.nbytes)
        return tensor


def _join(directory: str, name: str) -> str:
    return f"{directory.rstrip('/')}/{name}"
