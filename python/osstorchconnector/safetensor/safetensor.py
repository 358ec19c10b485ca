"""Tensors in safetensors objects, read and written without a local file."""

import itertools
import os
import threading
from collections.abc import Mapping
from types import EllipsisType, TracebackType
from typing import Any, Final, Self

import torch

import osstorchconnector._torch  # noqa: F401 - checks the version of torch
from osstorchconnector.connection.client import OssClient, get_bounded
from osstorchconnector.connection.config import OssConfig
from osstorchconnector.connection.uri import split_prefix
from osstorchconnector.exceptions import OssConfigError, OssError, OssFormatError, OssKeyError, OssNotFoundError
from osstorchconnector.files.progress import Advance, progress_bar
from osstorchconnector.process.owner import Owner
from osstorchconnector.safetensor.header import (
    LENGTH_BYTES,
    TensorRange,
    length_in,
    library,
    read_header,
    write_header,
)
from osstorchconnector.safetensor.shards import (
    INDEX_NAME,
    LONGEST_INDEX,
    SINGLE_NAME,
    other_object,
    read_index,
    split,
    write_index,
)

# As other libraries cut models: large enough for full speed, small enough to handle.
_SHARD_BYTES: Final = 5_000_000_000

_Index = int | slice | EllipsisType | torch.Tensor | list[Any] | None
Index = _Index | tuple[_Index, ...]
Device = str | int | torch.device


class OssSafetensor:
    """Saves tensors to, and loads them from, safetensors objects.

    It needs the library ``safetensors``: ``pip install "osstorchconnector[safetensors]"``. That library reads what this
    class writes, and this class reads what that library writes.

    A URI that ends with ``/`` is a directory of shards, with ``model.safetensors.index.json``.
    """

    def __init__(
        self,
        endpoint: str,
        cred_path: str = "",
        config_path: str = "",
        cred_provider: object = None,
        region: str = "",
        *,
        config: OssConfig | None = None,
    ) -> None:
        """Resolve the connection arguments, which are those of :class:`OssClient`. The network is not used.

        Raises:
            OssConfigError: An argument is wrong, a file is missing or malformed, or ``safetensors`` is not installed.
            OssCredentialsError: There is no usable access key.
        """
        library()
        self._client = OssClient(endpoint, cred_path, config_path, cred_provider, region, config=config)

    def safe_open(self, oss_uri: str, device: Device = "cpu", framework: str = "pt") -> "OssSafeOpen":
        """Open an object or a directory of shards. Each tensor is fetched when you ask for it.

        Args:
            oss_uri: ``oss://bucket/key`` for one object; for shards, the directory with its ``/``, or its index.
            device: The device that the tensors go to.
            framework: ``"pt"``, which is torch.

        Returns:
            A context manager.

        Raises:
            OssConfigError: The device or the framework does not exist.
            OssNotFoundError: The object does not exist.
            OssFormatError: The object is not a safetensors file.
        """
        if framework != "pt":
            raise OssConfigError(
                f"framework must be 'pt', got {framework!r}. The arguments are (uri, device, framework)"
            )
        return OssSafeOpen(self._client, oss_uri, _device(device))

    def load_file(self, oss_uri: str, device: Device = "cpu", *, progress: bool = False) -> dict[str, torch.Tensor]:
        """Return all tensors of an object or of a directory of shards, by name.

        Args:
            oss_uri: As for :meth:`safe_open`.
            device: The device that the tensors go to.
            progress: Show a bar on standard error.

        Raises:
            OssNotFoundError: The object does not exist.
            OssFormatError: The object is not a safetensors file.
            OssIntegrityError: The bytes do not have the checksum that OSS stores.
        """
        with self.safe_open(oss_uri, device) as opened:
            names = opened.offset_keys()
            loaded = {}
            with progress_bar(oss_uri, sum(map(opened.stored_bytes, names)), shown=progress) as advance:
                for name in names:
                    loaded[name] = opened.get_tensor(name)
                    advance(opened.stored_bytes(name))
            return loaded

    def save_file(
        self,
        tensors: Mapping[str, torch.Tensor],
        oss_uri: str,
        metadata: Mapping[str, str] | None = None,
        *,
        shard_bytes: int = _SHARD_BYTES,
        progress: bool = False,
    ) -> None:
        """Store tensors. The previous object or index stays whole until all tensors are stored.

        If `oss_uri` ends with ``/``, the tensors are stored as shards, whose names no other save uses, and then an
        index is stored that names the shards. The shards of a previous index are kept.

        Args:
            tensors: Dense and contiguous tensors that share no memory.
            oss_uri: The object, or the directory.
            metadata: Texts to store beside the tensors.
            shard_bytes: Upper limit of the bytes of tensors in one shard; a larger tensor gets a shard of its own.
            progress: Show a bar on standard error.

        Raises:
            OssConfigError: A tensor or a text cannot be stored.
            OssError: The tensors could not be stored; the previous object or index is unchanged.
        """
        _check_tensors(tensors)
        directory = _is_directory(oss_uri)
        total = sum(tensor.nbytes for tensor in tensors.values())
        with progress_bar(oss_uri, total, shown=progress) as advance:
            if not directory:
                self._save(tensors, oss_uri, metadata, advance)
                return
            shards, index = split(tensors, shard_bytes)
            for name, shard in shards.items():
                self._save(shard, oss_uri + name, metadata, advance)
            self._client.put(oss_uri + INDEX_NAME, write_index(index, tensors), content_type="application/json")

    def _save(
        self,
        tensors: Mapping[str, torch.Tensor],
        uri: str,
        metadata: Mapping[str, str] | None,
        advance: Advance,
    ) -> None:
        head, order = write_header(tensors, metadata)
        size = len(head) + sum(tensor.nbytes for tensor in tensors.values())
        with self._client.writer(uri, size_hint=size) as writer:
            writer.write(head)
            for name in order:
                if tensors[name].numel() > 0:
                    writer.write(_bytes_of(tensors[name]))
                    advance(tensors[name].nbytes)


