"""What a check found: one line, with what to do if something is wrong."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class State(Enum):
    """How serious a finding is."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        name: What was looked at.
        state: How serious it is.
        text: What was found.
        remedy: What to do; empty if nothing is wrong.
        values: The same for programs: numbers and names. It holds no secret.
    """

    name: str
    state: State
    text: str
    remedy: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)


def ok(name: str, text: str, **values: object) -> Finding:
    """Return a finding that needs no action."""
    return Finding(name, State.OK, text, values=values)


def warning(name: str, text: str, remedy: str, **values: object) -> Finding:
    """Return a finding that makes something slower, or that may fail later."""
    return Finding(name, State.WARNING, text, remedy, values)


def failure(name: str, text: str, remedy: str, **values: object) -> Finding:
    """Return a finding that stops a job."""
    return Finding(name, State.FAILURE, text, remedy, values)
