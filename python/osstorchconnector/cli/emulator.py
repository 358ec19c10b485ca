"""``osst emulator``: an OSS server on this machine, for development and tests without an account."""

import argparse
import json
import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any, Final

from osstorchconnector import _native
from osstorchconnector._json import read_json
from osstorchconnector.cli.emulator_defaults import DEFAULT_ID, DEFAULT_PORT, DEFAULT_REGION, DEFAULT_SECRET
from osstorchconnector.cli.emulator_profiles import PROFILES, rules
from osstorchconnector.cli.ending import interrupt, report
from osstorchconnector.cli.values import port, seconds, size
from osstorchconnector.credentials import FileCredentials
from osstorchconnector.exceptions import OssConfigError, OssError

_ADMIN_TOKEN: Final = "OSS_EMULATOR_ADMIN_TOKEN"  # noqa: S105 - the variable's name


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the tool."""
    parser = commands.add_parser(
        "emulator",
        help="run an OSS server on this machine",
        description="Run an OSS server on this machine. It prints its URL when it is ready. Ctrl-C stops it.",
        epilog="The access key comes from --access-key-id and --access-key-secret, otherwise from OSS_ACCESS_KEY_ID "
        "and OSS_ACCESS_KEY_SECRET in the environment, otherwise it is "
        f"{DEFAULT_ID!r} with the secret {DEFAULT_SECRET!r}.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", default=DEFAULT_PORT, type=port, help="port; 0: any free port (default: %(default)s)")
    parser.add_argument("--access-key-id", metavar="ID", help="ID of the access key that clients sign requests with")
    parser.add_argument("--access-key-secret", metavar="SECRET", help="secret of that access key")
    parser.add_argument(
        "--credentials",
        action="append",
        default=[],
        metavar="FILE",
        help="JSON file with another access key: AccessKeyId and AccessKeySecret, for a temporary key also "
        "SecurityToken and Expiration, for a user with rights of its own also Policy, which is a policy of RAM; may be "
        "repeated",
    )
    parser.add_argument(
        "--region", default=DEFAULT_REGION, help="region ID that requests must be signed for (default: %(default)s)"
    )
    parser.add_argument(
        "--bucket", action="append", default=[], metavar="NAME", help="bucket to create; may be repeated"
    )
    parser.add_argument("--root", metavar="DIR", help="directory to store objects in (default: keep them in memory)")
    parser.add_argument("--fsync", action="store_true", help="answer a write only after it is on the disk")
    parser.add_argument(
        "--import",
        dest="import_directory",
        metavar="DIR",
        help="load the files below DIR into the bucket; a file's path below DIR is its key; needs exactly one --bucket",
    )
    parser.add_argument(
        "--memory-limit",
        type=size,
        metavar="SIZE",
        help="upper limit of the bytes of content in memory, such as 500M or 8G (default: no limit)",
    )
    parser.add_argument(
        "--domain",
        help="requests use host names like bucket.DOMAIN (default: the first label of a host name is the bucket)",
    )
    parser.add_argument(
        "--etag",
        choices=("md5", "fast"),
        default="md5",
        help="how to make ETags; fast takes less time than MD5 (default: %(default)s)",
    )
    parser.add_argument("--no-verify", action="store_true", help="accept any signature")
    parser.add_argument("--faults", metavar="FILE", help="JSON or YAML file with rules for failures on purpose")
    parser.add_argument(
        "--admin",
        action="store_true",
        help=f"let clients with the token in {_ADMIN_TOKEN} change faults and read the request log, at /-/admin/",
    )
    parser.add_argument(
        "--restore-seconds",
        type=seconds,
        default=1.0,
        metavar="SECONDS",
        help="time that restoring an archived object takes (default: %(default)s)",
    )
    parser.add_argument("--tls", action="store_true", help="serve HTTPS with a certificate that is made at the start")
    parser.add_argument("--tls-certificate", metavar="FILE", help="serve HTTPS with the certificate in this PEM file")
    parser.add_argument("--tls-key", metavar="FILE", help="PEM file with the private key of that certificate")
    parser.add_argument(
        "--write-ca-bundle", metavar="FILE", help="write the certificates that clients must trust to this file"
    )
    parser.add_argument(
        "--allow-public-access",
        action="store_true",
        help="new buckets may be opened to everyone; without it they block public access, as those of OSS do",
    )
    parser.add_argument(
        "--qps", type=_positive, metavar="N", help="answer at most N requests a second, refuse the others with 503"
    )
    parser.add_argument(
        "--quota", type=size, metavar="SIZE", help="most bytes that the objects of one bucket may have, such as 10G"
    )
    parser.add_argument(
        "--profile",
        choices=tuple(PROFILES),
        help="imitate a network or a service: " + "; ".join(f"{name}: {text}" for name, (text, _) in PROFILES.items()),
    )
    parser.add_argument("--until-stdin-closes", action="store_true", help=argparse.SUPPRESS)
    parser.set_defaults(run=_run, parser=parser)


def _run(options: argparse.Namespace) -> int:
    signal.signal(signal.SIGTERM, interrupt)
    # A shell starts background jobs with SIGINT ignored.
    signal.signal(signal.SIGINT, interrupt)
    try:
        _native.run_emulator(
            host=options.host,
            port=options.port,
            region=options.region,
            domain=options.domain,
            key_pairs=[(*_key_pair(options), None), *(_key_of_file(Path(path)) for path in options.credentials)],
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
            faults=_fault_rules(options),
            admin_token=_admin_token(options) if options.admin else None,
            block_public_access=not options.allow_public_access,
            requests_per_second=options.qps,
            quota=options.quota,
            ready=partial(_ready, options=options),
            until_stdin_closes=options.until_stdin_closes,
        )
    except KeyboardInterrupt:
        return 0
    except (OSError, OssError, ValueError) as error:
        report("emulator", error)
        return 1
    return 0


def _key_pair(options: argparse.Namespace) -> tuple[str, str, str | None, float | None]:
    access_key_id: str | None = options.access_key_id or os.environ.get("OSS_ACCESS_KEY_ID")
    access_key_secret: str | None = options.access_key_secret or os.environ.get("OSS_ACCESS_KEY_SECRET")
    if not access_key_id and not access_key_secret:
        return DEFAULT_ID, DEFAULT_SECRET, None, None
    if not access_key_id or not access_key_secret:
        parser: argparse.ArgumentParser = options.parser
        parser.error("an access key needs an ID and a secret: give both, or set both in the environment")
    return access_key_id, access_key_secret, None, None


def _key_of_file(path: Path) -> tuple[str, str, str | None, float | None, str | None]:
    found = FileCredentials(str(path))()
    policy = json.loads(path.read_text(encoding="utf-8")).get("Policy")
    return (*found, policy if policy is None or isinstance(policy, str) else json.dumps(policy))


def _fault_rules(options: argparse.Namespace) -> str | None:
    text = None if options.faults is None else _read_faults(Path(options.faults))
    try:
        given: Any = [] if text is None else read_json(text)
    except ValueError as error:
        raise OssConfigError(f"{options.faults} cannot be read as JSON: {error}") from error
    if options.profile is None:
        return text
    return json.dumps([*(given if isinstance(given, list) else [given]), *rules(options.profile)])


def _positive(text: str) -> int:
    number = int(text) if text.isascii() and text.isdigit() else 0
    # The native core counts in 32 bits.
    if not 0 < number < 1 << 32:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of requests: give a whole number of at least 1")
    return number


def _certificate(options: argparse.Namespace) -> tuple[str, str] | None:
    certificate: str | None = options.tls_certificate
    key: str | None = options.tls_key
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        parser: argparse.ArgumentParser = options.parser
        parser.error("give --tls-certificate and --tls-key together")
    return certificate, key


def _admin_token(options: argparse.Namespace) -> str:
    token = os.environ.get(_ADMIN_TOKEN)
    if not token:
        parser: argparse.ArgumentParser = options.parser
        # Not an option: every user of the machine can see the arguments of a process.
        parser.error(f"--admin needs a token in the environment: set {_ADMIN_TOKEN}")
    return token


def _read_faults(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    if path.suffix not in {".yaml", ".yml"}:
        return text
    try:
        import yaml  # noqa: PLC0415 - an extra, which only this needs
    except ImportError:
        message = f"{path} is YAML, which needs PyYAML: pip install pyyaml, or write the rules as JSON"
        raise OssConfigError(message) from None
    try:
        return json.dumps(yaml.safe_load(text))
    except (yaml.YAMLError, TypeError, RecursionError) as error:
        raise OssConfigError(f"{path} cannot be read as YAML: {error}") from error


def _ready(url: str, trusted: str | None, *, options: argparse.Namespace) -> None:
    ca_bundle: str | None = options.write_ca_bundle
    # The file first, so that it exists when a client reads the line.
    if ca_bundle is not None and trusted is not None:
        Path(ca_bundle).write_text(trusted)
    sys.stdout.write(f"{url}\n")
    if sys.stdout.isatty():
        sys.stdout.write(_lines_to_paste(url, options))
    sys.stdout.flush()


def _lines_to_paste(url: str, options: argparse.Namespace) -> str:
    """Return how to use the server, for a person; a program reads the first line only."""
    access_key_id, secret, *_ = _key_pair(options)
    # The published key may be shown. Another one stays where its owner put it.
    shown = secret if secret == DEFAULT_SECRET else "SECRET"
    bucket = options.bucket[0] if options.bucket else "BUCKET"
    region = options.region
    return f"""
In another shell:
  export OSS_ACCESS_KEY_ID={access_key_id} OSS_ACCESS_KEY_SECRET={shown}
  osst cp FILE oss://{bucket}/ --endpoint {url} --region {region}
In Python, with these variables:
  from osstorchconnector import OssClient, OssIterableDataset
  client = OssClient(endpoint="{url}", region="{region}")
  dataset = OssIterableDataset.from_prefix("oss://{bucket}/", endpoint="{url}", region="{region}")
With oss2:
  import oss2
  bucket = oss2.Bucket(oss2.AuthV4("{access_key_id}", "{shown}"), "{url}", "{bucket}", region="{region}")

"""
