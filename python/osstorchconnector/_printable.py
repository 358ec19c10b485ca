"""Texts that others chose, such as keys and a server's messages, on their way to a terminal."""

import re
from typing import Final

#: Control characters can rewrite what a terminal shows, or type for its user; the last ones change the order of the
#: characters that are shown. Lone surrogates cannot be written at all.
CONTROLS: Final = re.compile("[\0-\\x1f\\x7f-\\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_WITHOUT_LINES: Final = re.compile(
    "[\0-\\x08\\x0b-\\x1f\\x7f-\\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: object) -> str:
    r"""Return the text in one line; control characters are written like ``\x1b``."""
    return CONTROLS.sub(_escaped, str(text))


def printable_lines(text: str) -> str:
    """Return the text as :func:`printable` does, but keep line feeds and tabs."""
    return _WITHOUT_LINES.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    return match.group().encode("unicode_escape").decode()
