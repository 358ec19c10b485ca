"""Lines of fields that tabs separate. Fields may hold any characters that a key may hold."""

import re
from typing import Final

_ESCAPED: Final = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
_PLAIN: Final = {"\\": "\\", "t": "\t", "n": "\n", "r": "\r"}


def join_fields(*fields: str | int) -> bytes:
    """Return a line with its line feed. A backslash escapes a backslash, tab or line break in a field."""
    return ("\t".join(str(field).translate(_ESCAPED) for field in fields) + "\n").encode()


def split_fields(line: bytes) -> list[str]:
    """Return the fields of a line that :func:`join_fields` made.

    Raises:
        ValueError: The line has no line feed, is not UTF-8, or has a backslash that escapes nothing.
    """
    text = line.decode()
    if not text.endswith("\n"):
        raise ValueError("the line has no line feed at its end")
    fields = text[:-1].split("\t")
    return [re.sub(r"\\(.?)", _unescape, field) for field in fields] if "\\" in text else fields


def _unescape(match: re.Match[str]) -> str:
    try:
        return _PLAIN[match.group(1)]
    except KeyError:
        raise ValueError(f"{match.group()!r} is no escaped character") from None
