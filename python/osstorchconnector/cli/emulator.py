"""``osst emulator``: an OSS server on this machine, for development and tests without an account."""

import argparse
import json
import math
import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from osstorchconnector import _native
from osstorchconnector.credentials import FileCredentials
from osstorchconnector.exceptions import OssConfigError, OssError

_ADMIN_TOKEN: Final = "OSS_EMULATOR_ADMIN_TOKEN"  # noqa: S105 - the variable's name

if TYPE_CHECKING:
    from types import FrameType

_UNITS: Final = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
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
    parser.add_argument(
        "--credentials",
        action="append",
        default=[],
        metavar="FILE",
        help="JSON file with one more access key: AccessKeyId, AccessKeySecret, and SecurityToken and Expiration for "
        "a temporary one; repeatable",
    )
    parser.add_argument("--region", default="cn-hangzhou", help="region ID of signatures (default: %(default)s)")
    parser.add_argument("--bucket", action="append", default=[], metavar="NAME", help="bucket to create; repeatable")
    parser.add_argument("--root", metavar="DIR", help="directory to store objects in (default: memory)")
    parser.add_argument("--fsync", action="store_true", help="wait for the disk before a write is answered")
    parser.add_argument(
        "--import",
        dest="import_directory",
        metavar="DIR",
        help="load the files below DIR into the one --bucket; a file's path below DIR is its key",
    )
    parser.add_argument(
        "--memory-limit",
        type=_size,
        metavar="SIZE",
        help="most bytes of content to keep in memory, such as 500M or 8G (default: no limit)",
    )
    parser.add_argument("--domain", help="host names below it are bucket.DOMAIN (default: the first label is a bucket)")
    parser.add_argument(
        "--etag", choices=("md5", "fast"), default="md5", help="how ETags are made (default: %(default)s)"
    )
    parser.add_argument("--no-verify", action="store_true", help="accept any signature")
    parser.add_argument("--faults", metavar="FILE", help="JSON or YAML file with rules of what fails on purpose")
    parser.add_argument(
        "--admin",
        action="store_true",
        help=f"let holders of the token in {_ADMIN_TOKEN} change faults and read the request log below /-/admin/",
    )
    parser.add_argument(
        "--restore-seconds",
        type=_seconds,
        default=1.0,
        metavar="SECONDS",
        help="how long an archived object takes to be restored (default: %(default)s)",
    )
    parser.add_argument("--tls", action="store_true", help="serve HTTPS, with a certificate made at the start")
    parser.add_argument("--tls-certificate", metavar="FILE", help="serve HTTPS with the certificate of this PEM file")
    parser.add_argument("--tls-key", metavar="FILE", help="PEM file with the private key of that certificate")
    parser.add_argument(
        "--write-ca-bundle", metavar="FILE", help="write the certificates that clients have to trust to this file"
    )
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
            key_pairs=[_key_pair(options), *(FileCredentials(path)() for path in options.credentials)],
            buckets=options.bucket,
            root=options.root,
            fsync=options.fsync,
            memory_limit=options.memory_limit,
            import_directory=options.import_directory,
            fast_etag=options.etag == "fast",
            verify_signatures=not options.no_verify,
            restore_seconds=options.restore_seconds,
            tls=options.tls,
            certificate=_certificate(options),
            faults=None if options.faults is None else _read_faults(Path(options.faults)),
            admin_token=_admin_token(options) if options.admin else None,
            ready=partial(_report, ca_bundle=options.write_ca_bundle),
            until_stdin_closes=options.until_stdin_closes,
        )
    except KeyboardInterrupt:
        return 0
    except (OSError, OssError, ValueError) as error:
        sys.stderr.write(f"osst emulator: {error}\n")
        return 1
    return 0


def _key_pair(options: argparse.Namespace) -> tuple[str, str, str | None, float | None]:
    access_key_id: str | None = options.access_key_id or os.environ.get("OSS_ACCESS_KEY_ID")
    access_key_secret: str | None = options.access_key_secret or os.environ.get("OSS_ACCESS_KEY_SECRET")
    if not access_key_id and not access_key_secret:
        return _DEFAULT_ID, _DEFAULT_SECRET, None, None
    if not access_key_id or not access_key_secret:
        parser: argparse.ArgumentParser = options.parser
        parser.error("an access key needs both its ID and its secret")
    return access_key_id, access_key_secret, None, None


def _certificate(options: argparse.Namespace) -> tuple[str, str] | None:
    certificate: str | None = options.tls_certificate
    key: str | None = options.tls_key
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        parser: argparse.ArgumentParser = options.parser
        parser.error("--tls-certificate and --tls-key need each other")
    return certificate, key


def _admin_token(options: argparse.Namespace) -> str:
    token = os.environ.get(_ADMIN_TOKEN)
    if not token:
        parser: argparse.ArgumentParser = options.parser
        # Not an option: the arguments of a process are shown to every user of the machine.
        parser.error(f"--admin needs a token in {_ADMIN_TOKEN}")
    return token


def _read_faults(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    if path.suffix not in {".yaml", ".yml"}:
        return text
    try:
        import yaml  # noqa: PLC0415 - only this needs it, and not everyone has it
    except ImportError:
        message = f'{path}: YAML needs PyYAML: pip install "osstorchconnector[yaml]"; or write the rules as JSON'
        raise OssConfigError(message) from None
    try:
        return json.dumps(yaml.safe_load(text))
    except (yaml.YAMLError, TypeError) as error:
        raise OssConfigError(f"{path}: {error}") from error


def _report(url: str, trusted: str | None, *, ca_bundle: str | None) -> None:
    # The file first: whoever waits for the line finds it in place.
    if ca_bundle is not None and trusted is not None:
        Path(ca_bundle).write_text(trusted)
    sys.stdout.write(f"{url}\n")
    sys.stdout.flush()


def _interrupt(_signal: int, _frame: "FrameType | None") -> NoReturn:
    raise KeyboardInterrupt


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds from 0 on")
    return seconds


def _size(text: str) -> int:
    digits, unit = (text[:-1], text[-1:]) if text[-1:] in _UNITS else (text, "")
    size = int(digits) * _UNITS.get(unit, 1) if digits.isascii() and digits.isdigit() else 0
    # The native core counts in 64 bits.
    if not 0 < size < 1 << 64:
        raise argparse.ArgumentTypeError(f"{text!r} is no size: a whole number, or one with K, M, G or T, is needed")
    return size


def _port(text: str) -> int:
    port = int(text) if text.isascii() and text.isdigit() else -1
    # The largest port number TCP has.
    if not 0 <= port <= 65535:  # noqa: PLR2004
        raise argparse.ArgumentTypeError(f"{text!r} is no port: a whole number from 0 to 65535 is needed")
    return port
