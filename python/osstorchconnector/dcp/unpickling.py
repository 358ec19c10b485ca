"""Unpickling ``.metadata`` without running what it names.

A pickle can call any function that it names. So only the names of a table are known, and those that the program has
allowed with ``torch.serialization.add_safe_globals``. A pickle can also set attributes of a class, which the whole
process shares. So it gets a stand-in of each class, which makes instances and cannot be changed.
"""

import collections
import functools
import io
import pathlib
import pickle
from collections.abc import Callable
from typing import Any, Final, NoReturn

import torch
from torch.serialization import get_safe_globals

from osstorchconnector._native import pickle_problem
from osstorchconnector._torch.metadata import LAYOUT, layout, metadata_class, metadata_enumeration, metadata_value

# None of them can be changed, and none takes a length to allocate, as `bytearray` does.
_PLAIN: Final[dict[tuple[str, str], Any]] = {
    **{("builtins", kind.__name__): kind for kind in (complex, dict, frozenset, list, set, tuple)},
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("collections", "defaultdict"): collections.defaultdict,
    ("torch", "Size"): torch.Size,
}
# Paths of other systems become paths that this one can hold. Python 3.13 has them in pathlib._local.
_PATHS: Final[dict[str, type[pathlib.PurePath]]] = {
    "PosixPath": type(pathlib.Path()),
    "PurePosixPath": pathlib.PurePosixPath,
    "PureWindowsPath": pathlib.PureWindowsPath,
    "WindowsPath": pathlib.PureWindowsPath,
}
# torch adds its own classes to the safe globals. Metadata holds none of them, and some connect to other ranks.
_TORCHS_OWN: Final = "torch."


class RefusedNameError(pickle.UnpicklingError):
    """A pickle names something that metadata does not need.

    Attributes:
        name: The full name.
    """

    def __init__(self, name: str) -> None:
        """Remember the name."""
        super().__init__(name)
        self.name = name


class _StandInType(type):
    """The class of all stand-ins: calling one calls what it stands for, and none can be changed."""

    _called: Callable[..., Any]
    _kind: type | None

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - whatever it stands for
        return cls._called(*args, **kwargs)

    def __setattr__(cls, name: str, _: object) -> NoReturn:
        raise pickle.UnpicklingError(f"it changes {name!r} of {cls.__name__}")

    __delattr__ = __setattr__  # type: ignore[assignment]


class MetadataUnpickler(pickle.Unpickler):
    """Builds torch's metadata classes, dtypes, sizes, layouts, memory formats, plain containers and paths."""

    def __init__(self, content: bytes) -> None:
        """Prepare to unpickle `content`.

        Raises:
            UnpicklingError: Its memory or its time would be out of proportion to its length.
        """
        problem = pickle_problem(content)
        if problem is not None:
            raise pickle.UnpicklingError(problem)
        super().__init__(io.BytesIO(content))

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401 - a class, a function or a value
        """Return what a name stands for.

        Raises:
            RefusedNameError: Metadata does not need it.
        """
        found = _PLAIN.get((module, name), metadata_value(module, name))
        if found is not None:
            return found
        kind = metadata_class(module, name) or (_PATHS.get(name) if module in {"pathlib", "pathlib._local"} else None)
        if kind is not None:
            return _stand_in(kind, kind)
        enumeration = metadata_enumeration(module, name)
        if enumeration is not None:
            return _stand_in(enumeration, functools.partial(_member_of, enumeration), makes_instances=False)
        if (module, name) == LAYOUT:
            return _stand_in(None, layout)
        if (module, name) == ("builtins", "getattr"):
            # Python 3.11 and 3.12 name the members of an enumeration with it.
            return _stand_in(None, _member_named)
        allowed = _allowed_by_the_program().get(f"{module}.{name}")
        if allowed is None:
            raise RefusedNameError(f"{module}.{name}")
        return _stand_in(allowed if isinstance(allowed, type) else None, allowed)


def _stand_in(kind: type | None, called: Callable[..., Any], *, makes_instances: bool = True) -> type:
    """Return a stand-in that calls a function and, if a class is given, makes its instances."""

    def new(_: type, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - an instance of `kind`
        if kind is None or not makes_instances:
            raise pickle.UnpicklingError(f"it makes an instance of {called!r}, which is no class")
        return kind.__new__(kind, *args, **kwargs)

    name = getattr(called, "__name__", type(called).__name__) if kind is None else kind.__name__
    return _StandInType(name, (), {"__slots__": (), "_called": staticmethod(called), "_kind": kind, "__new__": new})


def _member_of(enumeration: Callable[[object], Any], value: object) -> Any:  # noqa: ANN401 - a member
    # An enumeration called with more than a value makes a new one.
    return enumeration(value)


def _member_named(stand_in: object, name: str) -> Any:  # noqa: ANN401 - a member
    members = getattr(stand_in._kind, "__members__", {}) if type(stand_in) is _StandInType else {}  # noqa: SLF001
    if name not in members:
        raise RefusedNameError(f"builtins.getattr of {name!r}")
    return members[name]


def _allowed_by_the_program() -> dict[str, Callable[..., Any]]:
    allowed = {}
    for entry in get_safe_globals():
        value, name = entry if isinstance(entry, tuple) else (entry, f"{entry.__module__}.{entry.__qualname__}")
        if not name.startswith(_TORCHS_OWN):
            allowed[name] = value
    return allowed
