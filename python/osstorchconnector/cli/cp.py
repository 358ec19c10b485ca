"""``osst cp``: files and objects, from one place to another."""

import argparse
import os
import signal
import sys
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from osstorchconnector.cli.client_arguments import add_arguments, connect
from osstorchconnector.exceptions import OssConfigError, OssError
from osstorchconnector.files.progress import can_show, progress_bar
from osstorchconnector.files.transfer import STANDARD, Stopped, Transfer, below, is_remote, local_path, target_of

if TYPE_CHECKING:
    from types import FrameType

    from osstorchconnector.connection.client import OssClient

# What a shell gives a program that Ctrl-C ended.
_INTERRUPTED: Final = 130

# Small files at 10 ms each come at more than a thousand in a second, and hold 128 MiB at most.
_THREADS: Final = 16
# Enough to keep the threads busy, and few enough that a listing of millions is not held in memory.
_WAITING: Final = 4 * _THREADS


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the tool."""
    parser = commands.add_parser(
        "cp",
        help="copy files and objects",
        description="Copy a file to an object, an object to a file, or an object to another. A place is a local path, "
        "oss://bucket/key, or - for standard input and output; with a slash at its end it is a directory. "
        "What is copied appears whole or not at all.",
        epilog="The exit status is 0 when all was copied, 1 when something was not, 2 when the arguments are wrong.",
    )
    parser.add_argument("source", metavar="SRC", help="what to copy")
    parser.add_argument("target", metavar="DST", help="where to")
    parser.add_argument(
        "-r", "--recursive", action="store_true", help="copy what is below SRC to the same paths below DST"
    )
    parser.add_argument(
        "--progress",
        action=argparse.BooleanOptionalAction,
        help="show a bar (default: on a terminal, where tqdm is installed)",
    )
    add_arguments(parser)
    parser.set_defaults(run=_run, parser=parser)


def _run(options: argparse.Namespace) -> int:
    _check(options)
    # So that a job's end removes what is half-written, as Ctrl-C does.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        client = connect(options)
        shown = options.progress if options.progress is not None else sys.stderr.isatty() and can_show()
        return (_copy_all if options.recursive else _copy)(client, options, shown=shown)
    except BrokenPipeError:
        # Whoever read standard output has what they wanted; the interpreter is not to complain of it at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (OSError, OssError) as error:
        _tell(str(error))
        return 1
    except KeyboardInterrupt:
        return _INTERRUPTED


def _check(options: argparse.Namespace) -> None:
    parser: argparse.ArgumentParser = options.parser
    places = (options.source, options.target)
    if not any(is_remote(place) for place in places):
        parser.error("neither SRC nor DST is an oss:// URI")
    if options.recursive and STANDARD in places:
        parser.error("--recursive needs directories, not standard input or output")


def _copy(client: "OssClient", options: argparse.Namespace, *, shown: bool) -> int:
    source, target = options.source, target_of(options.source, options.target)
    if source.endswith("/") or (not is_remote(source) and Path(source).is_dir()):
        raise OssConfigError(f"{source} is a directory: give --recursive to copy what is below it")
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
        raise OssConfigError(f"nothing lies below {options.source}")
    if failures:
        _tell(f"{failures} could not be copied")
    return 1 if failures else 0


def _task(transfer: Transfer, directory: str, source: str, path: str, size: int) -> Callable[[], None]:
    def task() -> None:
        if is_remote(directory):
            target = f"{directory.removesuffix('/')}/{path}"
        elif size == 0 and path.endswith("/"):
            # An object that stands for a directory.
            _make_directory(local_path(directory, path.removesuffix("/")))
            return
        elif not path and size == 0:
            _make_directory(Path(directory))
            return
        else:
            place = local_path(directory, path)
            _make_directory(place.parent)
            target = str(place)
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
            _tell(f"{source}: {error}")
    return failures


def _make_directory(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OssConfigError(f"{path} cannot be made: {error.strerror}") from error


def _tell(text: str) -> None:
    sys.stderr.write(f"osst cp: {text}\n")


def _interrupt(_signal: int, _frame: "FrameType | None") -> NoReturn:
    raise KeyboardInterrupt
