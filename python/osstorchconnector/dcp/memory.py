"""The bytes of a tensor, without a copy."""

import ctypes

import torch
from torch import Tensor


def is_plain(tensor: Tensor) -> bool:
    """Return whether the elements lie in this process's memory one after the other, as their numbers alone."""
    return (
        tensor.device.type == "cpu"
        and tensor.layout == torch.strided
        and tensor.is_contiguous()
        and not tensor.is_quantized
        and not tensor.is_conj()
        and not tensor.is_neg()
    )


def bytes_of(tensor: Tensor) -> memoryview:
    """Return the memory of a plain tensor, which it keeps alive. numpy, which torch can do without, is not used."""
    if tensor.nbytes == 0:
        return memoryview(bytearray())
    array = (ctypes.c_ubyte * tensor.nbytes).from_address(tensor.data_ptr())
    # The view refers to the array, and so to this.
    array.owner = tensor  # type: ignore[attr-defined]
    return memoryview(array).cast("B")


def tensor_over(memory: memoryview, dtype: torch.dtype, shape: torch.Size) -> Tensor:
    """Return a tensor over writable memory, which it keeps alive; a copy where the memory is not aligned for it."""
    if memory.nbytes == 0:
        return torch.empty(shape, dtype=dtype)
    elements = torch.frombuffer(memory, dtype=torch.uint8)
    if elements.data_ptr() % dtype.itemsize:
        elements = elements.clone()
    return elements.view(dtype).view(shape)


def empty_bytes(length: int) -> memoryview:
    """Return memory of its own that is not initialised, which a bytearray would be."""
    return bytes_of(torch.empty(length, dtype=torch.uint8))
