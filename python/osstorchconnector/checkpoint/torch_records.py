"""Which records of a file that ``torch.save`` wrote the tensors in a value take their bytes from."""

# ruff: noqa: SLF001 - the public ways to the same warn, or refuse what was not coalesced
import pickle
from typing import Any, Final

import torch
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

# torch leaves its types out.
_TypedStorage: Final[Any] = torch.storage.TypedStorage
# It says of a tensor that it is a type which no tensor can be.
_is_wrapper: Final[Any] = is_traceable_wrapper_subclass


def name_record(storage: torch.UntypedStorage, key: str) -> None:
    """Remember with a storage of the device meta which record its bytes are in."""
    storage.record_key = key  # type: ignore[attr-defined]


def records_in(value: object) -> set[str] | None:
    """Return the keys of the records behind all tensors and storages in a value, wherever its objects hold them.

    None means that it cannot be told, and any record may be needed: an object refuses to be pickled, or a tensor was
    computed from others.
    """
    finder = _Finder()
    try:
        finder.dump(value)
        while finder.tensors:
            _look_into(finder.tensors.pop(), finder)
    except Exception:  # noqa: BLE001 - objects raise what they like, and None is the answer to all of it
        return None
    return None if None in finder.keys else {key for key in finder.keys if key is not None}


class _Finder(pickle.Pickler):
    """Goes through a value as pickle does, which came from a pickle, and notes the tensors and storages."""

    def __init__(self) -> None:
        super().__init__(_Nowhere())
        self.keys: set[str | None] = set()
        self.tensors: list[torch.Tensor] = []
        self._seen: dict[int, torch.Tensor] = {}

    def persistent_id(self, value: object) -> str | None:
        if isinstance(value, torch.Tensor):
            if id(value) not in self._seen:
                self._seen[id(value)] = value
                self.tensors.append(value)
        elif isinstance(value, _TypedStorage):
            self.note(value._untyped_storage)
        elif isinstance(value, torch.UntypedStorage):
            self.note(value)
        else:
            return None
        return "noted"

    def note(self, storage: torch.UntypedStorage) -> None:
        if storage.device.type == "meta":
            self.keys.add(getattr(storage, "record_key", None))


class _Nowhere:
    """A file that forgets what is written to it."""

    def write(self, data: Any, /) -> int:  # noqa: ANN401 - any buffer
        return memoryview(data).nbytes


def _look_into(tensor: torch.Tensor, finder: _Finder) -> None:
    finder.dump(tensor.__dict__)
    wrapper: Any = tensor
    if _is_wrapper(wrapper):
        # Such as a DTensor, which has no memory itself.
        for name in wrapper.__tensor_flatten__()[0]:
            finder.dump(getattr(wrapper, name))
        return
    for part in _parts(tensor):
        finder.note(part.untyped_storage())


def _parts(tensor: torch.Tensor) -> tuple[torch.Tensor, ...]:
    if tensor.layout == torch.strided:
        return (tensor,)
    if tensor.layout == torch.sparse_coo:
        return tensor._indices(), tensor._values()
    if tensor.layout in {torch.sparse_csr, torch.sparse_bsr}:
        return tensor.crow_indices(), tensor.col_indices(), tensor.values()
    return tensor.ccol_indices(), tensor.row_indices(), tensor.values()
