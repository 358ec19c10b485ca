"""Transforms, and iteration that applies them."""

from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar

from osstorchconnector._native import DataObject, ObjectStream

Item = TypeVar("Item")


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


class TransformedStream(Generic[Item]):
    """Iterator over the transformed objects of a stream.

    It is not a generator on purpose: after an error, of an object or of the transform, the next call goes on with the
    next object.
    """

    def __init__(self, stream: ObjectStream, transform: Callable[[DataObject], Item]) -> None:
        """Hold both."""
        self._stream = stream
        self._transform = transform

    def __iter__(self) -> Self:
        """Return the iterator itself."""
        return self

    def __next__(self) -> Item:
        """Return the next object, transformed.

        Raises:
            OssError: This object could not be fetched.
            StopIteration: There is none left.
        """
        transformed: Item = apply(self._transform, next(self._stream))
        return transformed

    def close(self) -> None:
        """Stop fetching ahead."""
        self._stream.close()
