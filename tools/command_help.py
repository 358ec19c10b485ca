"""Put the help of each command of `osst` into docs/guides/commands.md, below the heading of the command.

``python tools/command_help.py`` writes the file; a test compares it with what the commands say.
"""

import argparse
import os
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GUIDE = ROOT / "docs" / "guides" / "commands.md"

# All commands have these groups of options; the guide shows them once.
COMMON = ("selection", "connection")
_BLOCK = re.compile(r"(^#+ `?osst (?P<command>[a-z]+)`?.*?\n```text\n)(?P<help>.*?)(^```\n)", re.MULTILINE | re.DOTALL)


def parser_of(command: str) -> argparse.ArgumentParser:
    """Return the parser of a command, which writes lines of 100 characters."""
    from osstorchconnector.cli.__main__ import build_parser  # noqa: PLC0415 - the guide is checked without a build too

    os.environ["COLUMNS"] = "100"
    (commands,) = (action for action in build_parser(command)._actions if action.dest == "command")  # noqa: SLF001 - argparse has no public way to ask
    assert isinstance(commands.choices, dict)  # noqa: S101 - for the type checker
    parser: argparse.ArgumentParser = commands.choices[command]
    return parser


def help_of(command: str) -> str:
    """Return the help of a command without the common groups."""
    text = parser_of(command).format_help()
    for title in COMMON:
        text = re.sub(rf"^{title}:\n(?:(?:  .*)?\n)*?(?=\S|\Z)", "", text, flags=re.MULTILINE)
    return text.rstrip() + "\n"


def group_of(command: str, title: str) -> str:
    """Return the help of one of the common groups."""
    text = parser_of(command).format_help()
    match = re.search(rf"^{title}:\n((?:(?:  .*)?\n)*?)(?=\S|\Z)", text, flags=re.MULTILINE)
    assert match is not None, title  # noqa: S101 - every command of the guide has them
    return match[1].rstrip() + "\n"


def with_help(guide: str) -> str:
    """Return the guide with the help as it is now."""
    guide = _BLOCK.sub(lambda match: match[1] + help_of(match["command"]) + match[4], guide)
    return re.sub(
        r"(<!-- group (\w+) of (\w+) -->\n```text\n).*?(^```\n)",
        lambda match: match[1] + group_of(match[3], match[2]) + match[4],
        guide,
        flags=re.MULTILINE | re.DOTALL,
    )


def main() -> None:
    """Write the guide."""
    GUIDE.write_text(with_help(GUIDE.read_text()))


if __name__ == "__main__":
    main()
