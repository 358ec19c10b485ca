"""Copying many files and objects: what ``cp``, ``mv`` and ``sync`` have in common."""

import argparse
import os
import signal
import stat
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from osstorchconnector.cli.batch import Outcome, run_all
from osstorchconnector.cli.client_arguments import connect
from osstorchconnector.cli.ending import interrupt, report, said, say
from osstorchconnector.cli.globs import has_magic, literal_start
from osstorchconnector.cli.listing import Object, Row, below, expand
from osstorchconnector.cli.output import emit, human
from osstorchconnector.cli.progress import Progress
from osstorchconnector.cli.selection import Selection
from osstorchconnector.cli.values import size as size_value
from osstorchconnector.connection.uri import split_prefix
from osstorchconnector.exceptions import OssConfigError, OssError
from osstorchconnector.files.limit import RateLimit
from osstorchconnector.files.transfer import Transfer, is_remote, local_path, walk

if TYPE_CHECKING:
    from osstorchconnector.connection.client import OssClient

_KIB: Final = 1 << 10
_MIB: Final = 1 << 20


@dataclass(frozen=True)
class Item:
    """A file or an object to copy."""

    source: str
    #: Its path below the target directory.
    path: str
    size: int
    #: When it was written last, in Unix time.
    modified: float
    #: The ETag of an object; empty for a file, and for a link, which has another one in listings.
    etag: str = ""


