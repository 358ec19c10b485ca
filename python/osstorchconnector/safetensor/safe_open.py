"""An opened safetensors object or directory of shards, whose tensors are fetched when they are asked for."""

import itertools
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from types import EllipsisType
from typing import Any, Final

import torch

from osstorchconnector._closing import Closing
from osstorchconnector.connection.client import OssClient, get_bounded
from osstorchconnector.connection.uri import split_prefix
from osstorchconnector.credentials.shield import guards_methods
from osstorchconnector.exceptions import OssConfigError, OssFormatError, OssKeyError, OssNotFoundError
from osstorchconnector.process.owner import Owner
from osstorchconnector.safetensor.frameworks import Device, Framework, framework_of
from osstorchconnector.safetensor.header import LENGTH_BYTES, TensorRange, length_in, read_header
from osstorchconnector.safetensor.shards import INDEX_NAME, LONGEST_INDEX, SINGLE_NAME, other_object, read_index

_Index = int | slice | EllipsisType | torch.Tensor | list[Any] | None
Index = _Index | tuple[_Index, ...]

# A header needs two or three short requests, whose latency adds up over a hundred shards.
_HEADERS_AT_A_TIME: Final = 16
# While one batch is finished, others are received. A device needs as much main memory as these batches have.
_BATCHES_AT_A_TIME: Final = 4
_BATCH: Final = 128 << 20


