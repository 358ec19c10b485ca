"""``osst``, also ``python -m osstorchconnector.cli``."""

import importlib
import sys
from collections.abc import Sequence
from typing import Final

from osstorchconnector._native import __version__
from osstorchconnector.cli.ending import finish
from osstorchconnector.cli.parser import Parser

#: Each command, which is the name of its module, and its line in ``osst --help``. Only the module of the command in
#: use is imported, so that each starts fast.
COMMANDS: Final = {
    "bench": "measure reading, and say what limits it",
    "cat": "write objects to standard output",
    "checkpoint": "list, verify, convert and remove checkpoints",
    "completion": "print the completion script of a shell",
    "configure": "make, show and remove profiles",
    "cp": "copy files and objects",
    "doctor": "check the connection, the rights, the speed and this machine",
    "du": "count objects and bytes",
    "emulator": "run an OSS server on this machine",
    "env": "print lines to export for a profile or a running emulator",
    "ls": "list buckets, objects and directories",
    "manifest": "write the objects under a prefix into a manifest",
    "mb": "make buckets",
    "mv": "move files and objects",
    "presign": "print URLs that need no access key",
    "pull": "fetch the files of a model, with or without its weights",
    "rb": "remove buckets",
    "rm": "delete objects",
    "run": "run a command with the files of a model in shared memory",
    "stat": "show what OSS tells of objects",
    "sync": "make a directory or prefix like another one",
    "top": "show what running jobs wait for",
    "uploads": "list unfinished uploads and remove their parts",
    "verify": "compare sizes and checksums of objects, copies, manifests and checkpoints",
}


def build_parser(command: str | None) -> Parser:
    """Return the parser; only the parser of `command` knows its arguments.

    Args:
        command: The command in use. None: only the list of the commands is needed.
    """
    parser = Parser(
        prog="osst",
        description="Tools of osstorchconnector, the PyTorch connector for OSS",
        epilog="`osst COMMAND --help` shows what a command takes. The exit status is 0 if all was done, 1 if something "
        "was not, 2 if the arguments are wrong, 130 after Ctrl-C, and 141 if the reader of the output went away.",
    )
    parser.add_argument("--version", action="version", version=f"osst {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND", dest="command")
    for name, text in COMMANDS.items():
        if name == command:
            importlib.import_module(f"osstorchconnector.cli.{name}").add_parser(commands)
        else:
            commands.add_parser(name, help=text, add_help=False)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status.

    Args:
        arguments: The command line without the program's name. Default: that of this process.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    # Options of the tool itself end the program, so the first word that is no option is the command.
    command = next((word for word in words if not word.startswith("-")), None)
    return finish(command or "", lambda: _run(command, words))


def _run(command: str | None, words: list[str]) -> int:
    options = build_parser(command).parse_args(words)
    status: int = options.run(options)
    return status


if __name__ == "__main__":
    sys.exit(main())
