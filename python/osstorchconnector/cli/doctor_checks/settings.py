"""The configuration, and where each value comes from; the access key, and how long it is valid."""

import argparse
import dataclasses
import os
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from osstorchconnector.cli.client_arguments import profile_of
from osstorchconnector.cli.doctor_checks.finding import Finding, State, failure, ok, warning
from osstorchconnector.cli.doctor_checks.target import Target
from osstorchconnector.connection.config import OssConfig, resolve_local
from osstorchconnector.connection.config_file import read_config_file
from osstorchconnector.connection.endpoint import check_region, infer_region, normalize_endpoint
from osstorchconnector.connection.proxy import ProxySetting, shown_proxy
from osstorchconnector.connection.uri import split_prefix
from osstorchconnector.credentials import CredentialSource, DefaultCredentials, FileCredentials
from osstorchconnector.credentials.chain import WAYS
from osstorchconnector.exceptions import OssConfigError, OssCredentialsError

if TYPE_CHECKING:
    from osstorchconnector.connection.profiles import Profile

_REGION: Final = "region"
_ENDPOINT: Final = "endpoint"
_CREDENTIALS: Final = "access key"
_KEY_REMEDY: Final = (
    "give --cred-path FILE (a JSON file with AccessKeyId and AccessKeySecret), or set OSS_ACCESS_KEY_ID and "
    "OSS_ACCESS_KEY_SECRET"
)
# A job that starts now needs the key longer than that.
_SOON_SECONDS: Final = 900
_SHOWN_START: Final = 4
_SHOWN_END: Final = 2
# A shorter ID would be shown almost whole.
_SHORT: Final = 10


def settings(options: argparse.Namespace) -> tuple[Target | None, list[Finding]]:
    """Return the target that the options and the environment describe, and what was found about them.

    The network is not used. There is no target if nothing can be asked.
    """
    found: list[Finding] = []
    try:
        profile = profile_of(options)
    except OssConfigError as error:
        found.append(failure("profile", str(error), "see `osst configure --list`, or leave the profile out"))
        return None, found
    config, file_origins = _config(options.config_path, found)
    if config is not None and profile is not None and profile.anonymous and not options.cred_path:
        config = OssConfig(anonymous=True).over({**vars(config), "anonymous": True})
        file_origins["anonymous"] = _origin(options)
    endpoint = _endpoint(options, profile, found)
    region = _region(options, profile, endpoint, config, found)
    bucket = prefix = ""
    if options.uri:
        try:
            bucket, prefix = split_prefix(options.uri)
        except OssConfigError as error:
            found.append(failure("uri", str(error), "give a URI like oss://bucket/prefix"))
            return None, found
    found += _values(config, file_origins)
    found += _proxies(endpoint, config)
    if not endpoint or config is None:
        return None, found
    credentials = _source(options.cred_path, profile, config, found)
    return Target(endpoint, region, config, credentials, bucket, prefix), found


def credentials(target: Target) -> list[Finding]:
    """Ask for the access key; that may use the network."""
    source = target.credentials
    if source is None:
        return [ok(_CREDENTIALS, "none: requests are not signed")] if target.config.anonymous else []
    try:
        key = source()
    except OssCredentialsError as error:
        nowhere = isinstance(source, DefaultCredentials) and source.place is None
        # A program is given other ways than a command.
        text = str(error).replace(f"{WAYS}. Tried", "tried")
        return [failure(_CREDENTIALS, text, _KEY_REMEDY if nowhere else "see the message")]
    origin = _origin_of(source)
    kind = "temporary key" if key.security_token else "key"
    text = f"{kind} {shortened(key.access_key_id)} from {origin}"
    values = {"origin": origin, "access_key_id": shortened(key.access_key_id), "temporary": bool(key.security_token)}
    if key.expiration is None:
        if key.security_token:
            text += "; when it ends is not known"
        return [ok(_CREDENTIALS, text, **values)]
    end = datetime.fromtimestamp(key.expiration, UTC)
    left = key.expiration - time.time()
    values["expiration"] = f"{end:%Y-%m-%dT%H:%M:%SZ}"
    if left <= 0:
        return [failure(_CREDENTIALS, f"{text}; it ended at {end:%Y-%m-%d %H:%M:%S} UTC", "get a new key", **values)]
    text += f"; it ends at {end:%Y-%m-%d %H:%M:%S} UTC, in {left / 60:.0f} minutes"
    renewed = isinstance(source, (FileCredentials, DefaultCredentials)) and origin != "the environment"
    if left < _SOON_SECONDS:
        remedy = "check that its source renews it in time" if renewed else "get a new key before the job starts"
        return [warning(_CREDENTIALS, text, remedy, **values)]
    return [ok(_CREDENTIALS, text, **values)]


def shortened(access_key_id: str) -> str:
    """Return enough of an access key's ID to recognize it, and not all of it."""
    if len(access_key_id) < _SHORT:
        return f"{access_key_id[:2]}..."
    return f"{access_key_id[:_SHOWN_START]}...{access_key_id[-_SHOWN_END:]}"


def _config(path: str, found: list[Finding]) -> tuple[OssConfig | None, dict[str, str]]:
    if not path:
        return resolve_local().config, {}
    try:
        config = resolve_local(path).config
        origins = {setting.field: f"file {path}: {setting.key}" for setting in read_config_file(path)}
    except OssConfigError as error:
        found.append(failure("configuration", str(error), "correct the file, or leave --config-path out"))
        return None, {}
    return config, origins


