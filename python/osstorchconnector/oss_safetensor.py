"""The original's place of :class:`OssSafetensor`."""

from osstorchconnector.safetensor import OssSafeOpen, OssSafetensor

__all__ = ["OssSafetensor", "oss_safe_open"]

oss_safe_open = OssSafeOpen
