"""Loading a part of a file that ``torch.save`` wrote: its directory, its pickle, and only the tensors asked for."""

import ctypes
import gc
import io
import pickle
import re
import sys
import weakref
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from fnmatch import translate
from itertools import islice, takewhile
from typing import Any, Final

import torch
from torch.serialization import StorageType, default_restore_location

from osstorchconnector._native import OssReader
from osstorchconnector._torch.serialization import (
    WeightsOnlyUnpickler,
    is_wrapper,
    sparse_coo_parts,
    sparse_tensors_to_validate,
    typed_storage,
    untyped_storage,
    validate_sparse_tensors,
)
from osstorchconnector.checkpoint.records import Records
from osstorchconnector.exceptions import OssConfigError, OssIntegrityError

MapLocation = str | torch.device | Mapping[str, str] | Callable[[torch.UntypedStorage, str], Any] | None

# torch gives no types for them.
_UntypedStorage: Final[Any] = torch.UntypedStorage
_StorageType: Final[Any] = StorageType
_restore_location: Final[Any] = default_restore_location

# What may stand for other characters in a pattern.
_WILDCARD: Final = re.compile(r"[*?[]")

# How many names a message shows.
_NAMES_SHOWN: Final = 5


def load_partial(
    reader: OssReader,
    keys: str | Iterable[str],
    map_location: MapLocation = None,
    *,
    reopen: Callable[[], OssReader],
    weights_only: bool = True,
) -> dict[Any, Any]:
    """Load some entries of a dictionary that ``torch.save`` wrote, and fetch little more than their bytes.

    Tensors that shared memory share it again. Each record of the file that is fetched is compared with its checksum.

    Args:
        reader: The open object.
        keys: Patterns of dotted names, in which ``*`` stands for any characters: ``"encoder.*"`` matches the entry
            ``"encoder.weight"``, and the entry ``"weight"`` of a dictionary at ``"encoder"``. If a name matches, all
            entries below it are loaded too.
        map_location: Where tensors go, as for ``torch.load``.
        reopen: Opens the object once more, to fetch damaged records again.
        weights_only: Refuse what ``torch.load(weights_only=True)`` refuses. False runs the code in the pickle, perhaps
            twice.

    Returns:
        The dictionary with the entries that match, nested as they were.

    Raises:
        OssConfigError: The file was not written by ``torch.save``, holds no dictionary, or a pattern matches nothing.
        OssIntegrityError: The bytes are not those that were stored, or the file contradicts itself.
        pickle.UnpicklingError: The file holds more than weights.
    """
    with _without_collections():
        return _load_partial(reader, patterns_of(keys), map_location, reopen=reopen, weights_only=weights_only)


def described(reader: OssReader, reopen: Callable[[], OssReader]) -> Any:  # noqa: ANN401 - whatever was saved
    """Return what ``torch.save`` wrote, with tensors that have no bytes; their storages have a ``storage_key``.

    Raises:
        OssConfigError: The file was not written by ``torch.save``, or holds a tensor that needs its bytes to be made.
        OssIntegrityError: The bytes are not those that were stored, or the file contradicts itself.
        pickle.UnpicklingError: The file holds more than weights.
    """
    return _Archive(reader, reopen).describe(weights_only=True)[0]


def _load_partial(
    reader: OssReader,
    patterns: list[str],
    map_location: MapLocation,
    *,
    reopen: Callable[[], OssReader],
    weights_only: bool,
) -> dict[Any, Any]:
    archive = _Archive(reader, reopen)
    described, storages = archive.describe(weights_only=weights_only)
    names = _matching(reader.uri, patterns, _dictionary(reader.uri, described))
    selected = _select(described, names)
    finder = _Finder()
    chosen = storages_in(selected, finder)
    if chosen is not None and finder.only_plain:
        archive.fill(finder.found, {key: storages[key] for key in chosen}, map_location)
        return selected
    loaded = archive.load(
        {key: storages[key] for key in storages if chosen is None or key in chosen},
        map_location,
        weights_only=weights_only,
    )
    return _select(loaded, names)


@contextmanager
def _without_collections() -> Iterator[None]:
    """Pause the garbage collector, which would look at a growing number of tensors again and again.

    They take a sixth of the time for 60,000 tensors, and none of them is garbage.
    """
    paused = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if paused:
            gc.enable()


