"""``osst cp``: copying files and objects."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from osstorchconnector.cli.client_arguments import add_arguments
from osstorchconnector.cli.collisions import Collisions, around
from osstorchconnector.cli.copying import Copier, Item, add_copy_arguments, file_item, find, limited_client
from osstorchconnector.cli.ending import report
from osstorchconnector.cli.globs import has_magic
from osstorchconnector.cli.progress import Progress, add_progress, wants_progress
from osstorchconnector.cli.selection import Selection, add_selection
from osstorchconnector.connection.uri import check_local, split_prefix
from osstorchconnector.exceptions import OssConfigError
from osstorchconnector.files.transfer import STANDARD, is_remote, target_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from osstorchconnector.connection.client import OssClient


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the tool."""
    parser = commands.add_parser(
        "cp",
        help="copy files and objects",
        description="Copy files to objects, objects to files, or objects to objects. SRC and DST are each a local "
        "path, oss://bucket/key, or - for standard input and output; SRC may be a pattern of URIs. DST is a directory "
        "if it ends with a slash, or if there are several SRC. A copy appears whole or not at all.",
        epilog="The exit status is 0 if everything was copied, 1 if something was not, 2 if the arguments are wrong, "
        "130 after Ctrl-C.",
    )
    add_copy_paths(parser, "copy")
    add_selection(parser)
    add_arguments(parser)
    parser.set_defaults(run=_run, parser=parser)


def add_copy_paths(parser: argparse.ArgumentParser, verb: str) -> None:
    """Add the arguments and options that ``cp`` and ``mv`` have in common."""
    parser.add_argument("sources", nargs="+", metavar="SRC", help=f"the files or objects to {verb}")
    parser.add_argument("target", metavar="DST", help=f"the file, object or directory to {verb} to")
    parser.add_argument(
        "-r",
        "--recursive",
        action="store_true",
        help=f"{verb} everything below SRC to the same paths below DST; several SRC keep their own names too",
    )
    add_copy_arguments(parser)
    add_progress(parser)


def _run(options: argparse.Namespace) -> int:
    check_paths(options)
    return copy(limited_client(options), options)


def check_paths(options: argparse.Namespace) -> None:
    """Exit with status 2 if the paths cannot be meant."""
    parser: argparse.ArgumentParser = options.parser
    paths = (*options.sources, options.target)
    for path in paths:
        try:
            if not is_remote(path):
                check_local(path)
        except OssConfigError as error:
            parser.error(str(error))
    if not is_remote(options.target) and not all(map(is_remote, options.sources)):
        parser.error("neither SRC nor DST is an oss:// URI: at least one must be")
    if STANDARD in paths and options.recursive:
        parser.error("--recursive needs directories, not standard input or output")
    if STANDARD in paths and len(options.sources) > 1:
        parser.error("several SRC need a directory, and none of them can be standard input")
    if STANDARD in paths and (options.json or options.verbose or options.dry_run):
        parser.error("--json, --verbose and --dry-run are not for standard input or output")


def copy(client: "OssClient", options: argparse.Namespace, *, then: "Callable[[Item], object] | None" = None) -> int:
    """Copy what the options name, and return the exit status.

    Args:
        client: Reads and writes objects.
        options: The options of ``cp`` or ``mv``.
        then: Called after each item that was copied whole.
    """
    source = options.sources[0]
    magic = options.glob and is_remote(source) and has_magic(split_prefix(source)[1])
    if options.recursive or magic or len(options.sources) > 1:
        return _copy_several(client, options, then)
    target = target_of(source, options.target)
    if source.endswith("/") or (not is_remote(source) and Path(source).is_dir()):
        raise OssConfigError(f"{source} is a directory: give --recursive to copy everything below it")
    shown = wants_progress(options)
    item = _described(source, client, options)
    if item is None:
        return 0
    total = item.size if is_remote(source) or Path(source).is_file() else None
    with Progress(source, total, shown=shown) as progress:
        Copier(client, options, progress, keep_times=False).copy(item, target, then=then)
    return 0


def _described(source: str, client: "OssClient", options: argparse.Namespace) -> Item | None:
    """Return the item of one plain source; None if the selection leaves it out."""
    if source == STANDARD:
        return Item(source, "", 0, 0.0)
    if is_remote(source):
        found = client.stat(source)
        modified = found.last_modified.timestamp() if found.last_modified else 0.0
        item = Item(source, source.rpartition("/")[2], found.size, modified, found.etag)
    else:
        item = file_item(Path(source), Path(source).name)
    return item if Selection.of(options).takes(item.path, item.modified) else None


def _copy_several(client: "OssClient", options: argparse.Namespace, then: "Callable[[Item], object] | None") -> int:
    target: str = options.target
    if not options.recursive and not target.endswith("/") and not Path(target).is_dir():
        raise OssConfigError(f"{target} must be a directory for several files: give {target}/")
    if len(options.sources) == 1 and options.recursive and not is_remote(options.sources[0]):
        _check_directory(Path(options.sources[0]))
    if is_remote(target):
        for source in filter(is_remote, options.sources):
            if options.recursive or "**" in source:
                _check_outside(source, target, glob=options.glob)
    found = 0

    def counted() -> "Iterator[Item]":
        nonlocal found
        for item in find(client, options.sources, options):
            found += 1
            yield item

    with Progress(" ".join(options.sources), None, shown=wants_progress(options)) as progress:
        copier = Copier(client, options, progress, keep_times=False)
        collisions = Collisions(options.sources, target, recursive=options.recursive, glob=options.glob)
        outcome = copier.copy_all(counted(), target, check=collisions.check, then=then)
    if not found:
        raise OssConfigError(f"there is nothing to copy below {' '.join(options.sources)}")
    if outcome.failed:
        verb = "moved" if options.command == "mv" else "copied"
        report(options.command, f"{outcome.failed} could not be {verb}")
    return 1 if outcome.failed else 0


def _check_directory(path: Path) -> None:
    if not path.is_dir():
        raise OssConfigError(f"{path} is not a directory: leave out --recursive to copy a file")


def _check_outside(source: str, target: str, *, glob: bool) -> None:
    """Refuse a directory inside of itself: the listing would find the copies."""
    if f"{target.removesuffix('/')}/".startswith(f"{around(source, glob=glob)}/"):
        raise OssConfigError(f"{target} is below {source}: the copies would be copied again")
