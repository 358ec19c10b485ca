"""``osst emulator``: an OSS server on this machine, for development and tests without an account."""

import argparse
import os
import signal
import sys
from typing import TYPE_CHECKING, Final, NoReturn

from osstorchconnector import _native
from osstorchconnector.exceptions import OssError

if TYPE_CHECKING:
    from types import FrameType

_DEFAULT_ID: Final = "emulator"
_DEFAULT_SECRET: Final = "emulator-secret"  # noqa: S105 - the published key of a server without anything to protect


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the tool."""
    parser = commands.add_parser(
        "emulator",
        help="run an OSS server on this machine",
        description="Run an OSS server on this machine. It prints its URL when it is ready, and stops on Ctrl-C.",
        epilog="The access key is --access-key-id and --access-key-secret, else OSS_ACCESS_KEY_ID and "
        f"OSS_ACCESS_KEY_SECRET in the environment, else {_DEFAULT_ID!r} and {_DEFAULT_SECRET!r}.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", default=9400, type=_port, help="port, 0 for any free one (default: %(default)s)")
    parser.add_argument("--access-key-id", metavar="ID", help="access key that requests are signed with")
    parser.add_argument("--access-key-secret", metavar="SECRET", help="its secret")
    parser.add_argument("--region", default="cn-hangzhou", help="region ID of signatures (default: %(default)s)")
    parser.add_argument("--bucket", action="append", default=[], metavar="NAME", help="bucket to create; repeatable")
    parser.add_argument("--root", metavar="DIR", help="directory to store objects in (default: memory)")
    parser.add_argument("--fsync", action="store_true", help="wait for the disk before a write is answered")
    parser.add_argument("--domain", help="host names below it are bucket.DOMAIN (default: the first label is a bucket)")
    parser.add_argument(
        "--etag", choices=("md5", "fast"), default="md5", help="how ETags are made (default: %(default)s)"
    )
    parser.add_argument("--no-verify", action="store_true", help="accept any signature")
    parser.add_argument("--until-stdin-closes", action="store_true", help=argparse.SUPPRESS)
    parser.set_defaults(run=_run, parser=parser)


def _run(options: argparse.Namespace) -> int:
    signal.signal(signal.SIGTERM, _interrupt)
    # A shell starts background jobs with SIGINT ignored.
    signal.signal(signal.SIGINT, _interrupt)
    try:
        _native.run_emulator(
            host=options.host,
            port=options.port,
            region=options.region,
            domain=options.domain,
            key_pairs=[_key_pair(options)],
            buckets=options.bucket,
            root=options.root,
            fsync=options.fsync,
            fast_etag=options.etag == "fast",
            verify_signatures=not options.no_verify,
            ready=_print_url,
            until_stdin_closes=options.until_stdin_closes,
        )
    except KeyboardInterrupt:
        return 0
    except (OSError, OssError) as error:
        sys.stderr.write(f"osst emulator: {error}\n")
        return 1
    return 0


def _key_pair(options: argparse.Namespace) -> tuple[str, str, str | None]:
    access_key_id: str | None = options.access_key_id or os.environ.get("OSS_ACCESS_KEY_ID")
    access_key_secret: str | None = options.access_key_secret or os.environ.get("OSS_ACCESS_KEY_SECRET")
    if not access_key_id and not access_key_secret:
        return _DEFAULT_ID, _DEFAULT_SECRET, None
    if not access_key_id or not access_key_secret:
        parser: argparse.ArgumentParser = options.parser
        parser.error("an access key needs both its ID and its secret")
    return access_key_id, access_key_secret, None


def _print_url(url: str) -> None:
    sys.stdout.write(f"{url}\n")
    sys.stdout.flush()


def _interrupt(_signal: int, _frame: "FrameType | None") -> NoReturn:
    raise KeyboardInterrupt


def _port(text: str) -> int:
    port = int(text) if text.isascii() and text.isdigit() else -1
    # The largest port number TCP has.
    if not 0 <= port <= 65535:  # noqa: PLR2004
        raise argparse.ArgumentTypeError(f"{text!r} is no port: a whole number from 0 to 65535 is needed")
    return port
