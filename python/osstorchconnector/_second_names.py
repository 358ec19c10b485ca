"""Arguments that have two names: the original's, and the one that this package had first."""

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def second_names(**names: str) -> Callable[[Callable[Arguments, Result]], Callable[Arguments, Result]]:
    """Return a decorator: the function takes its arguments by second names too.

    Args:
        names: The name of the parameter, by the second name.
    """

    def decorate(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
        @functools.wraps(function)
        def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
            given: dict[str, Any] = kwargs
            for second, name in names.items():
                if second in given:
                    if name in given:
                        raise TypeError(f"{function.__name__}() got {name!r} twice: {second!r} is its second name")
                    given[name] = given.pop(second)
            return function(*args, **kwargs)

        return call

    return decorate
