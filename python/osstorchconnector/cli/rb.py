"""``osst rb``: removing buckets."""

import argparse
from typing import TYPE_CHECKING

from osstorchconnector.cli.buckets import bucket_of
from osstorchconnector.cli.client_arguments import add_arguments, connect
from osstorchconnector.cli.ending import report, say
from osstorchconnector.cli.listing import Directory, below
from osstorchconnector.cli.output import check_can_ask, confirm, human
from osstorchconnector.cli.rm import delete_all
from osstorchconnector.connection.unfinished_uploads import abort, find_unfinished

if TYPE_CHECKING:
    from osstorchconnector.connection.client import OssClient


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the tool."""
    parser = commands.add_parser(
        "rb",
        help="remove buckets",
        description="Remove empty buckets, or with --recursive also what is in them. It asks first; without a "
        "terminal, --yes is needed. Another account can take the name of a removed bucket.",
    )
    parser.add_argument("buckets", nargs="+", type=bucket_of, metavar="oss://BUCKET", help="the buckets to remove")
    parser.add_argument(
        "-r", "--recursive", action="store_true", help="first delete all objects and give up all unfinished uploads"
    )
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask")
    parser.add_argument("--dry-run", action="store_true", help="print what would be deleted, and delete nothing")
    add_arguments(parser)
    parser.set_defaults(run=_run, parser=parser)


def _run(options: argparse.Namespace) -> int:
    check_can_ask(options, "rb")
    client = connect(options)
    status = 0
    for name in options.buckets:
        status |= _remove(client, name, options)
    return status


def _remove(client: "OssClient", name: str, options: argparse.Namespace) -> int:
    bucket = Directory(name, "")
    count = size = 0
    if options.recursive:
        for row in below(client, bucket):
            count += 1
            size += row.size
            if options.dry_run:
                say(f"would delete oss://{name}/{row.key}")
    if options.dry_run:
        say(f"would remove oss://{name}")
        return 0
    if not options.yes:
        confirm(f"remove oss://{name}" + (f" with {count} objects of {human(size)}" if options.recursive else ""))
    if options.recursive:
        deleted, failed = delete_all("rb", client, (f"oss://{name}/{row.key}" for row in below(client, bucket)), _quiet)
        for upload in find_unfinished(client, f"oss://{name}"):
            abort(client, upload)
        if failed:
            report("rb", f"oss://{name}: {deleted} deleted, some could not be; the bucket stays")
            return 1
    client.delete_bucket(name)
    return 0


def _quiet(_uri: str) -> None:
    pass
