"""Write down every public name with its parameters: ``python -m tests.public_api`` writes ``tests/public_api.json``.

The parameters have their kinds and defaults, as a caller must know them, and no annotations, which each Python writes
in its own way. Of a class its own members count, and those of this package's classes that it inherits.
"""

import importlib
import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

FILE: Final = Path(__file__).with_suffix(".json")
#: Modules that users import from. What the others need is not among the tools of the tests.
MODULES: Final = (
    "osstorchconnector",
    *(
        f"osstorchconnector.{name}"
        for name in (
            *("accelerate", "archive", "checkpoint", "connection", "conversion", "credentials", "dataset", "dcp"),
            *("diffusers", "exceptions", "fsspec", "lightning", "metrics", "model", "safetensor", "testing"),
        )
    ),
)
_MAGIC: Final = {"__call__", "__enter__", "__exit__", "__getitem__", "__getitems__", "__init__", "__iter__", "__len__"}


def parameters(function: Any) -> list[str]:
    """Return what a caller gives to a function: ``["self", "uri", "*", "limit=None"]``."""
    try:
        signature = inspect.signature(function)
    except ValueError:
        # A function of C that does not say.
        return ["*anything"]
    plain = [
        parameter.replace(annotation=inspect.Parameter.empty, default=_shown(parameter.default))
        for parameter in signature.parameters.values()
    ]
    text = str(signature.replace(parameters=plain, return_annotation=inspect.Signature.empty))
    return text[1:-1].split(", ") if plain else []


class _Written:
    """A default that is printed without commas, which separate parameters."""

    def __init__(self, value: object) -> None:
        self._text = re.sub(r" at 0x[0-9a-f]+", "", repr(value)).replace(", ", ",")

    def __repr__(self) -> str:
        return self._text


def _shown(default: object) -> object:
    return default if default is inspect.Parameter.empty else _Written(default)


def members(owner: type) -> Iterator[tuple[str, list[str]]]:
    """Yield the members of a class."""
    seen = set()
    for base in owner.__mro__:
        if not base.__module__.startswith("osstorchconnector") and base is not owner:
            continue
        for name, value in vars(base).items():
            if name in seen or (name.startswith("_") and name not in _MAGIC):
                continue
            seen.add(name)
            if isinstance(value, (classmethod, staticmethod)):
                yield name, parameters(getattr(owner, name))
            elif callable(value):
                yield name, parameters(value)
            else:
                yield name, []


def public() -> dict[str, list[str]]:
    """Return all public names: functions with their parameters, classes with their bases, other names with nothing."""
    found: dict[str, list[str]] = {}
    described: dict[int, str] = {}
    for path in MODULES:
        module = importlib.import_module(path)
        for name in module.__all__:
            value = getattr(module, name)
            full = f"{path}.{name}"
            if callable(value) and id(value) in described:
                found[full] = [f"is {described[id(value)]}"]
                continue
            described[id(value)] = full
            if inspect.isclass(value):
                found[full] = [base.__name__ for base in value.__mro__[1:] if base is not object]
                found |= {f"{full}.{member}": given for member, given in sorted(members(value))}
            else:
                found[full] = parameters(value) if callable(value) else []
    return found


def _positional(given: list[str]) -> list[str]:
    stars = [number for number, word in enumerate(given) if word.startswith("*")]
    return [word for word in given[: stars[0] if stars else None] if word != "/"]


def broken(before: dict[str, list[str]], now: dict[str, list[str]]) -> list[str]:
    """Return the names that a program written before cannot use as it did: others may have come, with defaults."""
    found = []
    for name, given in before.items():
        if name not in now:
            found.append(f"{name} is gone")
            continue
        old, new = _positional(given), _positional(now[name])
        added = [word for word in now[name] if word not in given and not word.startswith("*") and "=" not in word]
        gone = [word for word in given if word not in {*now[name], "*", "/"}]
        is_function = name.rpartition(".")[2][0].islower() or name.endswith("__")
        if gone or (is_function and (old != new[: len(old)] or set(added) - {"/"})):
            found.append(f"{name}({', '.join(given)}) is now ({', '.join(now[name])})")
    return found


if __name__ == "__main__":
    FILE.write_text(json.dumps(public(), indent=1, sort_keys=True) + "\n", encoding="utf-8")