class OssSafeOpen:
    """The tensors of a safetensors object, or of a directory of shards. Each is fetched when you ask for it.

    Threads may share it. It does not pickle, and a forked child opens its own.
    """

    def __init__(self, client: OssClient, uri: str, device: torch.device) -> None:
        """Read the header, or the index.

        Raises:
            OssNotFoundError: The object does not exist.
            OssFormatError: The object is not a safetensors file.
        """
        self._client = client
        self._device = device
        self._owner = Owner()
        self._lock = threading.Lock()
        self._closed = False
        self._shards: dict[str, _Shard] = {}
        self._map: dict[str, str] | None = None
        self._uri = uri
        directory = _is_directory(uri)
        if uri.endswith(".index.json"):
            self._map = read_index(get_bounded(client, uri, LONGEST_INDEX), uri)
        elif directory:
            self._open_directory(uri)
        if self._map is None:
            self._shard(self._uri)

    def _open_directory(self, uri: str) -> None:
        try:
            self._map = read_index(get_bounded(self._client, uri + INDEX_NAME, LONGEST_INDEX), uri + INDEX_NAME)
        except OssNotFoundError:
            self._uri = uri + SINGLE_NAME
            self._open_single(uri)

    def _open_single(self, uri: str) -> None:
        try:
            self._shard(self._uri)
        except OssNotFoundError as error:
            self._uri, is_index = other_object(self._client, uri, error)
            if is_index:
                self._map = read_index(get_bounded(self._client, self._uri, LONGEST_INDEX), self._uri)

    def keys(self) -> list[str]:
        """Return the tensors' names, sorted."""
        return sorted(self._names())

    def offset_keys(self) -> list[str]:
        """Return the tensors' names in the order in which they are stored, shard by shard."""
        if self._map is None:
            return list(self._shard(self._uri).tensors)
        return [name for uri in self._shard_uris() for name in self._shard(uri).tensors if self._map.get(name) == uri]

    def metadata(self) -> dict[str, str]:
        """Return the texts that are stored beside the tensors. If several shards have a text, the first counts."""
        found: dict[str, str] = {}
        for uri in self._shard_uris():
            found = {**self._shard(uri).metadata, **found}
        return found

    def stored_bytes(self, name: str) -> int:
        """Return how many bytes of the object a tensor takes.

        Raises:
            OssKeyError: There is no tensor of that name.
        """
        _, tensor_range = self._find(name)
        return tensor_range.end - tensor_range.start

    def get_tensor(self, name: str) -> torch.Tensor:
        """Return a tensor.

        Raises:
            OssKeyError: There is no tensor of that name.
            OssError: The tensor could not be fetched.
        """
        shard, tensor_range = self._find(name)
        return shard.tensor(
            tensor_range, tensor_range.torch_shape(), tensor_range.start, tensor_range.end, self._device
        )

    def get_slice(self, name: str) -> "OssSlice":
        """Return an object that fetches a part of a tensor: ``get_slice("weight")[10:20]`` fetches these ten rows.

        Raises:
            OssKeyError: There is no tensor of that name.
        """
        return OssSlice(*self._find(name), self._device)

    def close(self) -> None:
        """Close the object. Closing again, or in a forked child, does nothing."""
        if not self._owner.is_this_process():
            return
        with self._lock:
            self._closed = True
            for shard in self._shards.values():
                shard.close()
            self._shards = {}

    def __enter__(self) -> Self:
        """Return the object."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def _names(self) -> list[str]:
        return list(self._shard(self._uri).tensors if self._map is None else self._map)

    def _shard_uris(self) -> list[str]:
        return [self._uri] if self._map is None else sorted(set(self._map.values()))

    def _shard(self, uri: str) -> "_Shard":
        _check_process(self._owner, uri)
        with self._lock:
            if self._closed:
                raise ValueError("I/O operation on closed safetensors object")
            shard = self._shards.get(uri)
            if shard is None:
                shard = self._shards[uri] = _Shard(self._client, uri)
            return shard

    def _find(self, name: str) -> "tuple[_Shard, TensorRange]":
        uri = self._uri if self._map is None else self._map.get(name)
        tensor_range = None if uri is None else self._shard(uri).tensors.get(name)
        if uri is not None and tensor_range is not None:
            return self._shard(uri), tensor_range
        if uri is not None and self._map is not None:
            raise OssFormatError(f"{uri} has no tensor {name!r}, but the index of {self._uri} says that it has")
        raise OssKeyError(f"{self._uri} has no tensor {name!r}")


class OssSlice:
    """Fetches parts of a tensor: index it as you index the tensor.

    Only the rows that the leading whole numbers and the first slice select are fetched. The rest of the index is
    applied to the fetched rows.
    """

    def __init__(self, shard: "_Shard", tensor_range: TensorRange, device: torch.device) -> None:
        """Fetch nothing yet."""
        self._shard = shard
        self._range = tensor_range
        self._device = device

    def get_shape(self) -> list[int]:
        """Return the tensor's shape."""
        return list(self._range.shape)

    def get_dtype(self) -> str:
        """Return the name of the tensor's type in the format, such as ``"BF16"``."""
        return self._range.dtype

    def __getitem__(self, index: Index) -> torch.Tensor:
        """Return what a tensor returns for the index.

        Raises:
            IndexError: The index is out of bounds.
            OssError: The rows could not be fetched.
        """
        shape = self._range.torch_shape()
        rest = list(index) if isinstance(index, tuple) else [index]
        start, length = self._range.start, self._range.end - self._range.start
        while rest and shape and _is_whole_number(rest[0]):
            at, rows = int(rest.pop(0)), shape[0]  # type: ignore[arg-type]
            if not -rows <= at < rows:
                raise IndexError(f"index {at} is out of bounds for dimension with size {rows}")
            length //= rows
            start += (at % rows) * length
            shape = shape[1:]
        if rest and shape and isinstance(rest[0], slice) and shape[0] > 0:
            chosen = range(*rest[0].indices(shape[0]))
            if chosen.step < 1:
                raise ValueError("step must be greater than zero")
            each = length // shape[0]
            first, count = (chosen[0], chosen[-1] + 1 - chosen[0]) if chosen else (0, 0)
            start, length = start + first * each, count * each
            shape = (count, *shape[1:])
            rest[0] = slice(None, None, chosen.step)
        whole = self._shard.tensor(self._range, shape, start, start + length, torch.device("cpu"))
        selected = whole[tuple(rest)] if rest else whole
        # A copy, unless it is all of the fetched memory: a small selection must not keep large memory alive.
        if selected.numel() != whole.numel():
            selected = selected.clone()
        return selected.to(self._device)