def add_copy_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that these commands have in common."""
    parser.add_argument("--dry-run", action="store_true", help="print what would be done, and do nothing")
    parser.add_argument("-v", "--verbose", action="store_true", help="print each file and object that was done")
    parser.add_argument("--json", action="store_true", help="print one JSON object for each file and object")
    parser.add_argument("--no-glob", dest="glob", action="store_false", help="*, ? and [ stand for themselves in URIs")
    parser.add_argument(
        "--no-resume",
        dest="resume",
        action="store_false",
        help="begin large files at their start, and leave nothing of one that ends early to a later run",
    )
    parser.add_argument(
        "--bandwidth",
        type=size_value,
        metavar="RATE",
        help="most bytes a second, such as 50M, of all transfers of this command between this machine and OSS "
        "together; copies inside of OSS are not limited",
    )


def limited_client(options: argparse.Namespace) -> "OssClient":
    """Return the client of a command, which reads no farther ahead than the bandwidth of a second."""
    from osstorchconnector.connection.config import OssConfig  # noqa: PLC0415 - as `connect`

    rate: int | None = options.bandwidth
    if rate is None:
        return connect(options)
    # The bounds are those of OssConfig: its smallest window and part, and its defaults.
    window = max(64 * _KIB, min(rate, 256 * _MIB))
    return connect(options, OssConfig(reader_window=window, part_size=max(100 * _KIB, min(rate, 8 * _MIB))))


class Copier:
    """Copies items, and shows what it does."""

    def __init__(
        self, client: "OssClient", options: argparse.Namespace, progress: Progress, *, keep_times: bool
    ) -> None:
        """Prepare.

        Args:
            client: Reads and writes objects.
            options: The options of the command.
            progress: Counts.
            keep_times: Give a local file the time of its object.
        """
        self._client, self._options, self._progress = client, options, progress
        self._keep_times = keep_times
        self._verb = "move" if options.command == "mv" else "copy"
        limit = RateLimit(options.bandwidth) if options.bandwidth else None
        self.transfer = Transfer(
            client,
            progress.advance,
            (sys.stdin.buffer, sys.stdout.buffer),
            limit,
            resume=options.resume,
            continued=self._say_continued,
        )
        self._printing = threading.Lock()
        # The end of a job then removes partial files, as Ctrl-C does.
        signal.signal(signal.SIGTERM, interrupt)

    def copy_all(
        self,
        items: Iterable[Item],
        directory: str,
        *,
        check: Callable[[Item], object],
        then: Callable[[Item], object] | None = None,
    ) -> Outcome:
        """Copy items to their paths below a directory; report each failure and continue.

        Args:
            items: What to copy.
            directory: Local directory or prefix.
            check: Called with each item, in order, before it is copied. If it raises an OssConfigError, the item is not
                copied.
            then: Called after each item that was copied whole.
        """

        def tasks() -> Iterator[tuple[str, Callable[[], object]]]:
            for item in items:
                try:
                    check(item)
                except OssConfigError as error:
                    yield item.source, partial(self._refuse, item, directory, error)
                else:
                    yield item.source, partial(self.copy_below, item, directory, then=then)

        return run_all(self._options.command, tasks(), stop=self.transfer.stop)

    def _say_continued(self, source: str, count: int) -> None:
        report(self._options.command, f"{source} is continued after {human(count)} of an earlier run")

    def _refuse(self, item: Item, directory: str, error: OssConfigError) -> None:
        if self._options.json:
            self.show(
                self._verb, item.source, f"{directory.removesuffix('/')}/{item.path}", item.size, error=said(error)
            )
        raise error

    def copy(self, item: Item, target: str, *, then: Callable[[Item], object] | None = None) -> None:
        """Copy one item.

        Raises:
            OssError: It was not copied.
        """
        verb = self._verb
        if item.source == target:
            # After the copy, `mv` would delete it.
            raise OssConfigError(f"{target} is the source itself: give another target")
        if self._options.dry_run:
            self.show(verb, item.source, target, item.size)
            return
        try:
            if is_remote(item.source):
                self.transfer.run_object(item.source, item.size, target)
            else:
                self.transfer.run(item.source, target)
            if self._keep_times and not is_remote(target):
                os.utime(target, (item.modified, item.modified))
            if then is not None:
                then(item)
        except (OSError, OssError) as error:
            if self._options.json and not isinstance(error, BrokenPipeError):
                self.show(verb, item.source, target, item.size, error=said(error))
            raise
        self._progress.object_done()
        self.show(verb, item.source, target, item.size)

    def show(self, verb: str, source: str, target: str | None, size: int | None = None, *, error: str = "") -> None:
        """Print one action, as the options want it."""
        dry = self._options.dry_run
        with self._printing:
            if self._options.json:
                status = "failed" if error else "planned" if dry else "done"
                document: dict[str, object] = {"action": verb, "source": source}
                document |= {} if target is None else {"target": target, "size": size}
                emit(document | {"status": status} | ({"error": error} if error else {}))
            elif dry or self._options.verbose:
                to = "" if target is None else f" to {target}"
                say(f"{'would ' if dry else ''}{verb} {source}{to}")

    def copy_below(self, item: Item, directory: str, *, then: Callable[[Item], object] | None = None) -> None:
        """Copy one item to its path below a local directory or a prefix, and make the directories of that path.

        Raises:
            OssError: It was not copied, or no file can have its path.
        """
        if not is_remote(item.source):
            check_regular(Path(item.source))
        if is_remote(directory):
            self.copy(item, f"{directory.removesuffix('/')}/{item.path}", then=then)
            return
        file = local_path(directory, item.path.removesuffix("/")) if item.path else Path(directory)
        if not item.path or item.path.endswith("/"):
            if item.size:
                # The file would have the path of the object without the slash.
                raise OssConfigError(
                    f"{item.source} has content, but its key ends with a slash: no file can be named so"
                )
            # A directory marker.
            if not self._options.dry_run:
                _make_directory(file)
                if then is not None:
                    then(item)
            return
        if not self._options.dry_run:
            _make_directory(file.parent)
        self.copy(item, str(file), then=then)


def find(client: "OssClient", sources: list[str], options: argparse.Namespace) -> Iterator[Item]:
    """Find what the sources name, with each item's path below the target directory.

    Raises:
        OssConfigError: A source names nothing, or is a directory without ``--recursive``.
        OssError: A prefix cannot be listed.
    """
    selection = Selection.of(options)
    for source in sources:
        # What is below one directory keeps its path below it. Several would mix, so each keeps its own name too.
        items = _remote(client, source, options) if is_remote(source) else _local(source, recursive=options.recursive)
        name = PurePosixPath(source).name if len(sources) > 1 else ""
        for relative, item in items:
            if selection.everything or selection.takes(item.path, item.modified):
                if relative and name and not has_magic(source):
                    yield replace(item, path=f"{name}/{item.path}")
                else:
                    yield item


def _item(uri: str, path: str, row: Row) -> Item:
    return Item(uri, path, row.size, row.modified, "" if row.type == "Symlink" else row.etag)


def _remote(client: "OssClient", source: str, options: argparse.Namespace) -> Iterator[tuple[bool, Item]]:
    """Yield items, each with whether its path is one below the source."""
    _, name = split_prefix(source)
    magic = options.glob and has_magic(name)
    # The names before the first pattern are not part of the path.
    start = literal_start(name).rpartition("/")[0] if magic else ""
    for one in expand(client, source, glob=options.glob):
        if isinstance(one, Object):
            path = one.row.key[len(start) :].removeprefix("/") if magic else one.row.key.rpartition("/")[2]
            yield False, _item(one.uri, path, one.row)
        elif options.recursive:
            cut = len(start) + (1 if start else 0) if magic else len(one.prefix)
            for row in below(client, one):
                yield True, _item(f"oss://{one.bucket}/{row.key}", row.key[cut:], row)
        elif magic:
            report(options.command, f"{one.uri} is a directory, and was left out: give --recursive")
        else:
            raise OssConfigError(f"{source} is a directory: give --recursive to copy everything below it")


def _local(source: str, *, recursive: bool) -> Iterator[tuple[bool, Item]]:
    root = Path(source)
    if not root.is_dir():
        yield False, file_item(root, root.name)
        return
    if not recursive:
        raise OssConfigError(f"{source} is a directory: give --recursive to copy everything below it")
    for path in walk(root):
        yield True, file_item(path, path.relative_to(root).as_posix())


def file_item(path: Path, relative: str) -> Item:
    """Return the item of a local file."""
    try:
        status = path.stat()
    except OSError:
        # The copy says what is wrong, and the other files are still copied.
        return Item(str(path), relative, 0, 0.0)
    return Item(str(path), relative, status.st_size if stat.S_ISREG(status.st_mode) else 0, status.st_mtime)


def check_regular(path: Path) -> None:
    """Refuse a pipe, a socket or a device that was found in a directory: reading it could wait forever.

    Raises:
        OssConfigError: It is one.
    """
    try:
        mode = path.stat().st_mode
    except OSError:
        # Opening it says what is wrong.
        return
    if not stat.S_ISREG(mode):
        raise OssConfigError(f"{path} is a pipe, a socket or a device, not a file: leave it out with --exclude")


def _make_directory(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OssConfigError(f"the directory {path} cannot be made: {error.strerror}") from error
