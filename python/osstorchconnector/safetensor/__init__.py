"""Tensors in safetensors objects, read and written without a local file."""

from typing import TYPE_CHECKING

from osstorchconnector._lazy import lazy_names

if TYPE_CHECKING:
    from osstorchconnector.safetensor.safe_open import OssSafeOpen, OssSlice
    from osstorchconnector.safetensor.safetensor import OssSafetensor

__all__ = ["OssSafeOpen", "OssSafetensor", "OssSlice"]

if not TYPE_CHECKING:
    # A type checker would accept every name because of it.
    __getattr__, __dir__ = lazy_names(
        __name__,
        __all__,
        {
            "OssSafeOpen": "osstorchconnector.safetensor.safe_open",
            "OssSafetensor": "osstorchconnector.safetensor.safetensor",
            "OssSlice": "osstorchconnector.safetensor.safe_open",
        },
    )
