"""``osst mv``: moving files and objects."""

import argparse
import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from osstorchconnector.cli.client_arguments import add_arguments
from osstorchconnector.cli.copying import Item, limited_client
from osstorchconnector.cli.cp import add_copy_paths, check_paths, copy
from osstorchconnector.cli.selection import add_selection
from osstorchconnector.exceptions import OssConfigError, OssNotFoundError
from osstorchconnector.files.transfer import STANDARD, is_remote

if TYPE_CHECKING:
    from collections.abc import Callable

    from osstorchconnector.connection.client import OssClient


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the tool."""
    parser = commands.add_parser(
        "mv",
        help="move files and objects",
        description="Move files and objects: copy each as `osst cp` does, and delete it after its copy is whole. If it "
        "is interrupted, each object is at its old place, at the new one, or at both. What is overwritten "
        "meanwhile stays.",
    )
    add_copy_paths(parser, "move")
    add_selection(parser)
    add_arguments(parser)
    parser.set_defaults(run=_run, parser=parser)


def _run(options: argparse.Namespace) -> int:
    check_paths(options)
    if STANDARD in (*options.sources, options.target):
        options.parser.error("standard input and output cannot be moved: `osst cp` copies them")
    client = limited_client(options)
    status = copy(client, options, then=_remover(client))
    if options.recursive and not options.dry_run:
        for source in options.sources:
            if not is_remote(source):
                _remove_empty(Path(source))
    return status


def _remover(client: "OssClient") -> "Callable[[Item], object]":
    def remove(item: Item) -> None:
        if is_remote(item.source):
            _delete(client, item)
            return
        path = Path(item.source)
        try:
            status = path.stat()
            if (status.st_size, status.st_mtime) != (item.size, item.modified):
                raise OssConfigError(f"{item.source} changed while it was copied, and was not removed: move it again")
            path.unlink()
        except OSError as error:
            raise OssConfigError(f"{item.source} was copied, but cannot be removed: {error.strerror}") from error

    return remove


def _delete(client: "OssClient", item: Item) -> None:
    """Delete the object that was copied, and no newer one. OSS has no condition for a deletion."""
    try:
        now = client.stat(item.source)
    except OssNotFoundError:
        # Somebody else has deleted it.
        return
    modified = now.last_modified.timestamp() if now.last_modified else item.modified
    if item.etag and (now.etag, int(modified)) != (item.etag, int(item.modified)):
        raise OssConfigError(f"{item.source} was overwritten while it was copied, and was not deleted: move it again")
    client.delete(item.source)


def _remove_empty(root: Path) -> None:
    for directory, _, _ in os.walk(root, topdown=False):
        # One that is not empty stays.
        with contextlib.suppress(OSError):
            Path(directory).rmdir()