class _Archive:
    """What ``torch.save`` writes."""

    def __init__(self, reader: OssReader, reopen: Callable[[], OssReader]) -> None:
        self._uri = reader.uri
        self._size = reader.size
        self._records = Records(reader, reopen)
        small = self._records.read(["data.pkl", ".storage_alignment", "byteorder"])
        self._pickle = small["data.pkl"]
        unknown = self._records.unknown_name()
        if "byteorder" not in small and unknown is not None:
            # An older torch wrote neither. Without this check, bytes in the other order would be taken as they are.
            raise OssIntegrityError(
                f"{reader.uri} states no byte order, but has a record {unknown!r}, which torch does not write: the "
                "directory in it is damaged"
            )
        byteorder = small.get("byteorder", sys.byteorder.encode()).decode(errors="replace")
        if byteorder not in {"little", "big"}:
            raise OssIntegrityError(f"{reader.uri} states the byte order {byteorder!r}: little or big is needed")
        self._swap = byteorder != sys.byteorder
        self._locations: dict[str, str] = {}

    def describe(self, *, weights_only: bool) -> tuple[Any, dict[str, tuple[torch.dtype, int]]]:
        """Return the file's content with tensors that have no bytes, and type and size of each storage by its key."""
        storages: dict[str, tuple[torch.dtype, int]] = {}

        def make(dtype: torch.dtype, nbytes: int, key: str, location: str) -> torch.UntypedStorage:
            storages[key] = (dtype, nbytes)
            self._locations[key] = location
            storage: torch.UntypedStorage = _UntypedStorage(nbytes, device="meta")
            name_storage(storage, key)
            return storage

        try:
            described = self._unpickle(make, weights_only=weights_only)
        except NotImplementedError as error:
            raise OssConfigError(
                f"{self._uri} cannot be loaded in part, because it holds a tensor, such as a nested or a "
                "quantized one, that needs all its bytes to be made: load it without keys"
            ) from error
        # torch validates them when a load ends; these have no bytes to validate yet.
        sparse_tensors_to_validate().clear()
        return described, storages

    def fill(
        self,
        tensors: Iterable[torch.Tensor],
        chosen: Mapping[str, tuple[torch.dtype, int]],
        map_location: MapLocation,
    ) -> None:
        """Give plain tensors of :meth:`describe` their bytes, wherever objects hold them.

        Unpickling once more would take as long as the load of the whole file, if its tensors are small.
        """
        restore = _restoring(map_location)
        placed = {key: restore(storage, self._locations[key]) for key, storage in self._fetch(chosen).items()}
        for tensor in tensors:
            storage: Any = placed[getattr(tensor.untyped_storage(), "storage_key")]  # noqa: B009 - for mypy
            filled = torch.empty(0, dtype=tensor.dtype, device=storage.device)
            filled.set_(storage, tensor.storage_offset(), tensor.size(), tensor.stride())
            if isinstance(tensor, torch.nn.Parameter):
                filled = torch.nn.Parameter(filled, tensor.requires_grad)
            elif tensor.requires_grad:
                filled.requires_grad_()
            if tensor.__dict__:
                filled.__dict__.update(tensor.__dict__)
            torch.utils.swap_tensors(tensor, filled)  # type: ignore[no-untyped-call]

    def load(
        self, chosen: Mapping[str, tuple[torch.dtype, int]], map_location: MapLocation, *, weights_only: bool
    ) -> Any:  # noqa: ANN401
        """Return the file's content, in which only tensors in these storages have bytes."""
        filled = self._fetch(chosen)
        restore = _restoring(map_location)

        def make(_dtype: torch.dtype, nbytes: int, key: str, location: str) -> Any:  # noqa: ANN401
            if key not in filled:
                return _UntypedStorage(nbytes, device="meta")
            return restore(filled[key], location)

        loaded = self._unpickle(make, weights_only=weights_only)
        sparse = sparse_tensors_to_validate()
        sparse[:] = [tensor for tensor in sparse if tensor.device.type != "meta"]
        validate_sparse_tensors(weights_only=weights_only)
        return loaded

    def _unpickle(self, make: Callable[[torch.dtype, int, str, str], Any], *, weights_only: bool) -> Any:  # noqa: ANN401
        made: dict[tuple[str, torch.dtype], torch.storage.TypedStorage] = {}

        def persistent_load(saved: tuple[Any, ...]) -> torch.storage.TypedStorage:
            kind, storage_type, key, location, numel = saved
            if _text(kind) != "storage":
                raise pickle.UnpicklingError(f"{self._uri} refers to an unknown kind of data, {kind!r}")
            dtype = torch.uint8 if storage_type is torch.UntypedStorage else storage_type.dtype
            name = (_text(key), dtype)
            if name not in made:
                nbytes = numel * dtype.itemsize
                storage = make(dtype, nbytes, name[0], _text(location))
                made[name] = typed_storage(storage, dtype)
            return made[name]

        unpickler: Any = (WeightsOnlyUnpickler if weights_only else _AnyUnpickler)(
            io.BytesIO(self._pickle), encoding="utf-8"
        )
        unpickler.persistent_load = persistent_load
        return unpickler.load()

    def _fetch(self, chosen: Mapping[str, tuple[torch.dtype, int]]) -> dict[str, torch.UntypedStorage]:
        filled = {}
        wanted = {}
        for key, (_, nbytes) in chosen.items():
            size = self._records.size(f"data/{key}")
            # torch writes no bytes for a tensor that had none, such as one of the device meta.
            if size is None or size not in {0, nbytes}:
                raise OssIntegrityError(f"{self._uri} does not hold the {nbytes} bytes of its storage {key}")
            if size > self._size or nbytes < 0:
                raise OssIntegrityError(f"{self._uri} states {nbytes} bytes for its storage {key}: it has fewer")
            filled[key] = _UntypedStorage(nbytes)
            if size:
                wanted[f"data/{key}"] = _memory(filled[key])
        self._records.receive(wanted)
        if self._swap:
            for name in wanted:
                key = name.removeprefix("data/")
                swapped: Any = filled[key]
                swapped.byteswap(chosen[key][0])
        return filled


