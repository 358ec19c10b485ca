"""Extension of griffe, which reads the API for the site: docstrings are made into Markdown.

Docstrings refer to names as Sphinx does, since editors and ``help`` show them so. Parameters that are described
together, because another class explains them, become parameters of their own.
"""

import re
from typing import Any, Final

import griffe

# :class:`~osstorchconnector.connection.client.OssClient`, or :meth:`get`.
_ROLE: Final = re.compile(r":(?:attr|class|data|exc|func|meth|mod):`(?P<short>~?)(?P<name>[^`]+)`")
# "text::" before an indented block, or "::" alone.
_LITERAL: Final = re.compile(r"(?P<text>\S?)::$", re.MULTILINE)
# "a, b, c: text", with the lines of the text.
_TOGETHER: Final = re.compile(
    r"^(?P<indent> +)(?P<names>\w+(?:, \w+)+): (?P<text>.*(?:\n(?P=indent) +\S.*)*)", re.MULTILINE
)


def _reference(match: re.Match[str], module: str) -> str:
    name = match["name"].removesuffix("()")
    shown = name.rpartition(".")[2] if match["short"] else match["name"]
    path = name if name.startswith("osstorchconnector.") else f"{module}.{name}"
    # Optional: what a docstring mentions need not be public.
    return f'<autoref identifier="{path}" optional><code>{shown}</code></autoref>'


def _apart(match: re.Match[str]) -> str:
    return "\n".join(f"{match['indent']}{name}: {match['text']}" for name in match["names"].split(", "))


def as_markdown(text: str, owner: str) -> str:
    """Return a docstring as Markdown; `owner` is the path of the class or module that short names belong to."""
    text = _ROLE.sub(lambda match: _reference(match, owner), text)
    text = _LITERAL.sub(lambda match: f"{match['text']}:" if match["text"] else "", text)
    return _TOGETHER.sub(_apart, text)


class MarkdownDocstrings(griffe.Extension):
    """Makes each docstring into Markdown before it is parsed."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:  # noqa: ANN401 - griffe passes what an extension may use
        """Replace the docstring of one object."""
        if obj.docstring is not None:
            owner = obj.parent if obj.is_function or obj.is_attribute else obj
            obj.docstring.value = as_markdown(obj.docstring.value, owner.path if owner is not None else obj.path)
