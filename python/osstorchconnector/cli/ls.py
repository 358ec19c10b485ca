"""``osst ls``: buckets, objects and directories."""

import argparse
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from osstorchconnector._printable import printable
from osstorchconnector.cli.client_arguments import add_arguments, connect
from osstorchconnector.cli.listing import Directory, Object, Row, expand, pages
from osstorchconnector.cli.output import coloured, directory, emit, shown_size, utc
from osstorchconnector.cli.selection import Selection, add_selection

if TYPE_CHECKING:
    from osstorchconnector.connection.client import OssClient


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the tool."""
    parser = commands.add_parser(
        "ls",
        help="list buckets, objects and directories",
        description="List the buckets of the account, or what is below a directory or matches a pattern: time in UTC, "
        "size, URI. A name is an object or a directory; write oss://bucket/name* for all that begins with it.",
    )
    parser.add_argument("uris", nargs="*", metavar="URI", help="oss://bucket, oss://bucket/key or a pattern")
    parser.add_argument(
        "-r", "--recursive", action="store_true", help="list all objects below, not only the next level"
    )
    parser.add_argument("-1", "--names", action="store_true", help="print only the URIs")
    parser.add_argument("--bytes", action="store_true", help="print sizes as exact numbers of bytes")
    parser.add_argument("--json", action="store_true", help="print one JSON object for each line")
    parser.add_argument("--no-glob", dest="glob", action="store_false", help="*, ? and [ stand for themselves")
    add_selection(parser)
    add_arguments(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    client = connect(options)
    shown = _Shown(options)
    if not options.uris:
        for name in client.list_buckets():
            shown.bucket(name)
    selection = Selection.of(options)
    for uri in options.uris:
        for found in expand(client, uri, glob=options.glob):
            if isinstance(found, Object):
                name = found.row.key.rpartition("/")[2]
                shown.page(found.bucket, [found.row] if selection.takes(name, found.row.modified) else [], [])
            else:
                for rows, directories in _below(client, found, options, selection):
                    shown.page(found.bucket, rows, directories)
    return 0


def _below(
    client: "OssClient", found: Directory, options: argparse.Namespace, selection: Selection
) -> Iterator[tuple[list[Row], list[str]]]:
    start = len(found.prefix)
    listed = pages(client, found.bucket, found.prefix, delimiter="" if options.recursive else "/")
    for raw, directories in listed:
        rows = list(map(Row._make, raw))
        if not selection.everything:
            rows = [row for row in rows if selection.takes(row.key[start:], row.modified)]
        yield rows, directories


class _Shown:
    """Prints what was found, a page at a time: a listing may have millions of lines."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._colour = coloured(sys.stdout)

    def bucket(self, name: str) -> None:
        if self._options.json:
            emit({"type": "bucket", "uri": f"oss://{name}/"})
        else:
            sys.stdout.write(f"{directory(f'oss://{name}/', colour=self._colour)}\n")

    def page(self, bucket: str, rows: list[Row], directories: list[str]) -> None:
        options = self._options
        if options.json:
            for prefix in directories:
                emit({"type": "directory", "uri": f"oss://{bucket}/{prefix}", "key": prefix})
            for row in rows:
                emit(described(bucket, row))
            return
        before = "" if options.names else f"{'-':>20}  {'-':>{_width(options)}}  "
        lines = [f"{before}{directory(f'oss://{bucket}/{prefix}', colour=self._colour)}\n" for prefix in directories]
        if options.names:
            lines += [f"{printable(f'oss://{bucket}/{row.key}')}\n" for row in rows]
        else:
            width = _width(options)
            lines += [
                f"{utc(row.modified)}  {shown_size(row.size, exact=options.bytes):>{width}}  "
                f"{printable(f'oss://{bucket}/{row.key}')}\n"
                for row in rows
            ]
        sys.stdout.write("".join(lines))


def _width(options: argparse.Namespace) -> int:
    # An object has at most 48.8 TB, which is a number of 14 digits.
    return 14 if options.bytes else 10


def described(bucket: str, row: Row) -> dict[str, object]:
    """Return what a listing says of an object, for JSON."""
    return {
        "type": "object",
        "uri": f"oss://{bucket}/{row.key}",
        "key": row.key,
        "size": row.size,
        "modified": utc(row.modified),
        "etag": row.etag,
        "storage_class": row.storage_class,
        "object_type": row.type,
    }
