"""Deprecated: the old name of :mod:`osstorchconnector.testing.pytest_plugin`."""

import warnings

from osstorchconnector.testing.pytest_plugin import oss_emulator

__all__ = ["oss_emulator"]

warnings.warn(
    "osstorchconnector.testing_plugin is deprecated; import from osstorchconnector.testing.pytest_plugin",
    DeprecationWarning,
    stacklevel=2,
)
