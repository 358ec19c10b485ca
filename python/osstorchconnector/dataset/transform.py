"""Functions of the program's that make something of an object."""

from collections.abc import Callable
from typing import Any

from osstorchconnector._native import DataObject


def identity(item: DataObject) -> DataObject:
    """Return the object as it is: what datasets do unless told otherwise."""
    return item


def apply(transform: Callable[[DataObject], Any], item: DataObject) -> Any:  # noqa: ANN401 - the transform decides
    """Transform an object as :func:`call` does; an exception gets a note that names the object."""
    try:
        try:
            # Not through `call`: this is done for each object.
            return transform(item)
        except StopIteration as error:
            raise _raised_stop(transform) from error
    except Exception as error:
        error.add_note(f"while transforming {item.uri}")
        raise


def call(function: Callable[..., Any], *arguments: Any) -> Any:  # noqa: ANN401 - the function's
    """Call a function of the program's.

    Raises:
        RuntimeError: It raised StopIteration, which would end the iteration as if there were no more objects.
    """
    try:
        return function(*arguments)
    except StopIteration as error:
        raise _raised_stop(function) from error


def _raised_stop(function: Callable[..., Any]) -> RuntimeError:
    return RuntimeError(f"{function!r} raised StopIteration, which is for iterators only")
