"""The outcome of an object: a transformed value, or a failure of a class."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from osstorchconnector._native import DataObject, Stopwatch, replaces_cause
from osstorchconnector.dataset.failure_counts import failure_class_of, is_about
from osstorchconnector.dataset.options import FailureClass


class Stream(Protocol):
    """Objects in an order; if one cannot be fetched, its error is raised in its place."""

    @property
    def failed(self) -> DataObject | None:
        """The description of the object whose error was raised last; None if it was an error of the listing."""
        ...

    def __next__(self) -> DataObject:
        """Return the next object."""
        ...

    def close(self) -> None:
        """Stop."""
        ...


class NoObjects:
    """A stream without objects."""

    failed = None
    waited = 0

    def __next__(self) -> DataObject:
        """Raise StopIteration."""
        raise StopIteration

    def close(self) -> None:
        """Do nothing."""


class Failure(NamedTuple):
    """Why an object has no value."""

    error: Exception
    failure_class: FailureClass


#: The value; the failure, if there is no value; and the object at its start, if it failed or may become a substitute.
#: It is a plain tuple, because there is one for each object.
Outcome = tuple[Any, Failure | None, DataObject | None]


class Outcomes:
    """The outcomes of a stream's objects, in their order."""

    def __init__(
        self, stream: Stream, transform: Callable[[DataObject], Any], *, keep: bool, clock: Stopwatch | None
    ) -> None:
        """Hold the parts.

        Args:
            stream: The objects.
            transform: Makes a sample of each.
            keep: Whether objects may become substitutes for others.
            clock: Measures the transform.
        """
        self._stream = stream
        self._transform = transform
        self._keep = keep
        self._clock = None if transform is identity else clock

    def read(self) -> Outcome:
        """Return the outcome of the next object.

        Raises:
            OssError: The listing failed, or the error is not about one object.
            StopIteration: No object is left.
        """
        try:
            item = next(self._stream)
        except StopIteration:
            raise
        except Exception as error:
            failed = self._stream.failed
            failure_class = None if failed is None else failure_class_of(error)
            if failure_class is None:
                raise
            return None, Failure(error, failure_class), failed
        return self.transformed(item)

    def transformed(self, item: DataObject) -> Outcome:
        """Return the outcome of an object that was fetched."""
        # The transform may close the object, or leave it at its end.
        kept = item.copy() if self._keep else None
        clock = self._clock
        if clock is not None:
            clock.start()
        try:
            return apply(self._transform, item), None, kept
        except Exception as error:  # noqa: BLE001 - the policy decides about it
            failure_class = failure_class_of(error) if is_about(error, item) else None
            return None, Failure(error, failure_class or "transform"), kept or item
        finally:
            if clock is not None:
                clock.stop()

    def again(self, good: DataObject) -> Any:  # noqa: ANN401 - the transform decides
        """Transform an object once more, as a substitute."""
        return apply(self._transform, good.copy())

    def close(self) -> None:
        """Stop fetching ahead."""
        self._stream.close()


def identity(item: DataObject) -> DataObject:
    """Return the object as it is: the default transform."""
    return item


def apply(transform: Callable[[DataObject], Any], item: DataObject) -> Any:  # noqa: ANN401 - the transform decides
    """Transform an object as :func:`call` does; an exception gets a note that names the object."""
    try:
        try:
            # `call` would cost time for each object.
            return transform(item)
        except StopIteration as error:
            raise _raised_stop(transform) from error
    except Exception as error:
        # Such as a SystemError, which torch makes of what the object raises while its old format is read.
        hidden = item.failure if replaces_cause(error) else None
        (hidden or error).add_note(f"while transforming {item.uri}")
        if hidden is not None:
            raise hidden from None
        raise


def call(function: Callable[..., Any], *arguments: Any) -> Any:  # noqa: ANN401 - the function's
    """Call a function of the user.

    Raises:
        RuntimeError: The function raised StopIteration, which would end the iteration as if no object were left.
    """
    try:
        return function(*arguments)
    except StopIteration as error:
        raise _raised_stop(function) from error


def _raised_stop(function: Callable[..., Any]) -> RuntimeError:
    return RuntimeError(f"{function!r} raised StopIteration, which only iterators may raise")
