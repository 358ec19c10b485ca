"""Which names a function uses, also through other functions of the program that it may call."""

import functools
import inspect
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import CodeType, FrameType, FunctionType, MethodType
from typing import Any, Final

# A function that asks for the rank through more calls than that is not found.
_DEPTH: Final = 3
# Enough for any wrapper, and a bound for one that leads through all of a large program.
_MOST: Final = 500


@dataclass(frozen=True)
class _Place:
    """A function, and where its names are looked up."""

    code: CodeType
    names: Mapping[str, Any]
    variables: Mapping[str, Any] = field(default_factory=dict)
    owner: type | None = None
    depth: int = 0


def running_user(frame: FrameType, uses: Callable[[frozenset[str]], bool], is_known: Callable[[str], bool]) -> str:
    """Return the qualified name of the function that uses names: the one of a frame, or one that it may call.

    Args:
        frame: The frame.
        uses: Tells whether the names of a function are those that are looked for.
        is_known: Tells whether a module is known, so that its functions need no search.

    Returns:
        The name; empty if there is no such function.
    """
    local = frame.f_locals
    owner = local.get("self")
    variables = {name: local[name] for name in frame.f_code.co_freevars if name in local}
    if isinstance(local, dict):
        # Before Python 3.13 the frame keeps this copy, and with it every sample that the function then drops.
        local.clear()
    cls = None if owner is None else type(owner)
    return _search(_Place(frame.f_code, frame.f_globals, variables, cls), uses, is_known)


def user(function: object, uses: Callable[[frozenset[str]], bool], is_known: Callable[[str], bool]) -> str:
    """Return the same for a function that does not run."""
    plain = _function(function)
    return "" if plain is None else _search(_place_of(plain, _class_of(function), 0), uses, is_known)


def _search(first: _Place, uses: Callable[[frozenset[str]], bool], is_known: Callable[[str], bool]) -> str:
    places = deque([first])
    seen = {first.code}
    while places and len(seen) < _MOST:
        place = places.popleft()
        if uses(frozenset((*place.code.co_names, *place.code.co_freevars))):
            return place.code.co_qualname
        for called in _called(place):
            if called.code not in seen and not is_known(str(called.names.get("__name__"))):
                seen.add(called.code)
                places.append(called)
    return ""


def _called(place: _Place) -> Iterator[_Place]:
    """Yield the functions that a function contains, and those whose names it uses."""
    for constant in place.code.co_consts:
        if isinstance(constant, CodeType):
            yield _Place(constant, place.names, place.variables, place.owner, place.depth)
    if place.depth == _DEPTH:
        return
    for name in (*place.code.co_names, *place.code.co_freevars):
        function = _function(place.variables.get(name, place.names.get(name)))
        if function is not None:
            yield _place_of(function, None, place.depth + 1)
        method = None if place.owner is None else _function(inspect.getattr_static(place.owner, name, None))
        if method is not None:
            yield _place_of(method, place.owner, place.depth + 1)


def _place_of(function: FunctionType, owner: type | None, depth: int) -> _Place:
    variables = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            variables[name] = cell.cell_contents
        except ValueError:
            # Nothing has been assigned to it yet.
            continue
    return _Place(function.__code__, function.__globals__, variables, owner, depth)


def _function(value: object) -> FunctionType | None:
    """Return the Python function that a value calls, or None."""
    while True:
        match value:
            case FunctionType():
                return value
            case MethodType() | staticmethod() | classmethod():
                value = value.__func__
            case property():
                value = value.fget
            case functools.partial():
                value = value.func
            case _:
                return None


def _class_of(value: object) -> type | None:
    return type(value.__self__) if isinstance(value, MethodType) else None
