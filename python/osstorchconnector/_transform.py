"""Transforms."""

from collections.abc import Callable
from typing import Any

from osstorchconnector._native import DataObject


def identity(item: DataObject) -> DataObject:
    """Return the object as it is: what datasets do unless told otherwise."""
    return item


def apply(transform: Callable[[DataObject], Any], item: DataObject) -> Any:  # noqa: ANN401 - the transform decides
    """Transform an object; an exception gets a note that names the object."""
    try:
        return transform(item)
    except Exception as error:
        error.add_note(f"while transforming {item.uri}")
        raise
