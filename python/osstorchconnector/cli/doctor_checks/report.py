"""The report: lines for people, as they come, and a document for programs."""

import sys
from collections.abc import Sequence
from typing import Any, Final

from osstorchconnector._printable import printable
from osstorchconnector.cli.doctor_checks.finding import Finding, State
from osstorchconnector.cli.output import coloured

_COLOURS: Final = {State.OK: "32", State.WARNING: "33", State.FAILURE: "31"}
#: The exit status, and how serious a state is.
STATUS: Final = {State.OK: 0, State.WARNING: 1, State.FAILURE: 2}
# Version of the form of the document.
_FORM: Final = 1


class Report:
    """The findings, which are shown as they come."""

    def __init__(self, *, shown: bool) -> None:
        """Begin without any."""
        self.groups: dict[str, list[Finding]] = {}
        self.lines: list[str] = []
        self._shown = shown
        self._colour = shown and coloured(sys.stdout)

    def add(self, group: str, findings: Sequence[Finding]) -> None:
        """Add the findings of a group, and show them."""
        if not findings:
            return
        if group not in self.groups:
            self._line(group, f"\x1b[1m{group}\x1b[0m")
        self.groups.setdefault(group, []).extend(findings)
        for one in findings:
            state = one.state.value
            rest = f"{printable(one.name):<14} {printable(one.text)}"
            self._line(f"  {state:<8} {rest}", f"  \x1b[{_COLOURS[one.state]}m{state:<8}\x1b[0m {rest}")
            if one.remedy:
                self._line(*[f"           {'':<14} -> {printable(one.remedy)}"] * 2)
        if self._shown:
            sys.stdout.flush()

    def state(self) -> State:
        """Return the most serious state."""
        states = [one.state for findings in self.groups.values() for one in findings]
        return max(states, key=lambda state: STATUS[state], default=State.OK)

    def document(self, uri: str, seconds: float) -> dict[str, Any]:
        """Return the report for programs."""
        findings = [
            {
                "group": group,
                "name": one.name,
                "state": one.state.value,
                "text": one.text,
                "remedy": one.remedy,
                "values": dict(one.values),
            }
            for group, findings in self.groups.items()
            for one in findings
        ]
        return {
            "version": _FORM,
            "uri": uri,
            "state": self.state().value,
            "seconds": round(seconds, 3),
            "findings": findings,
        }

    def say(self, text: str) -> None:
        """Show a line."""
        self._line(text, text)

    def _line(self, plain: str, coloured: str) -> None:
        self.lines.append(plain)
        if self._shown:
            sys.stdout.write(f"{coloured if self._colour else plain}\n")
