"""What the bytes of a tensor become: a tensor of torch, or an array of numpy."""

import importlib
from typing import TYPE_CHECKING, Any, Final, Protocol

import torch

from osstorchconnector.exceptions import OssConfigError, OssFormatError
from osstorchconnector.safetensor.header import PACKED, TensorRange, dtype_name

if TYPE_CHECKING:
    import numpy as np

Device = str | int | torch.device

_TORCH_NAMES: Final = frozenset({"pt", "torch", "pytorch"})
_NUMPY_NAMES: Final = frozenset({"np", "numpy"})


class Framework(Protocol):
    """Makes tensors of memory."""

    def check(self, place: TensorRange) -> None:
        """Raise an OssFormatError if the framework has no such type."""

    def shape(self, place: TensorRange) -> tuple[int, ...]:
        """Return the shape of a tensor in the framework."""

    def tensor(self, memory: torch.Tensor, place: TensorRange, shape: tuple[int, ...]) -> Any:  # noqa: ANN401 - of any framework
        """Return a tensor over memory of bytes, in main memory."""

    def separate(self, part: Any, whole: Any) -> Any:  # noqa: ANN401 - as above
        """Return a part of a tensor with memory of its own, unless it is all of it."""

    def placed(self, tensor: Any) -> Any:  # noqa: ANN401 - as above
        """Return a tensor on the device that the caller wants."""


def framework_of(name: str, device: Device) -> Framework:
    """Return a framework by its name in the library.

    Raises:
        OssConfigError: There is no such framework here, or no such device.
    """
    if name in _NUMPY_NAMES:
        if str(device) != "cpu":
            raise OssConfigError(f"arrays of numpy are in main memory: device must be 'cpu', got {device!r}")
        return Numpy()
    if name not in _TORCH_NAMES:
        raise OssConfigError(
            f"framework must be 'pt' or 'np', got {name!r}. The arguments are (uri, device, framework)"
        )
    try:
        return Torch(torch.device(device))
    except (TypeError, RuntimeError) as error:
        raise OssConfigError(f"device must be a torch device such as 'cpu' or 'cuda:0', got {device!r}") from error


class Torch:
    """Tensors of torch."""

    def __init__(self, device: torch.device) -> None:
        """Remember the device."""
        self._device = device

    def check(self, place: TensorRange) -> None:
        """Raise an OssFormatError if this version of torch has no such type."""
        place.torch_dtype()

    def shape(self, place: TensorRange) -> tuple[int, ...]:
        """Return the shape of a tensor in torch."""
        return place.torch_shape()

    def tensor(self, memory: torch.Tensor, place: TensorRange, shape: tuple[int, ...]) -> torch.Tensor:
        """Return a tensor over memory of bytes."""
        dtype = place.torch_dtype()
        return memory.view(dtype).reshape(shape) if memory.numel() else torch.empty(shape, dtype=dtype)

    def separate(self, part: torch.Tensor, whole: torch.Tensor) -> torch.Tensor:
        """Return a part with memory of its own, unless it is all of it."""
        return part.clone() if part.numel() != whole.numel() else part

    def placed(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return a tensor on the device."""
        return tensor.to(self._device)


class Numpy:
    """Arrays of numpy."""

    def check(self, place: TensorRange) -> None:
        """Raise an OssFormatError if numpy has no such type."""
        self._dtype(place)

    def shape(self, place: TensorRange) -> tuple[int, ...]:
        """Return the shape of an array."""
        return place.shape

    def tensor(self, memory: torch.Tensor, place: TensorRange, shape: tuple[int, ...]) -> "np.ndarray[Any, Any]":
        """Return an array over memory of bytes."""
        array: np.ndarray[Any, Any] = memory.numpy()
        return array.view(self._dtype(place)).reshape(shape)

    def separate(self, part: Any, whole: "np.ndarray[Any, Any]") -> Any:  # noqa: ANN401 - one element is no array
        """Return a part with memory of its own, unless it is all of it."""
        return part.copy() if part.size != whole.size else part

    def placed(self, tensor: Any) -> Any:  # noqa: ANN401 - as above
        """Return the array."""
        return tensor

    def _dtype(self, place: TensorRange) -> "np.dtype[Any]":
        import numpy as np  # noqa: PLC0415 - torch does without it

        name = dtype_name(place.dtype)
        if place.dtype != PACKED:
            try:
                return np.dtype(name)
            except TypeError:
                # Types such as bfloat16 come from a library of their own.
                pass
            try:
                importlib.import_module("ml_dtypes")
                return np.dtype(name)
            except (ImportError, TypeError):
                pass
        raise OssFormatError(
            f"numpy has no type for {place.dtype}: open it with framework='pt', or install ml_dtypes, which adds types"
        )