class _Shard:
    """One object: its header, and its bytes."""

    def __init__(self, client: OssClient, uri: str) -> None:
        self._file = client.reader(uri)
        self._owner = Owner()
        self._lock = threading.Lock()
        size = self._file.size
        head = self._file.read(LENGTH_BYTES)
        head += self._file.read(length_in(head, size))
        header = read_header(head, size, self._file.uri)
        self.tensors = header.tensors
        self.metadata = header.metadata

    def tensor(
        self, tensor_range: TensorRange, shape: tuple[int, ...], start: int, end: int, device: torch.device
    ) -> torch.Tensor:
        """Fetch bytes straight into the memory of a new tensor."""
        _check_process(self._owner, self._file.uri)
        dtype = tensor_range.torch_dtype()
        if start == end:
            return torch.empty(shape, dtype=dtype, device=device)
        memory = torch.empty(end - start, dtype=torch.uint8)
        view: Any = memory.numpy()
        # No other thread may move the position before the read.
        with self._lock:
            self._file.seek(start)
            while view.nbytes > 0:
                count = self._file.readinto(view)
                if count == 0:
                    raise OssFormatError(f"{self._file.uri} ends inside a tensor")
                view = view[count:]
        return memory.view(dtype).reshape(shape).to(device)

    def close(self) -> None:
        """Close the object."""
        self._file.close()


