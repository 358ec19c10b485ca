"""Errors without the frames that hold secrets, because some tools show the locals of a traceback."""

import functools
from collections.abc import Callable
from types import TracebackType
from typing import Final, ParamSpec, TypeVar

_PACKAGE: Final = __name__.partition(".")[0]

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


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
        raise error

    return call


def _foreign(traceback: TracebackType | None) -> TracebackType | None:
    while traceback is not None and str(traceback.tb_frame.f_globals.get("__name__")).partition(".")[0] == _PACKAGE:
        traceback = traceback.tb_next
    return traceback
