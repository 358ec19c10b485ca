"""Tar archives of small objects: one object that is listed and read in long runs, instead of many."""

from typing import TYPE_CHECKING

from osstorchconnector._lazy import lazy_names

if TYPE_CHECKING:
    from osstorchconnector.archive.writer import generate_tar_archive

__all__ = ["generate_tar_archive"]

if not TYPE_CHECKING:
    # A type checker would take it for any name.
    __getattr__, __dir__ = lazy_names(__name__, __all__, {"generate_tar_archive": "osstorchconnector.archive.writer"})
