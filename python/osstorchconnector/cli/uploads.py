"""``osst uploads``: what killed writers have left behind."""

import argparse
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

from osstorchconnector.cli.client_arguments import add_arguments, connect
from osstorchconnector.connection.unfinished_uploads import UnfinishedUpload, abort, find_unfinished
from osstorchconnector.exceptions import OssError

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
# Longer than any save takes, so that nothing that is under way is given up by accident.
_OLD: Final = timedelta(days=1)


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the tool."""
    parser = commands.add_parser(
        "uploads",
        help="list and remove what unfinished uploads have left",
        description="A process that is killed while it writes a large object publishes nothing, but the parts that it "
        "has uploaded stay, and cost what objects cost, until the upload is given up.",
    )
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")
    listing = actions.add_parser("ls", help="list unfinished uploads: when begun, identifier, object")
    sweep = actions.add_parser("sweep", help="give up unfinished uploads that are old, and remove their parts")
    for action, run, least in ((listing, _list, timedelta(0)), (sweep, _sweep, _OLD)):
        action.add_argument("prefix", metavar="oss://BUCKET/PREFIX", help="where the objects are")
        action.add_argument(
            "--older-than",
            type=_age,
            default=least,
            metavar="AGE",
            help="only those begun so long ago: a number with s, m, h or d "
            f"(default: {'1d' if least else 'all of them'})",
        )
        add_arguments(action)
        action.set_defaults(run=run)


def _list(options: argparse.Namespace) -> int:
    try:
        for upload in _old_ones(options):
            sys.stdout.write(f"{upload.started:%Y-%m-%dT%H:%M:%SZ}  {upload.upload_id}  {upload.uri}\n")
    except OssError as error:
        return _failed(error)
    return 0


def _sweep(options: argparse.Namespace) -> int:
    count = 0
    try:
        client = connect(options)
        for upload in _old_ones(options):
            abort(client, upload)
            count += 1
            sys.stdout.write(f"given up: {upload.upload_id}  {upload.uri}\n")
    except OssError as error:
        return _failed(error)
    sys.stdout.write(f"{count} given up\n")
    return 0


def _old_ones(options: argparse.Namespace) -> Iterator[UnfinishedUpload]:
    before = datetime.now(UTC) - options.older_than
    # The service's clock may be ahead of this one.
    everything = not options.older_than
    return (
        upload for upload in find_unfinished(connect(options), options.prefix) if everything or upload.started <= before
    )


def _failed(error: OssError) -> int:
    sys.stderr.write(f"osst uploads: {error}\n")
    return 1


def _age(text: str) -> timedelta:
    match = re.fullmatch(r"(\d+)([smhd])", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no age: write a number with s, m, h or d, such as 12h")
    return timedelta(seconds=int(match[1]) * _UNITS[match[2]])