def _origin(options: argparse.Namespace) -> str:
    """Return which profile is in use."""
    name = options.profile or os.environ.get("OSS_PROFILE") or "default"
    return f"profile {name}"


def _endpoint(options: argparse.Namespace, profile: "Profile | None", found: list[Finding]) -> str:
    for written, origin in (
        (options.endpoint, "argument --endpoint"),
        (profile.endpoint if profile is not None else "", _origin(options)),
        (os.environ.get("OSS_ENDPOINT", ""), "environment OSS_ENDPOINT"),
    ):
        if not written:
            continue
        try:
            endpoint = normalize_endpoint(written)
        except OssConfigError as error:
            remedy = "give a host like oss-cn-hangzhou-internal.aliyuncs.com"
            found.append(failure(_ENDPOINT, f"{error} ({origin})", remedy))
            return ""
        found.append(ok(_ENDPOINT, f"{endpoint} ({origin})", value=endpoint, origin=origin))
        return endpoint
    remedy = "give --endpoint, or set OSS_ENDPOINT, or make a profile with `osst configure`"
    found.append(failure(_ENDPOINT, "no endpoint", remedy))
    return ""


def _region(
    options: argparse.Namespace,
    profile: "Profile | None",
    endpoint: str,
    config: OssConfig | None,
    found: list[Finding],
) -> str:
    inferred = infer_region(endpoint) if endpoint else None
    # The region of a profile, also the one in the name of its endpoint, wins over OSS_REGION.
    of_profile = ""
    if profile is not None and not options.endpoint:
        of_profile = profile.region or (inferred or "" if profile.endpoint else "")
    for value, origin in (
        (options.region, "argument --region"),
        (of_profile, _origin(options)),
        (os.environ.get("OSS_REGION", ""), "environment OSS_REGION"),
        (inferred, "name of the endpoint"),
    ):
        if value:
            found.append(_about_region(value, origin, inferred))
            return value if found[-1].state is not State.FAILURE else ""
    if endpoint and not (config is not None and (config.anonymous or config.signature_version == "v1")):
        remedy = "give --region, or set OSS_REGION, such as cn-hangzhou"
        found.append(failure(_REGION, "no region: the name of the endpoint holds none", remedy))
    return ""


def _about_region(value: str, origin: str, inferred: str | None) -> Finding:
    try:
        check_region(value, origin)
    except OssConfigError as error:
        return failure(_REGION, str(error), "give the region's ID, such as cn-hangzhou")
    if inferred not in {None, value}:
        text = f"{value} ({origin}), but the endpoint is one of {inferred}"
        return failure(_REGION, text, f"give --region {inferred}, or the endpoint of {value}")
    return ok(_REGION, f"{value} ({origin})", value=value, origin=origin)


def _values(config: OssConfig | None, file_origins: dict[str, str]) -> list[Finding]:
    if config is None:
        return []
    values: dict[str, dict[str, Any]] = {}
    others = []
    for field in dataclasses.fields(OssConfig):
        if field.name in {"access_key_id", "access_key_secret", "security_token", "headers"}:
            continue
        value = getattr(config, field.name)
        if field.name == "proxy" and value:
            value = shown_proxy(value)
        origin = file_origins.get(field.name, "default")
        shown = None if value is None else value if isinstance(value, (bool, int, float, str)) else str(value)
        values[field.name] = {"value": shown, "origin": origin}
        if origin != "default":
            others.append(f"{field.name} = {shown} ({origin})")
    text = "; ".join(others) or "all settings have their defaults"
    return [ok("settings", text, **values)]


def _proxies(endpoint: str, config: OssConfig | None) -> list[Finding]:
    if not endpoint or config is None:
        return []
    try:
        proxy = ProxySetting(config.proxy).proxy_for(endpoint)
    except OssConfigError as error:
        return [failure("proxy", str(error), "name an HTTP proxy, or unset the variable")]
    if proxy is not None:
        shown = f"{proxy.host}:{proxy.port}"
        remedy = f"if the endpoint can be reached without it, {proxy.way_around}: a proxy limits the bandwidth"
        return [warning("proxy", f"requests go through {shown} ({proxy.origin})", remedy, proxy=shown)]
    present = [name for name in ("http_proxy", "https_proxy", "all_proxy") if _is_set(name)]
    unused = f"; {', '.join(present)} in the environment does not apply to {urlsplit(endpoint).hostname}"
    return [ok("proxy", f"none{unused if present else ''}")]


def _is_set(name: str) -> bool:
    return bool(os.environ.get(name) or os.environ.get(name.upper()))


def _source(path: str, profile: "Profile | None", config: OssConfig, found: list[Finding]) -> CredentialSource | None:
    if config.anonymous:
        return None
    if path.lstrip().startswith("{"):
        # Its error would repeat the text, and with it the secret.
        text = "--cred-path must be the path of a JSON file, not its content"
        found.append(failure(_CREDENTIALS, text, "write the key into a file that only you can read"))
        return None
    if path:
        return FileCredentials(path)
    return (profile.source() if profile is not None else None) or DefaultCredentials()


def _origin_of(source: CredentialSource) -> str:
    if isinstance(source, FileCredentials):
        return f"the file {source.path}"
    if isinstance(source, DefaultCredentials) and source.place is not None:
        return f"the {source.place}"
    return type(source).__name__
