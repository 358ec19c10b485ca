"""Deprecated: the old name of :mod:`osstorchconnector.dcp.history`."""

import warnings

from osstorchconnector.dcp.history import Checkpoint, checkpoints, remove, remove_leftovers, verify

__all__ = ["Checkpoint", "checkpoints", "remove", "remove_leftovers", "verify"]

warnings.warn(
    "osstorchconnector.dcp.catalogue is deprecated; import from osstorchconnector.dcp.history",
    DeprecationWarning,
    stacklevel=2,
)
