"""``osst``, also ``python -m osstorchconnector.cli``."""

import argparse
import sys
from collections.abc import Sequence

from osstorchconnector import __version__
from osstorchconnector.cli import checkpoint, cp, emulator, manifest, uploads


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status.

    Args:
        arguments: The command line without the program's name. Default: that of this process.
    """
    parser = argparse.ArgumentParser(
        prog="osst", description="Tools of osstorchconnector, the PyTorch connector for OSS"
    )
    parser.add_argument("--version", action="version", version=f"osst {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    checkpoint.add_parser(commands)
    cp.add_parser(commands)
    emulator.add_parser(commands)
    manifest.add_parser(commands)
    uploads.add_parser(commands)
    options = parser.parse_args(arguments)
    status: int = options.run(options)
    return status


if __name__ == "__main__":
    sys.exit(main())
