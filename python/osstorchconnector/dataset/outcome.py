"""What becomes of the objects of a stream: a transformed value, or a failure of a class."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from osstorchconnector._native import DataObject
from osstorchconnector.dataset.failure_counts import failure_of, is_of
from osstorchconnector.dataset.options import Failure


class Stream(Protocol):
    """Objects, each of which or whose error comes once, in its place."""

    @property
    def failed(self) -> DataObject | None:
        """The object whose error was raised last, as a description; None where it was an error of the listing."""
        ...

    def __next__(self) -> DataObject:
        """Return the next object."""
        ...

    def close(self) -> None:
        """Stop."""
        ...


class NoObjects:
    """A stream that is at its end."""

    failed = None

    def __next__(self) -> DataObject:
        """Raise StopIteration."""
        raise StopIteration

    def close(self) -> None:
        """Do nothing."""


class Failed(NamedTuple):
    """Why there is no value."""

    error: Exception
    kind: Failure


#: One object's: the value; or why there is none; and the object, at its start, where it failed or may have to stand in
#: for another. A plain tuple, since there is one for each object.
Outcome = tuple[Any, Failed | None, DataObject | None]


class Outcomes:
    """The outcomes of a stream's objects, in their order."""

    def __init__(self, stream: Stream, transform: Callable[[DataObject], Any], *, keep: bool) -> None:
        """Hold the parts.

        Args:
            stream: The objects.
            transform: What to make of each.
            keep: Whether objects that are fine may have to stand in for others.
        """
        self._stream = stream
        self._transform = transform
        self._keep = keep

    def read(self) -> Outcome:
        """Return what became of the next object.

        Raises:
            OssError: The listing failed, or no object is to blame.
            StopIteration: There is none left.
        """
        try:
            item = next(self._stream)
        except StopIteration:
            raise
        except Exception as error:
            failed = self._stream.failed
            kind = None if failed is None else failure_of(error)
            if kind is None:
                raise
            return None, Failed(error, kind), failed
        return self.transformed(item)

    def transformed(self, item: DataObject) -> Outcome:
        """Return what becomes of an object that was fetched."""
        # The transform may close it, or leave it at its end.
        kept = item.copy() if self._keep else None
        try:
            return apply(self._transform, item), None, kept
        except Exception as error:  # noqa: BLE001 - the policy decides about it
            kind = failure_of(error) if is_of(error, item) else None
            return None, Failed(error, kind or "transform"), kept or item

    def again(self, good: DataObject) -> Any:  # noqa: ANN401 - the transform decides
        """Transform an object once more, for another's place."""
        return apply(self._transform, good.copy())

    def close(self) -> None:
        """Stop fetching ahead."""
        self._stream.close()


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