@guards_methods
class OssSafeOpen(Closing):
    """The tensors of a safetensors object, or of a directory of shards. Each is fetched when you ask for it.

    Threads may share it. It does not pickle, and a forked child opens its own.
    """

    def __init__(self, client: OssClient, uri: str, device: Device, framework: str = "pt") -> None:
        """Read the header, or the index.

        Args:
            client: Reads the objects.
            uri: The object, or the directory with its ``/``.
            device: The device that the tensors go to.
            framework: ``"pt"`` or ``"np"``.

        Raises:
            OssConfigError: The device or the framework does not exist.
            OssNotFoundError: The object does not exist.
            OssFormatError: The object is not a safetensors file.
        """
        self._client = client
        self._device, self._framework_name = device, framework
        self._framework = framework_of(framework, device)
        self._owner = Owner()
        self._lock = threading.Lock()
        self._closed = False
        self._shards: dict[str, _Shard] = {}
        self._map: dict[str, str] | None = None
        self._uri = uri
        directory = is_directory(uri)
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
        """Return the tensors' names in the order in which they are stored, shard by shard.

        Raises:
            OssFormatError: A shard lacks a tensor that the index says it has.
        """
        if self._map is None:
            return list(self._shard(self._uri).tensors)
        found = [name for uri, shard in self._all_shards() for name in shard.tensors if self._map.get(name) == uri]
        if len(found) < len(self._map):
            # Else a part of a model could be taken for all of it.
            self._find(min(self._map.keys() - set(found)))
        return found

    def metadata(self) -> dict[str, str]:
        """Return the texts that are stored beside the tensors. If several shards have a text, the first counts."""
        found: dict[str, str] = {}
        for _, shard in self._all_shards():
            found = {**shard.metadata, **found}
        return found

    def stored_bytes(self, name: str) -> int:
        """Return how many bytes of the object a tensor takes.

        Raises:
            OssKeyError: There is no tensor of that name.
        """
        _, place = self._find(name)
        return place.end - place.start

    def range_of(self, name: str) -> TensorRange:
        """Return type, shape and bytes of a tensor.

        Raises:
            OssKeyError: There is no tensor of that name.
        """
        return self._find(name)[1]

    def get_tensor(self, name: str) -> Any:  # noqa: ANN401 - of torch or numpy
        """Return a tensor.

        Raises:
            OssKeyError: There is no tensor of that name.
            OssFormatError: The framework has no such type.
            OssError: The tensor could not be fetched.
        """
        shard, place = self._find(name)
        return self._framework.placed(shard.tensor(self._framework, place))

    def get_tensors(
        self, names: Iterable[str] | None = None, *, progress: Callable[[int], object] | None = None
    ) -> dict[str, Any]:
        """Return tensors by name, all of which are fetched at the same time, also from several shards.

        Args:
            names: Their names. Default: all of them, in the order in which they are stored.
            progress: Called in this thread with the number of bytes that arrived since the last call.

        Raises:
            OssKeyError: There is no tensor of one of these names; nothing was fetched.
            OssFormatError: The framework has no such type; nothing was fetched.
            OssError: A tensor could not be fetched, or bytes do not have the checksum that OSS stores.
        """
        if isinstance(names, str):
            raise OssConfigError(f"names must be several names, got {names!r}: write [{names!r}]")
        order = list(dict.fromkeys(self.offset_keys() if names is None else names))
        if self._map is not None:
            self._open_shards({uri for name in order if (uri := self._map.get(name)) is not None})
        places = {name: self._find(name) for name in order}
        for _, place in places.values():
            self._framework.check(place)
        loaded: dict[str, Any] = dict.fromkeys(order)
        threads = ThreadPoolExecutor(_BATCHES_AT_A_TIME, thread_name_prefix="osst-safetensors")
        try:
            running = [threads.submit(self._fetch_batch, *batch) for batch in _batches(places)]
            for done in as_completed(running):
                for name, tensor in done.result().items():
                    loaded[name] = tensor
                    if progress is not None:
                        progress(places[name][1].end - places[name][1].start)
        finally:
            threads.shutdown(cancel_futures=True)
        return loaded

    def _fetch_batch(self, shard: "_Shard", places: dict[str, TensorRange]) -> dict[str, Any]:
        tensors = shard.tensors_at(self._framework, list(places.values()))
        return {name: self._framework.placed(tensor) for name, tensor in zip(places, tensors, strict=True)}

    def get_slice(self, name: str) -> "OssSlice":
        """Return an object that fetches a part of a tensor: ``get_slice("weight")[10:20]`` fetches these ten rows.

        Raises:
            OssKeyError: There is no tensor of that name.
        """
        return OssSlice(*self._find(name), self._device, self._framework_name)

    def close(self) -> None:
        """Close the object. Closing again, or in a forked child, does nothing."""
        if not self._owner.is_this_process():
            return
        with self._lock:
            self._closed = True
            for shard in self._shards.values():
                shard.close()
            self._shards = {}

    def _names(self) -> list[str]:
        return list(self._shard(self._uri).tensors if self._map is None else self._map)

    def _all_shards(self) -> "Iterator[tuple[str, _Shard]]":
        uris = [self._uri] if self._map is None else sorted(set(self._map.values()))
        self._open_shards(uris)
        return ((uri, self._shard(uri)) for uri in uris)

    def _open_shards(self, uris: Iterable[str]) -> None:
        """Read the headers of shards, several at a time."""
        self._owner.check(self._uri)
        with self._lock:
            missing = sorted(set(uris) - self._shards.keys())
        if len(missing) > 1:
            with ThreadPoolExecutor(_HEADERS_AT_A_TIME, thread_name_prefix="osst-headers") as threads:
                for _ in threads.map(self._shard, missing):
                    pass

    def _shard(self, uri: str) -> "_Shard":
        self._owner.check(uri)
        with self._lock:
            shard = self._known(uri)
        if shard is None:
            # Without the lock, since others may be opened meanwhile.
            opened = _Shard(self._client, uri)
            try:
                with self._lock:
                    shard = self._known(uri) or self._shards.setdefault(uri, opened)
            finally:
                # Another thread has opened it, or closed all, meanwhile.
                if shard is not opened:
                    opened.close()
        return shard

    def _known(self, uri: str) -> "_Shard | None":
        if self._closed:
            raise ValueError("I/O operation on closed safetensors object")
        return self._shards.get(uri)

    def _find(self, name: str) -> "tuple[_Shard, TensorRange]":
        uri = self._uri if self._map is None else self._map.get(name)
        place = None if uri is None else self._shard(uri).tensors.get(name)
        if uri is not None and place is not None:
            return self._shard(uri), place
        if uri is not None and self._map is not None:
            raise OssFormatError(f"{uri} has no tensor {name!r}, but the index of {self._uri} says that it has")
        raise OssKeyError(f"{self._uri} has no tensor {name!r}")


