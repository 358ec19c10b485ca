"""What all commands have in common."""

import argparse
import os
import subprocess
import sys

import pytest

from osstorchconnector.cli.__main__ import COMMANDS, build_parser, main

from .conftest import Osst


def help_lines(command: str | None) -> dict[str, str | None]:
    for action in build_parser(command)._actions:
        if isinstance(action, argparse._SubParsersAction):
            return {choice.dest: choice.help for choice in action._choices_actions}
    raise AssertionError("there is no list of commands")


@pytest.mark.parametrize("command", COMMANDS)
def test_the_table_says_of_each_command_what_its_module_says(command: str) -> None:
    assert help_lines(command) == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    assert f"usage: osst {command} " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["lst"], "'lst' is not one: did you mean ls?"),
        (["chekpoint", "ls"], "did you mean checkpoint?"),
        (["zzz"], f"'zzz' is not one: choose from {', '.join(COMMANDS)}\n"),
        (["ls", "--jsno"], "unrecognized arguments: --jsno: did you mean --json?"),
        (["ls", "--jsno=1"], "did you mean --json?"),
        (["cp", "a", "oss://bucket/a", "--bandwith", "1M"], "did you mean --bandwidth?"),
        (["checkpoint", "verfy", "oss://bucket"], "did you mean verify?"),
        (["presign", "oss://bucket/a", "--method", "PUTT"], "did you mean PUT?"),
        (["ls", "--zzzzzz"], "unrecognized arguments: --zzzzzz\n"),
    ],
)
def test_a_wrong_word_says_which_one_was_probably_meant(
    capsys: pytest.CaptureFixture[str], arguments: list[str], complaint: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    shown = capsys.readouterr()
    assert complaint in shown.err
    assert "--help` shows what it takes" in shown.err
    assert shown.out == ""


def test_options_may_stand_between_arguments(osst: Osst, bucket: str) -> None:
    ended = osst("rm", "-f", f"oss://{bucket}/a", "--json", f"oss://{bucket}/b")
    assert [item["uri"] for item in ended.documents] == [f"oss://{bucket}/a", f"oss://{bucket}/b"]


# Each of them takes 5 to 500 ms to import.
SLOW = {
    "torch",
    "numpy",
    "fsspec",
    "tqdm",
    "ssl",
    "http.client",
    "urllib.request",
    "email.utils",
    "xml",
    "uuid",
    "asyncio",
}


@pytest.mark.parametrize(
    ("arguments", "more"),
    [
        (["--help"], {"osstorchconnector.connection.client", "osstorchconnector.exceptions", "logging", "tempfile"}),
        (["--version"], {"osstorchconnector.connection.client", "osstorchconnector.exceptions"}),
        (["ls", "oss://bucket", "--endpoint", "http://127.0.0.1:9", "--region", "r"], {"concurrent.futures"}),
        (["ls", "--help"], set()),
        (["configure", "--list"], set()),
    ],
)
def test_a_command_starts_without_what_it_does_not_need(arguments: list[str], more: set[str]) -> None:
    program = (
        "import sys; from osstorchconnector.cli.__main__ import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "print('modules', *sys.modules)"
    )
    key = {"OSS_ACCESS_KEY_ID": "id", "OSS_ACCESS_KEY_SECRET": "made-up"}
    command = [sys.executable, "-c", program, *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **key})
    loaded = set(ended.stdout.splitlines()[-1].split())
    assert loaded & (SLOW | more) == set()