def _check_process(owner: Owner, uri: str) -> None:
    # Checked before a lock is taken: a thread that held it at the fork does not exist here and never releases it.
    if not owner.is_this_process():
        raise OssError(f"{uri} was opened in process {owner.pid}, not in {os.getpid()}: open it in this one")


def _device(device: Device) -> torch.device:
    try:
        return torch.device(device)
    except (TypeError, RuntimeError) as error:
        raise OssConfigError(f"device must be a torch device such as 'cpu' or 'cuda:0', got {device!r}") from error


def _is_directory(uri: str) -> bool:
    split_prefix(uri)
    return uri.endswith("/")


def _is_whole_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_tensors(tensors: Mapping[str, torch.Tensor]) -> None:
    if not isinstance(tensors, Mapping):
        raise OssConfigError(f"tensors must be a dictionary of tensors, got {type(tensors).__name__}")
    areas = []
    for name, tensor in tensors.items():
        if not isinstance(tensor, torch.Tensor):
            raise OssConfigError(f"{name!r} must be a tensor, got {type(tensor).__name__}")
        if tensor.layout != torch.strided:
            raise OssConfigError(f"tensor {name!r} is sparse: call to_dense()")
        if tensor.device.type == "meta":
            raise OssConfigError(f"tensor {name!r} is on the device meta: it has no values")
        if not tensor.is_contiguous():
            raise OssConfigError(f"tensor {name!r} is not contiguous: call contiguous()")
        length = tensor.numel() * tensor.element_size()
        if length > 0:
            areas.append((str(tensor.device), tensor.data_ptr(), tensor.data_ptr() + length, name))
    areas.sort(key=lambda area: area[:3])
    for one, next_one in itertools.pairwise(areas):
        if one[0] == next_one[0] and next_one[1] < one[2]:
            raise OssConfigError(
                f"tensors {one[3]!r} and {next_one[3]!r} share memory: it would be stored twice, and they would not "
                "share memory when loaded; leave one of them out, or clone() it"
            )


def _bytes_of(tensor: torch.Tensor) -> Any:  # noqa: ANN401 - a buffer, but numpy's types do not say so
    plain = tensor.detach().cpu().resolve_conj().resolve_neg()
    # A tensor of one value is contiguous with any stride, but view() as bytes accepts only this one.
    return plain.as_strided((plain.numel(),), (1,)).view(torch.uint8).numpy()
