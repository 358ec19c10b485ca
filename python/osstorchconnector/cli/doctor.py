"""``osst doctor``: whether the setup works, what is wrong with it, and what to do."""

import argparse
import signal

from osstorchconnector.cli.client_arguments import add_arguments
from osstorchconnector.cli.ending import interrupt


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the tool."""
    parser = commands.add_parser(
        "doctor",
        help="check the connection, the rights, the speed and this machine",
        description="Check everything between this machine and OSS, and say what to do about each problem. It takes "
        "less than ten seconds, and reads at most 64 MiB. Nothing is written without --write.",
        epilog="The exit status is 0 if all is well, 1 after a warning, 2 after a failure or wrong arguments, and 130 "
        "after Ctrl-C.",
    )
    parser.add_argument(
        "uri", nargs="?", default="", metavar="URI", help="a bucket or prefix, like oss://bucket/prefix/"
    )
    parser.add_argument(
        "--write",
        action="store_true",
        help="also try to write and delete: an object of 16 bytes below the URI, which is always deleted",
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument(
        "--bundle", metavar="FILE", help="also write a zip file to send to those who help; it holds no secret"
    )
    add_arguments(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    # The other commands need none of it.
    from osstorchconnector.cli.doctor_checks.examination import examine  # noqa: PLC0415

    # The probe object is then deleted, as after Ctrl-C.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    return examine(options)
