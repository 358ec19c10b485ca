"""Errors without the frames that hold secrets, because some tools show the locals of a traceback."""

import functools
import inspect
from collections.abc import Callable, Mapping
from pathlib import PurePath
from types import FrameType, TracebackType
from typing import Final, ParamSpec, TypeVar

_PACKAGE: Final = __name__.partition(".")[0]

_PROVIDERS: Final = frozenset({"cred_provider", "oss_cred_provider", "provider"})

# URLs are in lists of arguments by bucket, at most.
_DEPTH: Final = 3

# Bytes that are longer are the content of an object.
_LONGEST: Final = 64 << 10

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
Class = TypeVar("Class")


def shielded(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Return the function, whose exceptions leave it without its frames and without what they were made from.

    An exception of a foreign program that is the cause stays, with the frames of that program.
    """

    @functools.wraps(function)
    def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        try:
            return function(*args, **kwargs)
        except BaseException as raised:  # noqa: BLE001 - raised again below
            error = raised.with_traceback(None)
            error.__context__ = None
            if error.__cause__ is not None:
                error.__cause__.__traceback__ = _foreign(error.__cause__.__traceback__)
        finally:
            del args, kwargs
        try:
            raise error
        finally:
            # It holds this frame, so this frame must not hold it.
            del error

    return call


def guarded(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Return the function, whose exceptions leave it without those frames of this package that may hold a secret.

    Such frames hold a presigned URL, or a provider of access keys that may be the keys themselves. The frames of other
    packages stay.
    """

    @functools.wraps(function)
    def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        try:
            return function(*args, **kwargs)
        except BaseException as raised:  # noqa: BLE001 - raised again below
            error = raised
        finally:
            del args, kwargs
        _hide(error)
        try:
            raise error
        finally:
            del error

    return call


def guards_methods(cls: type[Class]) -> type[Class]:
    """Guard the initializer and all public methods that a class defines, class methods and static methods included."""
    for name, entry in list(vars(cls).items()):
        if name.startswith("_") and name != "__init__":
            continue
        if isinstance(entry, (classmethod, staticmethod)):
            setattr(cls, name, type(entry)(guarded(entry.__func__)))
        elif inspect.isfunction(entry) and not getattr(entry, "__isabstractmethod__", False):
            setattr(cls, name, guarded(entry))
    return cls


def _hide(error: BaseException) -> None:
    """Drop such frames from an exception, and from those it was made from."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        found = waiting.pop()
        if found is None or id(found) in seen:
            continue
        seen.add(id(found))
        found.__traceback__ = _without_secrets(found.__traceback__)
        waiting += [found.__cause__, found.__context__]


def _without_secrets(traceback: TracebackType | None) -> TracebackType | None:
    steps = []
    while traceback is not None:
        frame = traceback.tb_frame
        # The frames of `guarded` hold nothing; to look at their locals would keep the exception in them.
        looked_at = _is_own(frame) and frame.f_globals is not globals()
        if not looked_at or not any(_may_be_secret(*local) for local in frame.f_locals.items()):
            steps.append(traceback)
        traceback = traceback.tb_next
    kept = None
    for step in reversed(steps):
        kept = TracebackType(kept, step.tb_frame, step.tb_lasti, step.tb_lineno)
    return kept


def _may_be_secret(name: str, value: object, depth: int = _DEPTH) -> bool:
    if isinstance(value, (str, PurePath)):
        return "?" in str(value)
    if isinstance(value, (bytes, bytearray)):
        return len(value) < _LONGEST and b"?" in value
    if name in _PROVIDERS:
        # A source shows no key; anything else may be the keys themselves, given as the wrong type.
        return value is not None and not callable(value)
    if depth > 0 and isinstance(value, Mapping):
        value = [*value, *value.values()]
    return (
        depth > 0
        and isinstance(value, (list, tuple, set, frozenset))
        and any(_may_be_secret("", item, depth - 1) for item in value)
    )


def _foreign(traceback: TracebackType | None) -> TracebackType | None:
    while traceback is not None and _is_own(traceback.tb_frame):
        traceback = traceback.tb_next
    return traceback


def _is_own(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__")).partition(".")[0] == _PACKAGE
