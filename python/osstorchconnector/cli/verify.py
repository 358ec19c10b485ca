"""``osst verify``: whether objects, copies, manifests and checkpoints are what they should be."""

import argparse
import json
import signal
import sys
from typing import TYPE_CHECKING

from osstorchconnector.cli.client_arguments import add_arguments, connect
from osstorchconnector.cli.ending import interrupt, report, say
from osstorchconnector.cli.progress import Progress, add_progress, wants_progress
from osstorchconnector.exceptions import OssConfigError

if TYPE_CHECKING:
    from osstorchconnector.cli.verify_checks.tally import Tally


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the tool."""
    parser = commands.add_parser(
        "verify",
        help="compare sizes and checksums of objects, copies, manifests and checkpoints",
        description="Read objects once, and compare them with the checksums that OSS stores. With a local path too: "
        "compare local files with the objects that they are copies of, without downloading them. With --manifest: "
        "compare a manifest or a snapshot with the bucket.",
        epilog="The exit status is 0 if everything is as it should be, 1 if something is not, 2 if the arguments are "
        "wrong, 130 after Ctrl-C.",
    )
    parser.add_argument(
        "paths",
        nargs="*",
        metavar="PATH",
        help="an object or a prefix, like oss://bucket/prefix/; or a local path, and then the object or prefix that it "
        "is a copy of; with --manifest, what its keys are below",
    )
    parser.add_argument("--manifest", metavar="FILE", help="compare this manifest or snapshot with the bucket")
    parser.add_argument("--read", action="store_true", help="with --manifest: also read the objects it names")
    parser.add_argument(
        "--state",
        metavar="FILE",
        help="remember what is verified, so that the same command resumes if it is interrupted",
    )
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    add_progress(parser)
    add_arguments(parser)
    parser.set_defaults(run=_run, parser=parser)


def _run(options: argparse.Namespace) -> int:
    remote = _check(options)
    signal.signal(signal.SIGTERM, interrupt)
    try:
        return _verify(options, remote)
    except KeyboardInterrupt:
        if options.state:
            report("verify", f"interrupted; the same command with --state {options.state} resumes")
        raise


def _check(options: argparse.Namespace) -> list[bool]:
    """Return which of the paths are in OSS."""
    from osstorchconnector.connection.uri import check_local  # noqa: PLC0415 - the other commands do not need it

    parser: argparse.ArgumentParser = options.parser
    remote = [path.startswith("oss://") for path in options.paths]
    try:
        for path, is_remote in zip(options.paths, remote, strict=True):
            if not is_remote:
                check_local(path)
    except OssConfigError as error:
        parser.error(str(error))
    if options.manifest is not None:
        if remote not in ([], [True]):
            parser.error("with --manifest give at most one PATH, the beginning of the keys, such as oss://bucket/")
    elif options.read:
        parser.error("--read goes with --manifest; objects are always read")
    elif remote not in ([True], [False, True]):
        parser.error(
            "give an object or a prefix, like oss://bucket/prefix/; or a local path, and then what it is a copy of"
        )
    return remote


def _verify(options: argparse.Namespace, remote: list[bool]) -> int:
    # The other commands need none of them.
    from osstorchconnector.cli.verify_checks.tally import Finished, Tally  # noqa: PLC0415

    client = connect(options)
    finished = Finished(options.state)
    try:
        with Progress("verified", None, shown=wants_progress(options)) as progress:
            tally = Tally(shown=not options.json, finished=finished, progress=progress)
            if options.manifest is not None:
                from osstorchconnector.cli.verify_checks.manifest import verify_manifest  # noqa: PLC0415

                verify_manifest(client, options.manifest, "".join(options.paths), tally, reads=options.read)
            elif len(remote) == 1:
                from osstorchconnector.cli.verify_checks.objects import verify_objects  # noqa: PLC0415

                verify_objects(client, options.paths[0], tally)
            else:
                from osstorchconnector.cli.verify_checks.local import verify_copy  # noqa: PLC0415

                verify_copy(client, options.paths[0], options.paths[1], tally)
    finally:
        finished.close()
    return _end(tally, as_json=options.json)


def _end(tally: "Tally", *, as_json: bool) -> int:
    if as_json:
        sys.stdout.write(f"{json.dumps(tally.document(), indent=1, ensure_ascii=True)}\n")
    else:
        for note in tally.notes:
            say(note)
        say(tally.summary())
    return 1 if tally.problems else 0
