"""The examples in the guides pass."""

import importlib.util
import re
import sys
from pathlib import Path

from osstorchconnector.cli.__main__ import COMMANDS

GUIDES = Path(__file__).parents[1] / "docs" / "guides"


def test_the_help_of_the_commands_is_in_the_guide() -> None:
    spec = importlib.util.spec_from_file_location("command_help", GUIDES.parents[1] / "tools" / "command_help.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    written = (GUIDES / "commands.md").read_text()
    # Versions of argparse break lines at other places.
    assert module.with_help(written).split() == written.split(), "run: python tools/command_help.py"
    for command in ("cat", "cp", "du", "ls", "mv", "rm", "stat", "sync"):
        assert module.help_of(command) in written or sys.version_info >= (3, 13)


def test_each_command_of_the_guide_is_one_and_has_an_example() -> None:
    written = (GUIDES / "commands.md").read_text()
    sections = re.findall(r"^## osst (\w+)\n\n```sh\n(.*?)```\n", written, flags=re.MULTILINE | re.DOTALL)
    commands = {command for command, _ in sections}
    elsewhere = {"bench", "checkpoint", "doctor", "emulator", "manifest", "top", "uploads", "verify"}
    assert commands | elsewhere >= set(COMMANDS)
    assert commands <= set(COMMANDS)
    assert all(f"osst {command}" in example for command, example in sections)
