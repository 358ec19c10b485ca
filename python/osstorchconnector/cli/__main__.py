"""``osst``, also ``python -m osstorchconnector.cli``."""

import argparse
import sys
from collections.abc import Sequence
from typing import Final

from osstorchconnector import __version__
from osstorchconnector.cli import checkpoint, cp, emulator, manifest, uploads
from osstorchconnector.cli.ending import report

# The requirement of the commands about checkpoints, the only ones that need torch.
CHECKPOINTS_NEED: Final = "torch>=2.7"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status.

    Args:
        arguments: The command line without the program's name. Default: that of this process.
    """
    parser = argparse.ArgumentParser(
        prog="osst", description="Tools of osstorchconnector, the PyTorch connector for OSS"
    )
    parser.add_argument("--version", action="version", version=f"osst {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND", dest="command")
    checkpoint.add_parser(commands)
    cp.add_parser(commands)
    emulator.add_parser(commands)
    manifest.add_parser(commands)
    uploads.add_parser(commands)
    options = parser.parse_args(arguments)
    try:
        status: int = options.run(options)
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "torch":
            raise
        missing = isinstance(error, ModuleNotFoundError)
        report(options.command, f"needs PyTorch; run: pip install '{CHECKPOINTS_NEED}'" if missing else error)
        return 1
    return status


if __name__ == "__main__":
    sys.exit(main())
