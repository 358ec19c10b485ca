"""Patterns of keys and paths.

``*`` and ``?`` stop at a slash, ``[a-z]`` is one character of a set, and ``**`` between slashes is any number of names.
"""

import re
from functools import lru_cache
from typing import Final

_MAGIC: Final = re.compile(r"[*?\[]")


def has_magic(text: str) -> bool:
    """Return whether a text is a pattern."""
    return _MAGIC.search(text) is not None


def literal_start(pattern: str) -> str:
    """Return what everything that matches begins with."""
    found = _MAGIC.search(pattern)
    return pattern if found is None else pattern[: found.start()]


@lru_cache(maxsize=256)
def compiled(pattern: str) -> re.Pattern[str]:
    """Return the regular expression of a pattern, for whole texts.

    Each star takes as little as it can, and gives nothing back (atomic groups), except for the last one. So the time
    grows with the length of the text, whatever the pattern is.

    Raises:
        ValueError: A set of characters is malformed.
    """
    # What is between names that are `**`.
    groups: list[list[str]] = [[]]
    for name in pattern.split("/"):
        if name.startswith("**"):
            groups.append([])
            if name.strip("*"):
                # `**.jpg` is short for `**/*.jpg`.
                groups[-1].append(_name_expression(name[1:]))
        else:
            groups[-1].append(_name_expression(name))
    first, *middle = map("/".join, groups)
    if not middle:
        expression = first
    else:
        last = middle.pop()
        expression = f"{first}/" if first else ""
        expression += "".join(rf"(?>(?:[^/]*/)*?{group}/)" for group in middle if group)
        expression += rf"(?:.*/)?{last}" if last else ".*"
    try:
        return re.compile(expression, re.DOTALL)
    except re.error as error:
        raise ValueError(f"{pattern!r} is no pattern: {error}") from None


def _name_expression(name: str) -> str:
    """Return the expression of a part between two slashes."""
    pieces = [""]
    position = 0
    while position < len(name):
        character = name[position]
        # A bracket right after the opening one, or after the sign that inverts, is one of the set.
        first = position + (2 if name[position + 1 : position + 2] in {"!", "^"} else 1)
        end = name.find("]", first + 1) if character == "[" else -1
        if end > 0:
            # Only a range keeps its meaning; everything else is a character.
            inside = re.sub(r"([\\\[\]^&~|])", r"\\\1", name[first:end])
            pieces[-1] += f"[^/{inside}]" if first - position > 1 else f"(?!/)[{inside}]"
            position = end
        elif character == "*":
            if pieces[-1] or len(pieces) == 1:
                pieces.append("")
        else:
            pieces[-1] += "[^/]" if character == "?" else re.escape(character)
        position += 1
    first_piece, *others = pieces
    if not others:
        return first_piece
    return first_piece + "".join(f"(?>[^/]*?{piece})" for piece in others[:-1]) + f"[^/]*{others[-1]}"


def matches(pattern: str, path: str) -> bool:
    """Return whether a relative path matches; a pattern without a slash is about the last name."""
    subject = path if "/" in pattern else path.rstrip("/").rpartition("/")[2]
    return compiled(pattern).fullmatch(subject) is not None
