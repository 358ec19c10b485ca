"""``osst pull``: the files of a model."""

import argparse
import signal
import threading
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from osstorchconnector.cli.batch import run_all
from osstorchconnector.cli.client_arguments import add_arguments, connect
from osstorchconnector.cli.ending import end_without_threads, interrupt, report, said, say
from osstorchconnector.cli.listing import split_uri
from osstorchconnector.cli.output import emit, human
from osstorchconnector.cli.progress import Progress, add_progress, wants_progress
from osstorchconnector.cli.selection import Selection, add_selection
from osstorchconnector.cli.values import size
from osstorchconnector.connection.uri import check_local
from osstorchconnector.exceptions import OssConfigError, OssError
from osstorchconnector.files.transfer import local_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from osstorchconnector.connection.client import OssClient
    from osstorchconnector.model_files.copies import LocalCopies
    from osstorchconnector.model_files.download import Downloads
    from osstorchconnector.model_files.listing import ModelFile


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the tool."""
    parser = commands.add_parser(
        "pull",
        help="fetch the files of a model, with or without its weights",
        description="Fetch the files of a model: configuration, tokenizer, index and all others, but weights only with "
        "--weights. All files are of the version that was listed, and have the checksums of their objects. A file that "
        "is there already is not fetched again, so that an interrupted pull continues where it was.",
        epilog="The exit status is 0 if all files are there, 1 if one could not be fetched.",
    )
    parser.add_argument("model", metavar="MODEL", help="oss://bucket/directory of the model")
    parser.add_argument("directory", metavar="DIR", help="local directory, which is made if it does not exist")
    parser.add_argument("--weights", action="store_true", help="fetch the weights too")
    add_cache(parser, "keep the files in a cache of this machine too: in DIR are links to them")
    parser.add_argument("--dry-run", action="store_true", help="print what would be fetched, and fetch nothing")
    parser.add_argument("-v", "--verbose", action="store_true", help="print each file that was fetched")
    parser.add_argument("--json", action="store_true", help="print one JSON object for each file that was fetched")
    add_progress(parser)
    add_selection(parser)
    add_arguments(parser)
    parser.set_defaults(run=_run, parser=parser)


def _run(options: argparse.Namespace) -> int:
    check_model(options.model, options.parser)
    try:
        check_local(options.directory)
    except OssConfigError as error:
        options.parser.error(str(error))
    if Path(options.directory).exists() and not Path(options.directory).is_dir():
        options.parser.error(f"{options.directory} is a file: give a directory")
    check_cache(options)
    # The end of a job then removes partial files, as Ctrl-C does.
    signal.signal(signal.SIGTERM, interrupt)
    return _Pull(connect(options), options).run()


def add_cache(parser: argparse.ArgumentParser, text: str) -> None:
    """Add the options of the cache to a command; `text` says what keeping means for it."""
    parser.add_argument("--keep", action="store_true", help=text)
    parser.add_argument(
        "--cache",
        default="",
        metavar="DIR",
        help="directory of the cache, for --keep (default: $OSS_MODEL_CACHE, or ~/.cache/osstorchconnector/models)",
    )
    parser.add_argument(
        "--cache-size", type=size, metavar="SIZE", help="most bytes of the cache, such as 500G (default: the disk)"
    )


def check_cache(options: argparse.Namespace) -> None:
    """Exit with status 2 if the options of the cache cannot be meant."""
    parser: argparse.ArgumentParser = options.parser
    if not options.keep and (options.cache or options.cache_size is not None):
        parser.error("--cache and --cache-size are about the cache: give --keep too")


def cache_of(options: argparse.Namespace) -> "LocalCopies | None":
    """Return the cache that the options name; None if nothing is to be kept."""
    from osstorchconnector.model_files.copies import LocalCopies, cache_place  # noqa: PLC0415 - as below

    if not options.keep:
        return None
    place = Path(options.cache).absolute() if options.cache else cache_place()
    return LocalCopies(place, keep=True, limit=options.cache_size)


def check_model(uri: str, parser: argparse.ArgumentParser) -> None:
    """Exit with status 2 if an argument is not the URI of a directory."""
    try:
        split_uri(uri)
    except OssConfigError as error:
        parser.error(str(error))


class _Pull:
    """One run of the command."""

    def __init__(self, client: "OssClient", options: argparse.Namespace) -> None:
        self._client, self._options = client, options
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def run(self) -> int:
        from osstorchconnector.model_files.download import Downloads  # noqa: PLC0415 - `--help` needs none of it
        from osstorchconnector.model_files.listing import check_indices, model_files  # noqa: PLC0415

        options, selection = self._options, Selection.of(self._options)
        files = model_files(self._client, options.model)
        if options.weights and selection.everything:
            check_indices(self._client, files)
        wanted = [
            file
            for file in files
            if (options.weights or not file.is_weights) and selection.takes(file.path, file.modified)
        ]
        if not wanted:
            raise OssConfigError(f"there is nothing to fetch at {options.model}: {_left_out(files, options)}")
        total = sum(file.size for file in wanted)
        with Progress(options.model, total, shown=wants_progress(options) and not options.dry_run) as progress:
            downloads = Downloads(self._client, progress.advance, durable=True)
            cache = cache_of(options)
            if cache is not None and not options.dry_run:
                return self._link_all(cache, wanted, progress)
            outcome = run_all("pull", self._tasks(wanted, downloads, progress), stop=downloads.stop)
        if outcome.failed:
            report("pull", f"{outcome.failed} could not be fetched; the same command continues")
            return 1
        self._report()
        return 0

    def _report(self) -> None:
        options = self._options
        if not options.dry_run and not options.json:
            left = "" if options.weights else "; give --weights to fetch the weights too"
            report("pull", f"{self._counts['fetched']} fetched, {self._counts['same']} up to date{left}")

    def _link_all(self, cache: "LocalCopies", files: "list[ModelFile]", progress: Progress) -> int:
        from osstorchconnector.model_files.download import is_current, link_or_copy  # noqa: PLC0415 - as above

        try:
            copy = cache.acquire(
                self._client,
                self._options.model,
                files,
                advance=progress.advance,
                waiting=lambda: report("pull", "another process fetches these files; waiting for it"),
            )
        except KeyboardInterrupt:
            end_without_threads()
            raise
        try:
            for file in files:
                target = local_path(self._options.directory, file.path)
                if is_current(self._client, file, target):
                    self._count("same")
                    continue
                link_or_copy(copy.directory / file.path, target)
                progress.object_done()
                self._count("fetched")
                self._show(file, target)
        finally:
            copy.release()
        self._report()
        return 0

    def _tasks(
        self, files: "list[ModelFile]", downloads: "Downloads", progress: Progress
    ) -> "Iterator[tuple[str, Callable[[], object]]]":
        for file in files:
            yield file.uri, partial(self._fetch, file, downloads, progress)

    def _fetch(self, file: "ModelFile", downloads: "Downloads", progress: Progress) -> None:
        from osstorchconnector.model_files.download import is_current  # noqa: PLC0415 - as above

        target = local_path(self._options.directory, file.path)
        if is_current(self._client, file, target):
            progress.advance(file.size)
            self._count("same")
            return
        if not self._options.dry_run:
            try:
                downloads.one(file, target)
            except (OSError, OssError) as error:
                self._show(file, target, error=said(error))
                raise
            progress.object_done()
        self._count("fetched")
        self._show(file, target)

    def _show(self, file: "ModelFile", target: Path, *, error: str = "") -> None:
        dry = self._options.dry_run
        with self._lock:
            if self._options.json:
                status = "failed" if error else "planned" if dry else "done"
                document = {"action": "copy", "source": file.uri, "target": str(target), "size": file.size}
                emit(document | {"status": status} | ({"error": error} if error else {}))
            elif not error and (dry or self._options.verbose):
                say(f"{'would ' if dry else ''}copy {file.uri} to {target}")

    def _count(self, what: str) -> None:
        with self._lock:
            self._counts[what] += 1


def _left_out(files: "list[ModelFile]", options: argparse.Namespace) -> str:
    if not options.weights and all(file.is_weights for file in files):
        size = human(sum(file.size for file in files))
        return f"all {len(files)} files are weights, of {size}; give --weights"
    return "the selection leaves out all files"
