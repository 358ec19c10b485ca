"""``osst sync``: making a directory or prefix like another one."""

import argparse
import contextlib
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from osstorchconnector._native import crc64
from osstorchconnector.cli.batch import run_all
from osstorchconnector.cli.client_arguments import add_arguments
from osstorchconnector.cli.copying import Copier, Item, add_copy_arguments, check_regular, file_item, limited_client
from osstorchconnector.cli.ending import report
from osstorchconnector.cli.listing import Directory, below
from osstorchconnector.cli.output import check_can_ask, confirm, human
from osstorchconnector.cli.progress import Progress, add_progress, wants_progress
from osstorchconnector.cli.rm import delete_all
from osstorchconnector.cli.selection import Selection, add_selection
from osstorchconnector.connection.nearest import nothing_below
from osstorchconnector.connection.uri import check_local, split_prefix
from osstorchconnector.exceptions import OssConfigError
from osstorchconnector.files.transfer import is_remote, walk

if TYPE_CHECKING:
    from osstorchconnector.connection.client import OssClient

_CHUNK: Final = 8 << 20


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the tool."""
    parser = commands.add_parser(
        "sync",
        help="make a directory or prefix like another one",
        description="Copy what is missing or different below DST from below SRC: what has another size, or is newer at "
        "SRC. Equal sizes with times that do not decide are compared by CRC-64. An interrupted sync continues where it "
        "was. A downloaded file gets the time of its object.",
        epilog="The exit status is 0 if DST is like SRC, 1 if something could not be copied; then nothing is deleted.",
    )
    parser.add_argument("source", metavar="SRC", help="local directory or oss://bucket/prefix")
    parser.add_argument("target", metavar="DST", help="local directory or oss://bucket/prefix")
    parser.add_argument(
        "--delete", action="store_true", help="delete what is below DST and not below SRC; it asks first"
    )
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask")
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--checksum", action="store_true", help="compare sizes and CRC-64, not times")
    group.add_argument("--size-only", action="store_true", help="compare only sizes")
    add_copy_arguments(parser)
    add_progress(parser)
    add_selection(parser)
    add_arguments(parser)
    parser.set_defaults(run=_run, parser=parser)


def _run(options: argparse.Namespace) -> int:
    source, target = options.source, options.target
    try:
        for path in (source, target):
            if not is_remote(path):
                check_local(path)
    except OssConfigError as error:
        options.parser.error(str(error))
    if not is_remote(source) and not is_remote(target):
        options.parser.error("neither SRC nor DST is an oss:// URI: at least one must be")
    if is_remote(source) and is_remote(target):
        inner, outer = sorted((f"{source.rstrip('/')}/", f"{target.rstrip('/')}/"), key=len, reverse=True)
        if inner.startswith(outer):
            options.parser.error(f"{inner} is below {outer}: they cannot be like each other")
    if options.delete:
        check_can_ask(options, "sync --delete")
    return _Sync(limited_client(options), options).run()


class _Sync:
    """One run of the command."""

    def __init__(self, client: "OssClient", options: argparse.Namespace) -> None:
        self._client, self._options = client, options
        self._source, self._target = options.source, options.target
        self._selection = Selection.of(options)
        self._counts: Counter[str] = Counter()
        self._counting = threading.Lock()

    def run(self) -> int:
        options = self._options
        there = {item.path: item for item in _items(self._client, self._target)}
        pairs = self._pairs(there)
        extra: list[Item] = []
        if options.delete:
            # All names of the source, before anything is asked, copied or deleted.
            pairs = iter(list(pairs))
            extra = [item for path, item in there.items() if self._selection.takes_name(path)]
            if extra and not options.yes and not options.dry_run:
                size = human(sum(item.size for item in extra))
                confirm(f"delete {len(extra)} of {size} from {self._target}, which {self._source} does not have")
        with Progress(f"{self._source} to {self._target}", None, shown=wants_progress(options)) as progress:
            copier = Copier(self._client, options, progress, keep_times=True)
            outcome = run_all(
                "sync",
                ((item.source, self._task(copier, item, existing)) for item, existing in pairs),
                stop=copier.transfer.stop,
            )
        if outcome.failed:
            kept = "; nothing was deleted" if options.delete else ""
            report("sync", f"{outcome.failed} could not be copied{kept}")
            return 1
        deleted, failed = self._delete(copier, extra) if extra else (0, False)
        if not options.dry_run and not options.json:
            removed = f", {deleted} deleted" if options.delete else ""
            report("sync", f"{self._counts['copied']} copied{removed}, {self._counts['same']} up to date")
        return int(failed)

    def _pairs(self, there: dict[str, Item]) -> Iterator[tuple[Item, Item | None]]:
        """Yield what to compare; what is left in `there` at the end is not below the source."""
        found = False
        for item in _items(self._client, self._source, needed=True):
            found = True
            existing = there.pop(item.path, None)
            if self._selection.takes(item.path, item.modified):
                yield item, existing
        if not found:
            # Otherwise, with --delete, a misspelt source would empty the target.
            said = nothing_below(self._client, *split_prefix(self._source)) if is_remote(self._source) else ""
            raise OssConfigError(f"there is nothing below {self._source}{said and ': '}{said}")

    def _task(self, copier: Copier, item: Item, existing: Item | None) -> Callable[[], None]:
        def task() -> None:
            if existing is None or self._differs(item, existing):
                copier.copy_below(item, self._target)
                self._count("copied")
            else:
                self._count("same")

        return task

    def _count(self, what: str) -> None:
        with self._counting:
            self._counts[what] += 1

    def _differs(self, item: Item, existing: Item) -> bool:
        if item.size != existing.size:
            return True
        if self._options.size_only:
            return False
        download = not is_remote(self._target)
        if not self._options.checksum:
            # OSS has whole seconds.
            new, old = int(item.modified), int(existing.modified)
            if new == old if download else new < old:
                return False
            if not download and new > old:
                return True
        # Written in the same second, or the file has another time than its object, as after `osst cp`.
        ours, theirs = self._crc64(item), self._crc64(existing)
        if ours is None or theirs is None:
            # An object may have no checksum.
            return self._options.checksum or item.modified > existing.modified
        if ours == theirs and download and not self._options.dry_run:
            os.utime(existing.source, (item.modified, item.modified))
        return ours != theirs

    def _crc64(self, item: Item) -> int | None:
        if is_remote(item.source):
            return self._client.stat(item.source).crc64
        check_regular(Path(item.source))
        try:
            with Path(item.source).open("rb") as file:
                value = 0
                while chunk := file.read(_CHUNK):
                    value = crc64(chunk, value)
        except OSError as error:
            raise OssConfigError(f"{item.source} cannot be read: {error.strerror}") from error
        return value

    def _delete(self, copier: Copier, extra: list[Item]) -> tuple[int, bool]:
        if self._options.dry_run:
            for item in extra:
                copier.show("delete", item.source, None)
            return 0, False
        if is_remote(self._target):
            return delete_all(
                "sync", self._client, (item.source for item in extra), lambda uri: copier.show("delete", uri, None)
            )
        outcome = run_all("sync", ((item.source, self._unlinker(copier, item)) for item in extra))
        return outcome.done, outcome.failed > 0

    def _unlinker(self, copier: Copier, item: Item) -> Callable[[], None]:
        def unlink() -> None:
            path = Path(item.source)
            path.unlink()
            copier.show("delete", item.source, None)
            for parent in path.parents:
                if parent == Path(self._target):
                    break
                with contextlib.suppress(OSError):
                    # One that is not empty stays.
                    parent.rmdir()

        return unlink


def _items(client: "OssClient", root: str, *, needed: bool = False) -> Iterable[Item]:
    """Yield all files or objects below a directory, without directory markers.

    Args:
        client: Lists objects.
        root: Local directory, or prefix.
        needed: It is an error if a local directory does not exist.
    """
    if is_remote(root):
        bucket, prefix = split_prefix(root)
        prefix += "" if not prefix or prefix.endswith("/") else "/"
        for row in below(client, Directory(bucket, prefix)):
            if row.key != prefix and not (row.size == 0 and row.key.endswith("/")):
                yield Item(f"oss://{bucket}/{row.key}", row.key[len(prefix) :], row.size, row.modified)
        return
    directory = Path(root)
    if directory.exists() and not directory.is_dir():
        raise OssConfigError(f"{root} is not a directory: `osst cp` copies a file")
    if not directory.exists() and needed:
        raise OssConfigError(f"{root} does not exist")
    for path in walk(directory) if directory.is_dir() else ():
        yield file_item(path, path.relative_to(directory).as_posix())