class OssSlice:
    """Fetches parts of a tensor: index it as you index the tensor.

    Only the rows that the leading whole numbers and the first slice select are fetched. The rest of the index is
    applied to the fetched rows.
    """

    def __init__(self, shard: "_Shard", tensor_range: TensorRange, device: Device, framework: str = "pt") -> None:
        """Fetch nothing yet."""
        self._shard = shard
        self._range = tensor_range
        self._framework = framework_of(framework, device)

    def get_shape(self) -> list[int]:
        """Return the tensor's shape."""
        return list(self._range.shape)

    def get_dtype(self) -> str:
        """Return the name of the tensor's type in the format, such as ``"BF16"``."""
        return self._range.dtype

    def __getitem__(self, index: Index) -> Any:  # noqa: ANN401 - of torch or numpy
        """Return what a tensor returns for the index.

        Raises:
            IndexError: The index is out of bounds.
            OssError: The rows could not be fetched.
        """
        shape = self._framework.shape(self._range)
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
        whole = self._shard.part(self._framework, self._range, shape, start, start + length)
        selected = whole[tuple(rest)] if rest else whole
        # A small selection must not keep large memory alive.
        return self._framework.placed(self._framework.separate(selected, whole))


class _Shard:
    """One object: its header, and its bytes."""

    def __init__(self, client: OssClient, uri: str) -> None:
        self.uri = uri
        self._file = client.reader(uri)
        self._owner = Owner()
        self._lock = threading.Lock()
        try:
            size = self._file.size
            head = self._file.read(LENGTH_BYTES)
            head += self._file.read(length_in(head, size))
            header = read_header(head, size, self._file.uri)
        except BaseException:
            self._file.close()
            raise
        self.tensors = header.tensors
        self.metadata = header.metadata

    def tensor(self, framework: Framework, place: TensorRange) -> Any:  # noqa: ANN401 - of the framework
        """Fetch a whole tensor."""
        return self.part(framework, place, framework.shape(place), place.start, place.end)

    def part(self, framework: Framework, place: TensorRange, shape: tuple[int, ...], start: int, end: int) -> Any:  # noqa: ANN401 - of the framework
        """Fetch bytes of a tensor straight into the memory of a new one."""
        self._owner.check(self._file.uri)
        framework.check(place)
        memory = torch.empty(end - start, dtype=torch.uint8)
        view: Any = memory.numpy()
        # No other thread may move the position before the read.
        with self._lock:
            if start < end:
                self._file.seek(start)
            while view.nbytes > 0:
                count = self._file.readinto(view)
                if count == 0:
                    raise OssFormatError(f"{self._file.uri} ends inside a tensor")
                view = view[count:]
        return framework.tensor(memory, place, shape)

    def tensors_at(self, framework: Framework, places: list[TensorRange]) -> list[Any]:
        """Fetch several whole tensors at the same time. Several threads may call this."""
        self._owner.check(self._file.uri)
        memories = [torch.empty(place.end - place.start, dtype=torch.uint8) for place in places]
        views: list[tuple[int, Any]] = [
            (place.start, memory.numpy()) for place, memory in zip(places, memories, strict=True) if memory.numel()
        ]
        self._file.readinto_many(views, concurrent=True)
        return [
            framework.tensor(memory, place, framework.shape(place))
            for place, memory in zip(places, memories, strict=True)
        ]

    def close(self) -> None:
        """Close the object."""
        self._file.close()


def is_directory(uri: str) -> bool:
    """Return whether a URI is one of a directory.

    Raises:
        OssConfigError: It is no URI.
    """
    split_prefix(uri)
    return uri.endswith("/")


def _batches(places: dict[str, tuple[_Shard, TensorRange]]) -> Iterator[tuple[_Shard, dict[str, TensorRange]]]:
    """Divide tensors, shard by shard and in the order of their bytes, into batches to fetch at once."""
    ordered = sorted(places.items(), key=lambda item: (item[1][0].uri, item[1][1].start))
    for _, group in itertools.groupby(ordered, key=lambda item: item[1][0].uri):
        batch: dict[str, TensorRange] = {}
        filled = 0
        for name, (shard, place) in group:
            length = place.end - place.start
            if batch and filled + length > _BATCH:
                yield shard, batch
                batch, filled = {}, 0
            batch[name] = place
            filled += length
        yield shard, batch


def _is_whole_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
