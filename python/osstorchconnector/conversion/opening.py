"""Opening a checkpoint of any form, in a bucket or on a disk, to convert it."""

import glob
import io
import pickle
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata

from osstorchconnector.checkpoint.torch_zip import described, load_partial
from osstorchconnector.connection.client import OssClient
from osstorchconnector.connection.uri import split_prefix
from osstorchconnector.conversion.source import Key, Source, TensorInfo
from osstorchconnector.dcp.file_system import OssFileSystem
from osstorchconnector.dcp.hugging_face import OssHuggingFaceStorageReader
from osstorchconnector.dcp.metadata import metadata_in
from osstorchconnector.dcp.reader import OssStorageReader
from osstorchconnector.exceptions import OssConfigError, OssFormatError, OssNotFoundError
from osstorchconnector.files.transfer import is_remote
from osstorchconnector.safetensor.header import library
from osstorchconnector.safetensor.safe_open import OssSafeOpen
from osstorchconnector.safetensor.shards import INDEX_NAME, first_of_each_model, missing_shard, read_index

_METADATA: Final = ".metadata"
_SHARDING: Final = "DCP_SHARDING_INFO"
_SAFETENSORS: Final = ".safetensors"
_INDEX: Final = ".safetensors.index.json"


def open_source(place: str, client: OssClient | None) -> Source:
    """Open a distributed checkpoint, a directory of safetensors files, one of these, or a file of ``torch.save``.

    Args:
        place: An ``oss://`` URI, or a path.
        client: Reads objects; None if the place is local.

    Raises:
        OssConfigError: There is no checkpoint, or it needs a client.
        OssError: It cannot be read.
    """
    if is_remote(place):
        if client is None:
            raise OssConfigError(f"{place} is in a bucket: give a client")
        return _open_remote(place, client)
    path = Path(place)
    if not path.exists():
        raise OssConfigError(f"{place} does not exist")
    if path.is_file():
        return _local_safetensors([path], place) if path.suffix == _SAFETENSORS else _local_torch(path)
    if (path / _METADATA).is_file():
        # The reader of torch would run code that the file names.
        metadata = metadata_in((path / _METADATA).read_bytes(), str(path / _METADATA))
        return _distributed(dcp.FileSystemReader(path), place, metadata)
    files = sorted(path.glob(f"*{_SAFETENSORS}"))
    if not files:
        raise OssConfigError(f"{place} is no checkpoint: it has neither {_METADATA} nor safetensors files")
    return _local_safetensors(files, place)


def _open_remote(uri: str, client: OssClient) -> Source:
    bucket, prefix = split_prefix(uri)
    directory = f"oss://{bucket}/{prefix.rstrip('/')}/"
    names = {item.name[len(prefix.rstrip("/")) + 1 :] for item in client.list(directory, delimiter="/")}
    if not names:
        if prefix.endswith("/"):
            raise OssNotFoundError(f"there is no checkpoint at {uri}: no object is below it", bucket=bucket, key=prefix)
        is_safetensors = uri.endswith((_SAFETENSORS, _INDEX))
        return _remote_safetensors([uri], uri, client) if is_safetensors else _remote_torch(uri, client)
    if _METADATA in names:
        stored = OssStorageReader(OssFileSystem.of_client(client), directory.rstrip("/"))
        return _distributed(stored, uri, stored.read_metadata())
    index = _index_among(names, uri, "give the URI of one index")
    found = [index] if index is not None else []
    if not found:
        found = [name for name in sorted(names) if name.endswith(_SAFETENSORS)]
        _check_whole(found, uri)
    if found:
        return _remote_safetensors([directory + name for name in found], uri, client)
    raise OssConfigError(f"{uri} is no checkpoint: it has neither {_METADATA} nor safetensors files")


def _remote_safetensors(uris: Sequence[str], place: str, client: OssClient) -> Source:
    """Open one file, an index, or files without an index."""
    opened = [OssSafeOpen(client, uri, "cpu") for uri in uris]

    def close() -> None:
        for one in opened:
            one.close()

    texts: dict[str, str] = {}
    where: dict[str, OssSafeOpen] = {}
    tensors = {}
    for one in opened:
        texts = {**one.metadata(), **texts}
        for name in one.offset_keys():
            if name in where and _SHARDING not in texts:
                raise OssFormatError(f"{place} has tensor {name!r} in two files, and no index that chooses one")
            found = one.range_of(name)
            tensors[name], where[name] = TensorInfo(found.torch_shape(), found.torch_dtype()), one
    if _SHARDING in texts:
        close()
        reader = OssHuggingFaceStorageReader(place.rstrip("/"), file_system=OssFileSystem.of_client(client))
        return _distributed(reader, place, reader.read_metadata())

    def fetch(names: Sequence[str]) -> dict[str, torch.Tensor]:
        loaded: dict[str, torch.Tensor] = {}
        for one in opened:
            loaded |= one.get_tensors([name for name in names if where[name] is one])
        return loaded

    return _with_aliases(Source(place, tensors, fetch, texts=texts, close=close))


