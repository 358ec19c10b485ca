"""``osst rm``: deleting objects."""

import argparse
import threading
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING, Final

from osstorchconnector.cli.batch import run_all
from osstorchconnector.cli.client_arguments import add_arguments, connect
from osstorchconnector.cli.ending import report, say
from osstorchconnector.cli.globs import has_magic
from osstorchconnector.cli.listing import Object, Row, below, expand, split_uri
from osstorchconnector.cli.output import check_can_ask, confirm, emit, human
from osstorchconnector.cli.selection import Selection, add_selection
from osstorchconnector.exceptions import OssConfigError, OssNotFoundError

if TYPE_CHECKING:
    from osstorchconnector.connection.client import OssClient

# The most that one request deletes.
_BATCH: Final = 1000

Deletion = tuple[str, Row]


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the tool."""
    parser = commands.add_parser(
        "rm",
        help="delete objects",
        description="Delete objects. What --recursive or a pattern names is counted first, and you are asked; without "
        "a terminal, --yes is needed. Deleted objects cannot be restored, unless the bucket keeps versions.",
    )
    parser.add_argument("uris", nargs="+", metavar="URI", help="oss://bucket/key, oss://bucket/prefix or a pattern")
    parser.add_argument("-r", "--recursive", action="store_true", help="delete everything below a directory")
    parser.add_argument("-f", "--force", action="store_true", help="it is no error if an object does not exist")
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask")
    parser.add_argument("--dry-run", action="store_true", help="print what would be deleted, and delete nothing")
    parser.add_argument("-v", "--verbose", action="store_true", help="print the URI of each deleted object")
    parser.add_argument("--json", action="store_true", help="print one JSON object for each deleted object")
    parser.add_argument("--no-glob", dest="glob", action="store_false", help="*, ? and [ stand for themselves")
    add_selection(parser)
    add_arguments(parser)
    parser.set_defaults(run=_run, parser=parser)


def _run(options: argparse.Namespace) -> int:
    plain: list[str] = []
    many: list[str] = []
    # All arguments, before anything is deleted.
    for uri in options.uris:
        _, name = split_uri(uri)
        if options.recursive or (options.glob and has_magic(name)):
            check_can_ask(options, "rm of more than one object")
            many.append(uri)
        elif not name or name.endswith("/"):
            raise OssConfigError(f"{uri} is a directory: give --recursive to delete everything below it")
        else:
            plain.append(uri)
    client = connect(options)
    status = 0
    for uri in plain:
        status |= _delete_one(client, uri, options)
    several = [_found(client, uri, options) for uri in many]
    if several:
        status |= _delete_several(client, chain.from_iterable(several), options)
    return status


def _delete_one(client: "OssClient", uri: str, options: argparse.Namespace) -> int:
    selection = Selection.of(options)
    if not options.force or selection.newer is not None:
        # OSS does not say whether there was an object.
        try:
            found = client.stat(uri)
        except OssNotFoundError:
            if options.force:
                return 0
            raise
        modified = found.last_modified.timestamp() if found.last_modified else 0.0
    else:
        modified = 0.0
    if not selection.takes(uri.rpartition("/")[2], modified):
        return 0
    if not options.dry_run:
        client.delete(uri)
    _show(uri, options)
    return 0


def _found(client: "OssClient", uri: str, options: argparse.Namespace) -> Iterator[Deletion]:
    selection = Selection.of(options)
    for one in expand(client, uri, glob=options.glob):
        if isinstance(one, Object):
            if selection.takes(one.row.key.rpartition("/")[2], one.row.modified):
                yield one.bucket, one.row
        elif options.recursive:
            yield from (
                (one.bucket, row)
                for row in below(client, one)
                if selection.takes(row.key[len(one.prefix) :], row.modified)
            )
        else:
            report("rm", f"{one.uri} is a directory, and was left out: give --recursive")


def _delete_several(client: "OssClient", found: Iterator[Deletion], options: argparse.Namespace) -> int:
    if options.dry_run:
        for bucket, row in found:
            _show(f"oss://{bucket}/{row.key}", options)
        return 0
    if not options.yes:
        # What was counted is what is deleted, even if more appears meanwhile.
        held = list(found)
        if not held:
            report("rm", "nothing to delete")
            return 0
        size = sum(row.size for _, row in held)
        what = " and ".join(options.uris)
        objects = "1 object" if len(held) == 1 else f"{len(held)} objects"
        confirm(f"delete {objects} of {human(size)} from {what}")
        found = iter(held)
    uris = (f"oss://{bucket}/{row.key}" for bucket, row in found)
    deleted, failed = delete_all("rm", client, uris, lambda uri: _show(uri, options, dry=False))
    report("rm", f"{deleted} deleted" + (", some could not be deleted" if failed else ""))
    return int(failed)


def delete_all(
    command: str, client: "OssClient", found: Iterable[str], show: Callable[[str], object]
) -> tuple[int, bool]:
    """Delete objects, a thousand in each request, and several requests at once.

    Returns:
        How many were deleted, and whether a request failed.
    """
    counted = 0
    counting = threading.Lock()

    def task(uris: list[str]) -> Callable[[], None]:
        def delete() -> None:
            nonlocal counted
            client.delete_many(uris)
            with counting:
                counted += len(uris)
                for uri in uris:
                    show(uri)

        return delete

    rows = iter(found)
    batches = iter(lambda: list(islice(rows, _BATCH)), [])
    outcome = run_all(command, ((f"{uris[0]} and {len(uris) - 1} more", task(uris)) for uris in batches))
    return counted, outcome.failed > 0


def _show(uri: str, options: argparse.Namespace, *, dry: bool | None = None) -> None:
    dry = options.dry_run if dry is None else dry
    if options.json:
        emit({"action": "delete", "uri": uri, "status": "planned" if dry else "done"})
    elif dry:
        say(f"would delete {uri}")
    elif options.verbose:
        say(f"deleted {uri}")
