"""``osst env``: the lines that make a shell use a profile or a running emulator."""

import argparse
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Final

from osstorchconnector._printable import CONTROLS
from osstorchconnector.cli.client_arguments import profile_of
from osstorchconnector.cli.emulator_defaults import DEFAULT_ID, DEFAULT_PORT, DEFAULT_REGION, DEFAULT_SECRET
from osstorchconnector.cli.ending import say
from osstorchconnector.cli.output import emit
from osstorchconnector.connection.endpoint import normalize_endpoint
from osstorchconnector.exceptions import OssConfigError, OssConnectionError

if TYPE_CHECKING:
    from osstorchconnector.connection.profiles import Profile

Variables = dict[str, str | None]

_KEY: Final = ("OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET", "OSS_SESSION_TOKEN")
# What the chain of credentials would ask before the place that a profile names; None removes a variable.
_NO_KEYS: Final[Variables] = dict.fromkeys(
    (
        *_KEY,
        "ALIBABA_CLOUD_ACCESS_KEY_ID",
        "ALIBABA_CLOUD_ACCESS_KEY_SECRET",
        "ALIBABA_CLOUD_SECURITY_TOKEN",
        "ALIBABA_CLOUD_ROLE_ARN",
    )
)
_HEALTH_SECONDS: Final = 5.0


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the tool."""
    parser = commands.add_parser(
        "env",
        help="print lines to export for a profile or a running emulator",
        description='Print the lines that make a shell use a profile, or a running emulator: eval "$(osst env)". The '
        "lines name the place of the access key; only --secrets fetches and prints the key itself. The made-up key of "
        "an emulator is printed.",
    )
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--profile", default="", metavar="NAME", help="the profile (default: $OSS_PROFILE, else default)"
    )
    group.add_argument(
        "--emulator",
        nargs="?",
        const=f"http://127.0.0.1:{DEFAULT_PORT}",
        metavar="URL",
        help="an emulator that runs (default: %(const)s)",
    )
    parser.add_argument("--region", default=DEFAULT_REGION, help="region of the emulator (default: %(default)s)")
    parser.add_argument("--access-key-id", default=DEFAULT_ID, help="key of the emulator (default: %(default)s)")
    parser.add_argument("--access-key-secret", default=DEFAULT_SECRET, help="and its secret (default: %(default)s)")
    parser.add_argument("--secrets", action="store_true", help="fetch the access key of the profile now, and print it")
    parser.add_argument("--shell", choices=("sh", "fish"), help="the shell that reads it (default: that of $SHELL)")
    parser.add_argument("--json", action="store_true", help="print one JSON object; null removes a variable")
    parser.set_defaults(run=_run, parser=parser)


def _run(options: argparse.Namespace) -> int:
    variables = _emulator(options) if options.emulator is not None else _profile(options)
    for name, value in variables.items():
        if value is not None and CONTROLS.search(value):
            raise OssConfigError(f"{name} would have control characters: a shell may not read them as they are")
    if options.json:
        emit(dict(variables))
        return 0
    shell = options.shell or ("fish" if Path(os.environ.get("SHELL", "")).name == "fish" else "sh")
    for name, value in variables.items():
        say(_line(shell, name, value))
    return 0


def _line(shell: str, name: str, value: str | None) -> str:
    if value is None:
        return f"set -e {name}" if shell == "fish" else f"unset {name}"
    if shell == "fish":
        quoted = value.replace("\\", "\\\\").replace("'", "\\'")
        return f"set -gx {name} '{quoted}'"
    return f"export {name}={shlex.quote(value)}"


def _emulator(options: argparse.Namespace) -> Variables:
    endpoint = normalize_endpoint(options.emulator)
    if options.secrets:
        options.parser.error("--secrets is for profiles: the key of an emulator is printed anyway")
    _check_running(endpoint)
    return {
        **_NO_KEYS,
        "OSS_ENDPOINT": endpoint,
        "OSS_REGION": options.region,
        "OSS_ACCESS_KEY_ID": options.access_key_id,
        "OSS_ACCESS_KEY_SECRET": options.access_key_secret,
        "OSS_PROFILE": None,
    }


def _check_running(endpoint: str) -> None:
    import ssl  # noqa: PLC0415 - only this needs them, and they take 30 ms to import
    import urllib.error  # noqa: PLC0415
    import urllib.request  # noqa: PLC0415

    # The emulator of `osst emulator --tls` makes its own certificate. Nothing secret is sent.
    handlers = [
        urllib.request.ProxyHandler({}),
        urllib.request.HTTPSHandler(context=ssl._create_unverified_context()),  # noqa: S323, SLF001 - as above
    ]
    try:
        with urllib.request.build_opener(*handlers).open(f"{endpoint}/-/health", timeout=_HEALTH_SECONDS) as answer:
            healthy = answer.read(16).strip() == b"ok"
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise OssConnectionError(f"no emulator answers at {endpoint}: {reason}; `osst emulator` starts one") from None
    if not healthy:
        raise OssConnectionError(f"what answers at {endpoint} is no emulator; start one with `osst emulator`")


def _profile(options: argparse.Namespace) -> Variables:
    from osstorchconnector.connection.profiles import DEFAULT_PROFILE, read_profile  # noqa: PLC0415 - as above

    options.endpoint = ""
    profile = profile_of(options) or read_profile(options.profile or DEFAULT_PROFILE)
    variables: Variables = {"OSS_PROFILE": None}
    if profile.endpoint:
        variables["OSS_ENDPOINT"] = profile.endpoint
    variables["OSS_REGION"] = profile.region or None
    if options.secrets:
        return {**variables, **_NO_KEYS, **_secrets(profile)}
    return {**variables, **_place(profile)}


def _secrets(profile: "Profile") -> Variables:
    from osstorchconnector.credentials import DefaultCredentials  # noqa: PLC0415 - as above

    if profile.anonymous:
        raise OssConfigError("the profile uses no access key: leave out --secrets")
    credentials = (profile.source() or DefaultCredentials())()
    values = (credentials.access_key_id, credentials.access_key_secret, credentials.security_token)
    return dict(zip(_KEY, values, strict=True))


def _place(profile: "Profile") -> Variables:
    """Return variables that lead the chain of credentials to the place of a profile."""
    kind, value = profile.place()
    without_cli: Variables = {**_NO_KEYS, "ALIBABA_CLOUD_CLI_PROFILE_DISABLED": "true"}
    found: dict[str, Variables] = {
        "chain": {},
        "environment": {},
        "file": {
            **without_cli,
            "ALIBABA_CLOUD_CREDENTIALS_FILE": str(Path(value).expanduser().absolute()),
            "ALIBABA_CLOUD_PROFILE": None,
        },
        "aliyun": {**_NO_KEYS, "ALIBABA_CLOUD_CLI_PROFILE_DISABLED": None, "ALIBABA_CLOUD_PROFILE": value},
        "ini": {**without_cli, "ALIBABA_CLOUD_PROFILE": value},
    }
    if kind not in found:
        raise OssConfigError(
            f"no variables can name the place {profile.credentials!r} alone: use `osst --profile`, or give --secrets"
        )
    return found[kind]
