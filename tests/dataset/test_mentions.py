"""Names that a function uses, itself or through other functions of the program."""

import functools
import sys
from collections.abc import Callable
from typing import Any

import pytest

from osstorchconnector.dataset import mentions
from osstorchconnector.dataset.mentions import running_user, user


def wanted() -> int:
    return 1


def uses(names: frozenset[str]) -> bool:
    return "wanted" in names


def found(function: object, known: tuple[str, ...] = ("pytest",)) -> str:
    return user(function, uses, lambda module: module.startswith(known))


def direct() -> int:
    return wanted()


def through() -> int:
    return direct()


def unrelated() -> int:
    return len("wanted")


def recursive() -> None:
    return recursive()


def a_lambda() -> Any:
    return (lambda number: wanted() + number)(1)  # noqa: PLC3002 - that is the case


def comprehended() -> Any:
    return [wanted() for _ in range(2)]


def enclosing() -> Callable[[int], Any]:
    def inner() -> int:
        return direct()

    return lambda number: inner() + number


class Owner:
    def method(self) -> int:
        return self.other

    @property
    def other(self) -> int:
        return self.more()

    @staticmethod
    def more() -> int:
        return direct()

    def alone(self) -> int:
        return len(repr(self))

    def frame(self) -> str:
        frame = sys._getframe()
        self.more()
        return running_user(frame, uses, lambda _: False)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (direct, "direct"),
        (through, "direct"),
        (a_lambda, "a_lambda.<locals>.<lambda>"),
        (enclosing(), "direct"),
        (functools.partial(through), "direct"),
        (Owner().method, "direct"),
        (unrelated, ""),
        (recursive, ""),
        (Owner().alone, ""),
        (len, ""),
        (None, ""),
    ],
)
def test_the_function_that_uses_a_name_is_found(function: object, expected: str) -> None:
    assert found(function) == expected


def test_a_comprehension_belongs_to_its_function() -> None:
    assert found(comprehended).startswith("comprehended")


def test_a_running_function_is_searched_too() -> None:
    assert Owner().frame() == "direct"


def test_functions_of_known_modules_are_not_searched() -> None:
    assert found(through, (__name__,)) == ""


def test_the_search_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mentions, "_DEPTH", 0)
    assert found(through) == ""
    monkeypatch.setattr(mentions, "_DEPTH", 1)
    assert found(through) == "direct"
    monkeypatch.setattr(mentions, "_MOST", 1)
    assert found(through) == ""
