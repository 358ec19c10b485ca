"""``osst uploads``: the unfinished uploads of killed writers."""

import argparse
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

from osstorchconnector.cli.client_arguments import add_arguments, connect
from osstorchconnector.cli.ending import say
from osstorchconnector.cli.values import age
from osstorchconnector.connection.unfinished_uploads import UnfinishedUpload, abort, find_unfinished

# Longer than any save, so that no running upload is given up by accident.
_OLD: Final = timedelta(days=1)


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the tool."""
    parser = commands.add_parser(
        "uploads",
        help="list unfinished uploads and remove their parts",
        description="If a process is killed while it writes a large object, the object does not appear, but the "
        "uploaded parts stay. They cost as much as objects do, until the upload is given up.",
    )
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")
    listing = actions.add_parser("ls", help="list unfinished uploads: start time, identifier, object")
    sweep = actions.add_parser("sweep", help="give up old unfinished uploads, and remove their parts")
    for action, run, least in ((listing, _list, timedelta(0)), (sweep, _sweep, _OLD)):
        action.add_argument("prefix", metavar="oss://BUCKET/PREFIX", help="the prefix of the objects")
        action.add_argument(
            "--older-than",
            type=age,
            default=least,
            metavar="AGE",
            help="only uploads that are at least so old: a number with s, m, h or d "
            f"(default: {'1d' if least else 'all'})",
        )
        add_arguments(action)
        action.set_defaults(run=run)


def _list(options: argparse.Namespace) -> int:
    for upload in _old_ones(options):
        say(f"{upload.started:%Y-%m-%dT%H:%M:%SZ}  {upload.upload_id}  {upload.uri}")
    return 0


def _sweep(options: argparse.Namespace) -> int:
    count = 0
    client = connect(options)
    for upload in _old_ones(options):
        abort(client, upload)
        count += 1
        say(f"given up: {upload.upload_id}  {upload.uri}")
    say(f"{count} given up")
    return 0


def _old_ones(options: argparse.Namespace) -> Iterator[UnfinishedUpload]:
    before = datetime.now(UTC) - options.older_than
    # Without an age no time is compared, because the service's clock may be ahead of this one.
    everything = not options.older_than
    return (
        upload for upload in find_unfinished(connect(options), options.prefix) if everything or upload.started <= before
    )
