"""The parser of the command line: it says what a wrong word was probably meant to be."""

import argparse
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn, cast


class Parser(argparse.ArgumentParser):
    """A parser whose errors say "did you mean", and whose options may stand between the arguments."""

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]  # noqa: ANN401 - as the base class
        """Parse the arguments of this command; complain here of those that it does not know."""
        found, extra = cast("tuple[argparse.Namespace, list[str]]", super().parse_known_args(args, namespace))
        if extra and not any(isinstance(action, argparse._SubParsersAction) for action in self._actions):  # noqa: SLF001 - the base class has no public name
            unknown = [word for word in extra if word.startswith("-") and word != "-"]
            several = [action for action in self._actions if not action.option_strings and action.nargs in {"*", "+"}]
            if unknown or not several:
                self.error(f"unrecognized arguments: {' '.join(extra)}{self._meant(unknown)}")
            # `osst rm A --yes B`: the base class takes only the arguments before an option.
            getattr(found, several[0].dest).extend(extra)
            extra = []
        return found, extra

    def error(self, message: str) -> NoReturn:
        """Exit with status 2 after the usage and a message."""
        self.print_usage_and_exit(message)

    def print_usage_and_exit(self, message: str) -> NoReturn:
        """Write the message after the usage, and where to read more."""
        super().error(f"{message}\n`{self.prog} --help` shows what it takes")

    def _meant(self, unknown: list[str]) -> str:
        return did_you_mean(unknown[0].partition("=")[0], self._option_string_actions) if unknown else ""

    def _check_value(self, action: argparse.Action, value: Any) -> None:  # noqa: ANN401 - as the base class
        # The base class lists all choices, which are many for commands.
        if action.choices is not None and value not in action.choices:
            choices = list(map(str, action.choices))
            meant = did_you_mean(str(value), choices) or f": choose from {', '.join(choices)}"
            raise argparse.ArgumentError(action, f"{value!r} is not one{meant}")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return what to say of the known word that is nearest to a wrong one; nothing if none is near."""
    import difflib  # noqa: PLC0415 - only mistakes need it

    near = difflib.get_close_matches(word, list(known), 1)
    return f": did you mean {near[0]}?" if near else ""