class _AnyUnpickler(pickle.Unpickler):
    """The unpickler of ``torch.load(weights_only=False)``."""

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401
        if "Storage" in name:
            try:
                return _StorageType(name)
            except KeyError:
                pass
        return super().find_class("torch._tensor" if module == "torch.tensor" else module, name)


def _memory(storage: torch.UntypedStorage) -> Any:  # noqa: ANN401
    return memoryview((ctypes.c_char * storage.nbytes()).from_address(storage.data_ptr())).cast("B")


def _text(value: str | bytes) -> str:
    return value.decode("ascii") if isinstance(value, bytes) else value


def _restoring(map_location: MapLocation) -> Callable[[torch.UntypedStorage, str], Any]:
    """Return a function that moves a storage where ``torch.load`` would."""

    def restore(storage: torch.UntypedStorage, location: str) -> Any:  # noqa: ANN401
        if callable(map_location):
            placed = map_location(storage, location)
            return _restore_location(storage, location) if placed is None else placed
        if isinstance(map_location, Mapping):
            return _restore_location(storage, map_location.get(location, location))
        return _restore_location(storage, location if map_location is None else str(map_location))

    return restore


def matches_all(patterns: list[str]) -> bool:
    """Return whether one of them matches every name."""
    return any(pattern and not pattern.strip("*") for pattern in patterns)


def all_entries(uri: str, loaded: object, patterns: list[str]) -> dict[Any, Any]:
    """Return what a load of the whole file returned, as patterns of which one matches every name select it.

    Raises:
        OssConfigError: It is no dictionary, or another pattern matches nothing.
    """
    content = _dictionary(uri, loaded)
    return _select(content, _matching(uri, patterns, content))


def _dictionary(uri: str, content: object) -> Mapping[Any, Any]:
    if not isinstance(content, Mapping):
        raise OssConfigError(f"{uri} holds a {type(content).__name__}, not a dictionary: load it without keys")
    return content


def patterns_of(keys: str | Iterable[str]) -> list[str]:
    """Return the patterns in the argument `keys`.

    Raises:
        OssConfigError: It holds something else.
    """
    given: Any = [keys] if isinstance(keys, str) else keys
    patterns = list(given) if isinstance(given, Iterable) else [given]
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise OssConfigError(f"keys must be a pattern or several, got {keys!r}: give it like 'encoder.*'")
    return patterns


def _names(node: Mapping[Any, Any], above: str = "") -> Iterator[str]:
    for key, value in node.items():
        name = f"{above}{key}"
        yield name
        if isinstance(value, Mapping):
            yield from _names(value, f"{name}.")


def _matching(uri: str, patterns: list[str], described: Mapping[Any, Any]) -> AbstractSet[str]:
    """Return the names that match a pattern.

    There may be as many patterns as names: each pattern looks only at the names that begin as it does.

    Raises:
        OssConfigError: A pattern matches nothing.
    """
    names = list(_names(described))
    exact, ordered = set(names), sorted(names)
    matching: set[str] = set()
    for pattern in patterns:
        start = _WILDCARD.split(pattern, maxsplit=1)[0]
        if start == pattern:
            found = {pattern} & exact
        else:
            candidates = islice(ordered, bisect_left(ordered, start), None)
            matches = re.compile(translate(pattern)).match
            found = {name for name in takewhile(lambda name: name.startswith(start), candidates) if matches(name)}  # noqa: B023
        if not found:
            shown = ", ".join(map(repr, names[:_NAMES_SHOWN])) + (", ..." if len(names) > _NAMES_SHOWN else "")
            raise OssConfigError(f"nothing in {uri} matches {pattern!r}; it holds {shown or 'nothing'}")
        matching |= found
    return matching


