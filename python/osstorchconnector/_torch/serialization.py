"""What ``torch.load`` does inside: unpickling, typed storages, and the parts of sparse and wrapping tensors.

| name of torch | versions |
| --- | --- |
| ``torch._weights_only_unpickler.Unpickler`` | all since 2.6 |
| ``torch.storage.TypedStorage(_internal=)``, ``._untyped_storage`` | all since 2.6 |
| ``torch.serialization._serialization_tls.skip_data`` | all since 2.6 |
| ``torch.utils._python_dispatch.is_traceable_wrapper_subclass`` | all since 2.6 |
| ``torch.Tensor._indices``, ``._values`` | all since 2.6 |
| ``torch._utils._sparse_tensors_to_validate`` | 2.6 to 2.14 |
| ``torch._utils._get_sparse_tensors_to_validate`` | 2.15 and newer |
| ``torch._utils._validate_loaded_sparse_tensors`` | all since 2.6; with the parameter ``weights_only`` since 2.14 |
"""

# ruff: noqa: SLF001 - this module is the place for it
from collections.abc import Iterator
from contextlib import contextmanager
from inspect import signature
from typing import Any, Final

import torch
from torch._weights_only_unpickler import Unpickler
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

# torch leaves their types out.
#: The unpickler of ``torch.load(weights_only=True)``.
WeightsOnlyUnpickler: Final[Any] = Unpickler
_TypedStorage: Final[Any] = torch.storage.TypedStorage
_utils: Final[Any] = torch._utils
# torch declares that the result says which type the tensor is, a type which no tensor can have.
_is_wrapper: Final[Any] = is_traceable_wrapper_subclass


def skips_data() -> bool:
    """Return whether ``torch.save`` seeks over the bytes of tensors: inside ``torch.serialization.skip_data``."""
    return bool(torch.serialization._serialization_tls.skip_data)


@contextmanager
def computed_crc32(computed: bool | None) -> Iterator[None]:  # noqa: FBT001 - its only argument
    """Have ``torch.save`` compute the CRC-32 of each record or not, in the whole process; None changes nothing."""
    before = torch.serialization.get_crc32_options()
    if computed is None or computed is before:
        yield
        return
    torch.serialization.set_crc32_options(computed)
    try:
        yield
    finally:
        torch.serialization.set_crc32_options(before)


def typed_storage(storage: torch.UntypedStorage, dtype: torch.dtype) -> torch.storage.TypedStorage:
    """Return a storage with a type of elements, without the warning that this class is deprecated."""
    typed: torch.storage.TypedStorage = _TypedStorage(wrap_storage=storage, dtype=dtype, _internal=True)
    return typed


def untyped_storage(typed: torch.storage.TypedStorage) -> torch.UntypedStorage:
    """Return the memory behind a typed storage, without the warning that this class is deprecated."""
    return typed._untyped_storage


def is_wrapper(tensor: torch.Tensor) -> bool:
    """Return whether a tensor has no memory itself but holds other tensors, such as a ``DTensor``."""
    return bool(_is_wrapper(tensor))


def sparse_coo_parts(tensor: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return indices and values of a sparse tensor. The public methods refuse a tensor that is not coalesced."""
    return tensor._indices(), tensor._values()


def sparse_tensors_to_validate() -> list[torch.Tensor]:
    """Return torch's own list of sparse tensors that were loaded and not validated yet."""
    if hasattr(_utils, "_get_sparse_tensors_to_validate"):
        return _utils._get_sparse_tensors_to_validate()  # type: ignore[no-any-return]
    return _utils._sparse_tensors_to_validate  # type: ignore[no-any-return]


def validate_sparse_tensors(*, weights_only: bool) -> None:
    """Validate the tensors of that list as ``torch.load`` does at its end, and clear the list."""
    if "weights_only" in signature(_utils._validate_loaded_sparse_tensors).parameters:
        _utils._validate_loaded_sparse_tensors(weights_only=weights_only)
    else:
        _utils._validate_loaded_sparse_tensors()