def _local_safetensors(files: list[Path], place: str) -> Source:
    safetensors = library()
    wanted = _local_index(files, place)
    tensors: dict[str, TensorInfo] = {}
    opened: dict[str, Any] = {}
    texts: dict[str, str] = {}
    try:
        for file in files:
            reading = safetensors.safe_open(file, framework="pt")
            texts = {**(reading.metadata() or {}), **texts}
            for name in reading.offset_keys():
                if wanted is not None and wanted.get(name) != file.name:
                    continue
                if name in tensors and _SHARDING not in texts:
                    raise OssFormatError(f"{place} has tensor {name!r} in two files, and no index that chooses one")
                # Nothing is read of it: its memory is the mapped file.
                tensor = reading.get_tensor(name)
                tensors[name] = TensorInfo(tuple(tensor.shape), tensor.dtype)
                opened[name] = reading
    except safetensors.SafetensorError as error:
        raise OssFormatError(f"{place} has a file that is not a safetensors file: {error}") from None
    if wanted is not None and (missing := sorted(wanted.keys() - tensors.keys())):
        raise OssFormatError(f"{place} has no tensor {missing[0]!r}, but its index says that it has")
    if _SHARDING in texts:
        from torch.distributed.checkpoint import HuggingFaceStorageReader  # noqa: PLC0415 - absent before torch 2.8

        parts = HuggingFaceStorageReader(place)
        return _distributed(parts, place, parts.read_metadata())

    def fetch(names: Sequence[str]) -> dict[str, torch.Tensor]:
        return {name: opened[name].get_tensor(name).clone() for name in names}

    return _with_aliases(Source(place, tensors, fetch, texts=texts))


def _index_among(names: Iterable[str], place: str, remedy: str) -> str | None:
    """Return the index of a directory: that of the usual name, or the only one; None without one."""
    found = sorted(name for name in names if name.endswith(_INDEX))
    if INDEX_NAME in found:
        return INDEX_NAME
    if len(found) > 1:
        raise OssFormatError(f"{place} holds {len(found)} models, {' and '.join(found)}: {remedy}")
    return found[0] if found else None


def _check_whole(names: Sequence[str], place: str) -> None:
    """Check that files without an index are one model, as far as their names say, and all of it."""
    if len(models := first_of_each_model(names)) > 1:
        raise OssFormatError(
            f"{place} has no index, and holds {len(models)} models, with {' and '.join(models)}: "
            "put each into a directory of its own"
        )
    if (missing := missing_shard(names)) is not None:
        raise OssFormatError(f"{place} is not complete: {missing} is missing")


def _local_index(files: list[Path], place: str) -> dict[str, str] | None:
    """Return the file of each tensor; None without an index."""
    directory = Path(place)
    if not directory.is_dir():
        return None
    names = [path.name for path in directory.iterdir() if path.is_file()]
    name = _index_among(names, place, "move all but one away")
    if name is None:
        _check_whole([file.name for file in files], place)
        return None
    index = directory / name
    wanted = {name: Path(file).name for name, file in read_index(index.read_bytes(), str(index)).items()}
    missing = sorted(set(wanted.values()) - {file.name for file in files})
    if missing:
        raise OssFormatError(f"{index} names {missing[0]}, which does not exist")
    return wanted


def _with_aliases(source: Source) -> Source:
    """Find the names that ``save_model`` left out; the texts say which tensor stands for them."""
    for name, kept in source.texts.items():
        if kept in source.tensors and name not in source.tensors:
            source.aliases[name] = kept
    source.texts = {name: text for name, text in source.texts.items() if name not in source.aliases}
    return source


def _remote_torch(uri: str, client: OssClient) -> Source:
    reader = client.reader(uri)

    def fetch(names: Sequence[str]) -> dict[str, torch.Tensor]:
        patterns = [glob.escape(".".join(map(str, paths[name]))) for name in names]
        loaded = load_partial(reader, patterns, "cpu", reopen=lambda: client.reader(uri))
        return {name: _at(loaded, paths[name]) for name in names}

    with _plain_values(uri):
        content = described(reader, lambda: client.reader(uri))
    source = _flattened(content, uri)
    paths = source.paths
    source.fetch, source.close = _separate(fetch), reader.close
    return source


def _local_torch(path: Path) -> Source:
    try:
        with _plain_values(str(path)):
            # Its tensors are in the mapped file.
            content = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except RuntimeError as error:
        raise OssFormatError(f"{path} was not written by torch.save: {error}") from error
    source = _flattened(content, str(path))
    source.fetch = _separate(lambda names: {name: _at(content, source.paths[name]) for name in names})
    return source


def _separate(fetch: Any) -> Any:  # noqa: ANN401 - a function as Source has it
    return lambda names: {
        name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in fetch(names).items()
    }