def _select(node: Mapping[Any, Any], names: AbstractSet[str], above: str = "") -> dict[Any, Any]:
    """Return the entries of these names, inside the dictionaries that hold them."""
    selected: dict[Any, Any] = {}
    for key, value in node.items():
        name = f"{above}{key}"
        if name in names:
            selected[key] = value
        elif isinstance(value, Mapping) and (below := _select(value, names, f"{name}.")):
            selected[key] = below
    return selected


def name_storage(storage: torch.UntypedStorage, key: str) -> None:
    """Attach its key in the file to a storage of the device meta."""
    storage.storage_key = key  # type: ignore[attr-defined]


def storages_in(value: object, finder: "_Finder") -> set[str] | None:
    """Return the keys of the storages behind all tensors in a value, however deep its objects hold them.

    None means that the keys are unknown, and any storage may be needed: an object refuses to be pickled, or a tensor
    was computed from others.
    """
    try:
        finder.dump(value)
        while finder.tensors:
            _search(finder.tensors.pop(), finder)
    except Exception:  # noqa: BLE001 - objects may raise anything, and the answer is None then
        return None
    return None if None in finder.keys else {key for key in finder.keys if key is not None}


class _Finder(pickle.Pickler):
    """Notes the tensors and storages in a value. It walks as pickle does, since the value came from a pickle."""

    def __init__(self) -> None:
        super().__init__(_Nowhere())
        self.keys: set[str | None] = set()
        self.tensors: list[torch.Tensor] = []
        self._seen: dict[int, torch.Tensor] = {}
        #: Whether all that has bytes is a tensor with memory of its own, which can be given its bytes in its place.
        self.only_plain = True

    @property
    def found(self) -> Iterable[torch.Tensor]:
        """All tensors."""
        return self._seen.values()

    def persistent_id(self, value: object) -> str | None:
        if isinstance(value, torch.Tensor):
            if id(value) not in self._seen:
                self._seen[id(value)] = value
                plain = _is_plain(value)
                self.only_plain = self.only_plain and plain
                if plain and not value.__dict__:
                    self.note(value.untyped_storage())
                else:
                    self.tensors.append(value)
        elif isinstance(value, torch.storage.TypedStorage):
            self.only_plain = False
            self.note(untyped_storage(value))
        elif isinstance(value, torch.UntypedStorage):
            self.only_plain = False
            self.note(value)
        else:
            return None
        return "noted"

    def note(self, storage: torch.UntypedStorage) -> None:
        if storage.device.type == "meta":
            self.keys.add(getattr(storage, "storage_key", None))


class _Nowhere:
    """A file that drops the bytes written to it."""

    def write(self, data: Any, /) -> int:  # noqa: ANN401 - any buffer
        return memoryview(data).nbytes


def _search(tensor: torch.Tensor, finder: _Finder) -> None:
    finder.dump(tensor.__dict__)
    wrapper: Any = tensor
    if is_wrapper(wrapper):
        # Such as a DTensor, which has no memory itself.
        for name in wrapper.__tensor_flatten__()[0]:
            finder.dump(getattr(wrapper, name))
        return
    for dense in _dense_tensors(tensor):
        finder.note(dense.untyped_storage())


def _is_plain(tensor: torch.Tensor) -> bool:
    return (
        type(tensor) in {torch.Tensor, torch.nn.Parameter}
        and tensor.layout == torch.strided
        and tensor.device.type == "meta"
        and not tensor.is_conj()
        and not tensor.is_neg()
        and hasattr(tensor.untyped_storage(), "storage_key")
        and not weakref.getweakrefcount(tensor)
    )


def _dense_tensors(tensor: torch.Tensor) -> tuple[torch.Tensor, ...]:
    if tensor.layout == torch.strided:
        return (tensor,)
    if tensor.layout == torch.sparse_coo:
        return sparse_coo_parts(tensor)
    if tensor.layout in {torch.sparse_csr, torch.sparse_bsr}:
        return tensor.crow_indices(), tensor.col_indices(), tensor.values()
    return tensor.ccol_indices(), tensor.row_indices(), tensor.values()
