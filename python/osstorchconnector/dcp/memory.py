"""The bytes of a tensor, without a copy."""

import ctypes

import torch
from torch import Tensor


def is_plain(tensor: Tensor) -> bool:
    """Return whether the elements are contiguous in main memory, without scales or flags that change their meaning."""
    return (
        tensor.device.type == "cpu"
        and tensor.layout == torch.strided
        and tensor.is_contiguous()
        and not tensor.is_quantized
        and not tensor.is_conj()
        and not tensor.is_neg()
    )


def bytes_of(tensor: Tensor) -> memoryview:
    """Return the memory of a plain tensor and keep the tensor alive. It needs no numpy, which is optional for torch."""
    if tensor.nbytes == 0:
        return memoryview(bytearray())
    array = (ctypes.c_ubyte * tensor.nbytes).from_address(tensor.data_ptr())
    # The view keeps the array alive, and the array keeps the tensor alive.
    array.owner = tensor  # type: ignore[attr-defined]
    return memoryview(array).cast("B")


def tensor_over(memory: memoryview, dtype: torch.dtype, shape: torch.Size) -> Tensor:
    """Return a tensor over writable memory and keep the memory alive; a copy if the memory is not aligned for it."""
    if memory.nbytes == 0:
        return torch.empty(shape, dtype=dtype)
    elements = torch.frombuffer(memory, dtype=torch.uint8)
    if elements.data_ptr() % dtype.itemsize:
        elements = elements.clone()
    return elements.view(dtype).view(shape)


def empty_bytes(length: int) -> memoryview:
    """Return new memory that is not initialised; a bytearray would be."""
    return bytes_of(torch.empty(length, dtype=torch.uint8))