def _flattened(content: object, place: str) -> Source:
    """Describe nested dictionaries of tensors as ``torch.distributed.checkpoint`` names their entries.

    Raises:
        OssConfigError: It is no dictionary.
    """
    if not isinstance(content, Mapping):
        raise OssConfigError(f"{place} holds a {type(content).__name__}: a dictionary is needed")
    source = Source(place, {}, lambda _names: {})
    seen: dict[Any, str] = {}
    _walk(content, (), source, seen)
    return source


def _walk(node: Mapping[Any, Any], above: tuple[Key, ...], source: Source, seen: dict[Any, str]) -> None:
    for key, value in node.items():
        path = (*above, key)
        name = ".".join(map(str, path))
        if isinstance(value, Mapping) and value:
            _walk(value, path, source, seen)
            continue
        if name in source.paths:
            raise OssConfigError(f"{source.place} has two entries of the name {name!r}")
        source.paths[name] = path
        if not isinstance(value, torch.Tensor):
            if _has_tensor(value):
                raise OssConfigError(
                    f"{source.place} has tensors in a {type(value).__name__} at {name!r}: only those in dictionaries "
                    "are converted"
                )
            source.objects[name] = value
            continue
        if value.layout != torch.strided:
            raise OssConfigError(f"{source.place}: tensor {name!r} is sparse, and sparse tensors are not converted")
        read_as = (value.dtype, value.is_conj(), value.is_neg())
        same = (_identity(value), value.storage_offset(), value.shape, value.stride(), read_as)
        if value.numel() and (kept := seen.setdefault(same, name)) != name:
            source.aliases[name] = kept
        else:
            source.tensors[name] = TensorInfo(tuple(value.shape), value.dtype)


def _has_tensor(value: object) -> bool:
    if isinstance(value, Mapping):
        return any(map(_has_tensor, value.values()))
    return isinstance(value, torch.Tensor) or (isinstance(value, list | tuple | set) and any(map(_has_tensor, value)))


@contextmanager
def _plain_values(place: str) -> Iterator[None]:
    """Say of what a checkpoint holds besides tensors and plain values that it is not loaded."""
    try:
        yield
    except pickle.UnpicklingError as error:
        raise OssConfigError(
            f"{place} holds more than tensors and plain values, and code that it names is not run: {error}"
        ) from error


def _identity(tensor: torch.Tensor) -> object:
    """Return what tensors with the same memory share, also if they have none yet."""
    storage = tensor.untyped_storage()
    return getattr(storage, "storage_key", None) or storage.data_ptr()


def _at(content: Any, path: Sequence[Key]) -> Any:  # noqa: ANN401 - nested dictionaries
    for key in path:
        content = content[key]
    return content


class _ObjectPlanner(dcp.DefaultLoadPlanner):
    """Loads what is no tensor without running code that it names."""

    def load_bytes(self, read_item: Any, value: io.BytesIO) -> None:  # noqa: ANN401 - torch's
        name = read_item.dest_index.fqn
        self.state_dict[name] = torch.load(value, map_location="cpu", weights_only=True)


def _distributed(reader: Any, place: str, metadata: Metadata) -> Source:  # noqa: ANN401 - one of several readers
    tensors, objects = {}, []
    for name, entry in metadata.state_dict_metadata.items():
        if isinstance(entry, TensorStorageMetadata):
            tensors[name] = TensorInfo(tuple(entry.size), entry.properties.dtype)
        else:
            objects.append(name)
    places = {
        index.fqn: (str(info.relative_path), getattr(info, "offset", 0))
        for index, info in (metadata.storage_data or {}).items()
    }
    tensors = dict(sorted(tensors.items(), key=lambda item: (places.get(item[0], ("", 0)), item[0])))

    def fetch(names: Sequence[str]) -> dict[str, torch.Tensor]:
        loaded = {name: torch.empty(tensors[name].shape, dtype=tensors[name].dtype) for name in names}
        _load(loaded, reader, metadata, dcp.DefaultLoadPlanner())
        return loaded

    values: dict[str, Any] = dict.fromkeys(objects, "")
    if values:
        planner = _ObjectPlanner(flatten_state_dict=False, flatten_sharded_tensors=False)
        with _plain_values(place):
            _load(values, reader, metadata, planner)
    paths = {
        name: tuple(path)
        for name, path in (metadata.planner_data or {}).items()
        if isinstance(path, tuple) and all(isinstance(key, str | int) for key in path)
    }
    return Source(place, tensors, fetch, objects=values, paths=paths, distributed=True)


def _load(values: dict[str, Any], reader: Any, metadata: Metadata, planner: dcp.DefaultLoadPlanner) -> None:  # noqa: ANN401 - as above
    """Load some values as ``torch.distributed.checkpoint.load`` does in one process, without reading the metadata."""
    planner.set_up_planner(values, metadata, is_coordinator=True)
    reader.set_up_storage_reader(metadata, is_coordinator=True)
    plan = reader.prepare_local_plan(planner.create_local_plan())
    (plan,) = reader.prepare_global_plan(planner.create_global_plan([plan]))
    reader.read_data(planner.finish_plan(plan), planner).wait()
