"""Checkpoints in another form, tensor by tensor, without a whole model in memory."""

from typing import TYPE_CHECKING

from osstorchconnector._lazy import lazy_names

if TYPE_CHECKING:
    from osstorchconnector.conversion.convert import Converted, convert_checkpoint

__all__ = ["Converted", "convert_checkpoint"]

if not TYPE_CHECKING:
    # A type checker would accept every name because of it.
    __getattr__, __dir__ = lazy_names(__name__, __all__, dict.fromkeys(__all__, "osstorchconnector.conversion.convert"))
