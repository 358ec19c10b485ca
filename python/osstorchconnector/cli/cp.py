"""``osst cp``: copying files and objects."""

import argparse
import os
import signal
import sys
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING, Final

from osstorchconnector.cli.client_arguments import add_arguments, connect
from osstorchconnector.cli.ending import INTERRUPTED, interrupt, report
from osstorchconnector.connection.nearest import nothing_below
from osstorchconnector.connection.uri import check_local, split_prefix
from osstorchconnector.exceptions import OssConfigError, OssError
from osstorchconnector.files.progress import can_show, progress_bar
from osstorchconnector.files.transfer import STANDARD, Stopped, Transfer, below, is_remote, local_path, target_of

if TYPE_CHECKING:
    from osstorchconnector.connection.client import OssClient

# At 10 ms for each small file, more than a thousand are copied in a second. They take at most 128 MiB of memory.
_THREADS: Final = 16
# Enough to keep the threads busy; few enough that a listing of millions is not held in memory.
_WAITING: Final = 4 * _THREADS


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the tool."""
    parser = commands.add_parser(
        "cp",
        help="copy files and objects",
        description="Copy a file to an object, an object to a file, or an object to an object. SRC and DST are each a "
        "local path, oss://bucket/key, or - for standard input and output. DST is a directory if it ends with a slash. "
        "A copy appears whole or not at all.",
        epilog="The exit status is 0 if everything was copied, 1 if something was not, 2 if the arguments are wrong, "
        "130 after Ctrl-C.",
    )
    parser.add_argument("source", metavar="SRC", help="the file or object to copy")
    parser.add_argument("target", metavar="DST", help="the file, object or directory to copy to")
    parser.add_argument(
        "-r", "--recursive", action="store_true", help="copy everything below SRC to the same paths below DST"
    )
    parser.add_argument(
        "--progress",
        action=argparse.BooleanOptionalAction,
        help="show a progress bar (default: on a terminal, if tqdm is installed)",
    )
    add_arguments(parser)
    parser.set_defaults(run=_run, parser=parser)


def _run(options: argparse.Namespace) -> int:
    _check(options)
    # The end of a job then removes partial files, as Ctrl-C does.
    signal.signal(signal.SIGTERM, interrupt)
    try:
        client = connect(options)
        shown = options.progress if options.progress is not None else sys.stderr.isatty() and can_show()
        return (_copy_all if options.recursive else _copy)(client, options, shown=shown)
    except BrokenPipeError:
        # The program that reads standard output wants no more. Without this, the interpreter complains at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (OSError, OssError) as error:
        report("cp", error)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED


def _check(options: argparse.Namespace) -> None:
    parser: argparse.ArgumentParser = options.parser
    paths = (options.source, options.target)
    for path in paths:
        try:
            if not is_remote(path):
                check_local(path)
        except OssConfigError as error:
            parser.error(str(error))
    if not any(is_remote(path) for path in paths):
        parser.error("neither SRC nor DST is an oss:// URI: at least one must be")
    if options.recursive and STANDARD in paths:
        parser.error("--recursive needs directories, not standard input or output")


def _copy(client: "OssClient", options: argparse.Namespace, *, shown: bool) -> int:
    source, target = options.source, target_of(options.source, options.target)
    if source.endswith("/") or (not is_remote(source) and Path(source).is_dir()):
        raise OssConfigError(f"{source} is a directory: give --recursive to copy everything below it")
    with progress_bar(source, _size_of(source, client) if shown else None, shown=shown) as advance:
        Transfer(client, advance, (sys.stdin.buffer, sys.stdout.buffer)).run(source, target)
    return 0


def _size_of(source: str, client: "OssClient") -> int | None:
    if is_remote(source):
        return client.head(source).size
    path = Path(source)
    return path.stat().st_size if path.is_file() else None


def _copy_all(client: "OssClient", options: argparse.Namespace, *, shown: bool) -> int:
    failures = 0
    with (
        progress_bar(options.source, None, shown=shown) as advance,
        ThreadPoolExecutor(_THREADS, thread_name_prefix="osst-cp") as threads,
    ):
        transfer = Transfer(client, advance, (sys.stdin.buffer, sys.stdout.buffer))
        waiting: dict[Future[None], str] = {}
        count = 0
        try:
            for count, (source, path, size) in enumerate(below(options.source, client), start=1):  # noqa: B007 - the last number is the count
                waiting[threads.submit(_task(transfer, options.target, source, path, size))] = source
                if len(waiting) >= _WAITING:
                    failures += _finish(waiting, wait(waiting, return_when=FIRST_COMPLETED).done)
            failures += _finish(waiting, wait(waiting).done)
        except BaseException:
            transfer.stop()
            threads.shutdown(wait=False, cancel_futures=True)
            raise
    if count == 0:
        said = ""
        if is_remote(options.source):
            bucket, prefix = split_prefix(options.source)
            said = f": {nothing_below(client, bucket, prefix)}"
        raise OssConfigError(f"there is nothing below {options.source}{said}")
    if failures:
        report("cp", f"{failures} could not be copied")
    return 1 if failures else 0


def _task(transfer: Transfer, directory: str, source: str, path: str, size: int) -> Callable[[], None]:
    def task() -> None:
        if is_remote(directory):
            target = f"{directory.removesuffix('/')}/{path}"
        elif size == 0 and path.endswith("/"):
            # A directory marker.
            _make_directory(local_path(directory, path.removesuffix("/")))
            return
        elif not path and size == 0:
            _make_directory(Path(directory))
            return
        else:
            file = local_path(directory, path)
            _make_directory(file.parent)
            target = str(file)
        if is_remote(source):
            transfer.run_object(source, size, target)
        else:
            transfer.run(source, target)

    return task


def _finish(waiting: "dict[Future[None], str]", done: "set[Future[None]]") -> int:
    failures = 0
    for future in done:
        source = waiting.pop(future)
        try:
            future.result()
        except (OSError, OssError, Stopped) as error:
            failures += 1
            report("cp", f"{source}: {error}")
    return failures


def _make_directory(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OssConfigError(f"the directory {path} cannot be made: {error.strerror}") from error
