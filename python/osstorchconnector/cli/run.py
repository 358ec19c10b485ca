"""``osst run``: a command with the files of a model in a directory of this machine."""

import argparse
import os
import secrets
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from osstorchconnector.cli.client_arguments import add_arguments, connect
from osstorchconnector.cli.command_process import CommandProcess
from osstorchconnector.cli.ending import end_without_threads, interrupt, report
from osstorchconnector.cli.output import human
from osstorchconnector.cli.progress import Progress, add_progress, wants_progress
from osstorchconnector.cli.pull import add_cache, cache_of, check_cache, check_model
from osstorchconnector.cli.selection import Selection, add_selection
from osstorchconnector.cli.uninterrupted import uninterrupted
from osstorchconnector.exceptions import OssConfigError

if TYPE_CHECKING:
    from osstorchconnector.model_files.copies import LocalCopies, LocalCopy

#: What stands for the directory in the words of the command.
_DIRECTORY: Final = "{dir}"


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the tool."""
    parser = commands.add_parser(
        "run",
        help="run a command with the files of a model in shared memory",
        description="Fetch all files of a model into shared memory, several at the same time and in the order in which "
        "programs read them, and run a command when all are there with their checksums. {dir} in the command is their "
        "directory. Runs at the same time share one copy; the last one removes it. Give the options before COMMAND.",
        epilog="The exit status is that of the command, or 128 and the number of the signal that ended it; 1 if the "
        "files could not be fetched, 126 or 127 if there is no such command.",
    )
    parser.add_argument(
        "--model",
        default=os.environ.get("OSS_PATH", ""),
        metavar="URI",
        help="oss://bucket/directory of the model (default: $OSS_PATH)",
    )
    parser.add_argument(
        "--link",
        default=os.environ.get("MODEL_DIR", ""),
        metavar="PATH",
        help="make PATH a link to the directory while the command runs (default: $MODEL_DIR)",
    )
    parser.add_argument(
        "--place", default="", metavar="DIR", help="fetch to this local directory, not to shared memory"
    )
    add_cache(parser, "keep the files in a cache of this machine for the next run, not in shared memory")
    parser.add_argument("--verify", action="store_true", help="compare the checksums of files that are there already")
    add_progress(parser)
    add_selection(parser)
    add_arguments(parser)
    parser.add_argument("words", nargs=argparse.REMAINDER, metavar="COMMAND", help="the command, after --")
    parser.set_defaults(run=_run, parser=parser)


def _run(options: argparse.Namespace) -> int:
    parser: argparse.ArgumentParser = options.parser
    words = options.words[1:] if options.words[:1] == ["--"] else options.words
    if not words:
        parser.error("there is no command: write it after --, as in `osst run --model URI -- vllm serve {dir}`")
    if os.environ.get("ENABLE_CONNECTOR", "1") in {"", "0", "false"}:
        # The original's switch: its library then leaves the program alone.
        if any(_DIRECTORY in word for word in words):
            parser.error(f"ENABLE_CONNECTOR switches this off, so there is no directory for {_DIRECTORY}")
        return CommandProcess(words, {}, ()).run()
    _check(options, words)
    # The end of a job then removes what was fetched, as Ctrl-C does.
    signal.signal(signal.SIGTERM, interrupt)
    link = Path(options.link).absolute() if options.link else None
    if link is not None:
        _check_link(link)
    copy = _fetched(options)
    try:
        if link is not None:
            _make_link(link, copy.directory)
        process = CommandProcess(
            [word.replace(_DIRECTORY, str(copy.directory)) for word in words],
            {"MODEL_DIR": str(link or copy.directory), "OSS_PATH": options.model},
            (copy.descriptor,),
        )
        return process.run()
    finally:
        with uninterrupted():
            # Another run, of another model, may have the link meanwhile.
            if copy.release() and link is not None and link.is_symlink() and link.readlink() == copy.directory:
                link.unlink()


def _check(options: argparse.Namespace, words: list[str]) -> None:
    """Exit with status 2 if the options cannot be meant."""
    parser: argparse.ArgumentParser = options.parser
    if not options.model:
        parser.error("there is no model: give --model, or set OSS_PATH")
    check_model(options.model, parser)
    if options.place and options.keep:
        parser.error("--place and --keep both say where the files are: give one of them")
    check_cache(options)
    if not options.link and not any(_DIRECTORY in word for word in words):
        parser.error(f"the command does not say where it reads the model: write {_DIRECTORY} in it, or give --link")


def _check_link(link: Path) -> None:
    """Check that a link may be made.

    Raises:
        OssConfigError: There is something else.
    """
    if link.is_dir() and not link.is_symlink():
        if next(link.iterdir(), None) is not None:
            raise OssConfigError(f"{link} is not empty, so it cannot become a link to the model: give another path")
    elif link.is_symlink():
        # A run that was killed leaves its link.
        from osstorchconnector.model_files.copies import is_link_to_copy  # noqa: PLC0415 - `--help` needs none of it

        if link.exists() and not is_link_to_copy(link):
            raise OssConfigError(f"{link} is a link to {link.readlink()}, which stays as it is: give another path")
    elif link.exists():
        raise OssConfigError(f"{link} is a file, so it cannot become a link to the model: give another path")


def _make_link(link: Path, directory: Path) -> None:
    try:
        if link.is_dir() and not link.is_symlink():
            link.rmdir()
        link.parent.mkdir(parents=True, exist_ok=True)
        # Whole or not at all: another run may use the same link to the same directory.
        temporary = link.with_name(f".{link.name}.{secrets.token_hex(8)}")
        temporary.symlink_to(directory)
        temporary.replace(link)
    except OSError as error:
        raise OssConfigError(f"{link} cannot become a link to the model: {error.strerror}") from error


def _fetched(options: argparse.Namespace) -> "LocalCopy":
    from osstorchconnector.model_files.listing import check_indices, model_files  # noqa: PLC0415 - `--help` needs none

    client, selection = connect(options), Selection.of(options)
    files = model_files(client, options.model)
    if selection.everything:
        check_indices(client, files)
    files = [file for file in files if selection.takes(file.path, file.modified)]
    if not files:
        raise OssConfigError(f"there is nothing to fetch at {options.model}: the selection leaves out all files")
    total = sum(file.size for file in files)
    copies = _copies(options)
    begin = time.monotonic()
    try:
        with Progress(options.model, total, shown=wants_progress(options)) as progress:
            copy = copies.acquire(
                client,
                options.model,
                files,
                advance=progress.advance,
                waiting=lambda: report("run", "another process fetches these files; waiting for it"),
                compare=options.verify,
            )
    except KeyboardInterrupt:
        end_without_threads()
        raise
    if sys.stderr.isatty():
        seconds = time.monotonic() - begin
        report("run", f"{len(files)} files of {human(total)} are in {copy.directory} after {seconds:.1f} s")
    return copy


def _copies(options: argparse.Namespace) -> "LocalCopies":
    from osstorchconnector.model_files.copies import LocalCopies, shared_memory_place  # noqa: PLC0415

    place = Path(options.place).absolute() if options.place else shared_memory_place()
    return cache_of(options) or LocalCopies(place, keep=False)
