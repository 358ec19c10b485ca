"""``osst mb``: making buckets."""

import argparse

from osstorchconnector.cli.buckets import bucket_of
from osstorchconnector.cli.client_arguments import add_arguments, connect


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the tool."""
    parser = commands.add_parser(
        "mb",
        help="make buckets",
        description="Make buckets in the region of the endpoint. It is no error if this account already has one.",
    )
    parser.add_argument("buckets", nargs="+", type=bucket_of, metavar="oss://BUCKET", help="the buckets to make")
    add_arguments(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    client = connect(options)
    for name in options.buckets:
        client.create_bucket(name)
    return 0
