"""The options of all commands that connect to OSS."""

import argparse
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from osstorchconnector.connection.client import OssClient
    from osstorchconnector.connection.config import OssConfig
    from osstorchconnector.connection.profiles import Profile


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options to a command."""
    group = parser.add_argument_group("connection")
    group.add_argument("--endpoint", metavar="HOST", help="endpoint of the bucket's region (default: $OSS_ENDPOINT)")
    group.add_argument(
        "--region", default="", metavar="ID", help="region ID (default: $OSS_REGION, or the region of the endpoint)"
    )
    group.add_argument("--cred-path", default="", metavar="FILE", help="JSON file with an access key")
    group.add_argument("--config-path", default="", metavar="FILE", help="JSON configuration file")
    group.add_argument(
        "--profile",
        default="",
        metavar="NAME",
        help="profile of `osst configure` (default: $OSS_PROFILE; without an endpoint, the profile 'default')",
    )


def profile_of(options: argparse.Namespace) -> "Profile | None":
    """Return the profile that the options or the environment name, or the default one if they name no endpoint.

    Raises:
        OssConfigError: There is no such profile, or the file cannot be used.
    """
    name = getattr(options, "profile", "") or os.environ.get("OSS_PROFILE", "")
    if not name and (options.endpoint or os.environ.get("OSS_ENDPOINT")):
        return None
    from osstorchconnector.connection.profiles import DEFAULT_PROFILE, read_profile, read_profiles  # noqa: PLC0415 - few commands need them

    return read_profile(name) if name else read_profiles().get(DEFAULT_PROFILE)


def connect(options: argparse.Namespace, config: "OssConfig | None" = None) -> "OssClient":
    """Return a client for the options: an option decides, else the profile, else the environment.

    Args:
        options: The options of the command.
        config: The settings that the command itself decides about.

    Raises:
        OssConfigError: There is no endpoint, a value is wrong, or a file is missing or malformed.
    """
    # They take half of the time that a command needs to start, and `--help` needs neither.
    from osstorchconnector.connection.client import OssClient  # noqa: PLC0415
    from osstorchconnector.exceptions import OssConfigError  # noqa: PLC0415

    profile = profile_of(options)
    endpoint = options.endpoint or (profile and profile.endpoint) or os.environ.get("OSS_ENDPOINT", "")
    if not endpoint:
        advice = "give --endpoint, or set OSS_ENDPOINT, or make a profile with `osst configure`"
        raise OssConfigError(f"no endpoint: {advice}")
    source = None
    if profile is not None and not options.cred_path:
        source = profile.source()
        if profile.anonymous:
            config = _anonymous(config)
    region = options.region or (_region(profile) if profile is not None and not options.endpoint else "")
    return OssClient(
        endpoint, options.cred_path, options.config_path, cred_provider=source, region=region, config=config
    )


def _region(profile: "Profile") -> str:
    """Return the region of a profile, so that OSS_REGION does not decide about another endpoint than its own."""
    from osstorchconnector.connection.endpoint import infer_region, normalize_endpoint  # noqa: PLC0415 - as above

    if profile.region or not profile.endpoint:
        return profile.region
    return infer_region(normalize_endpoint(profile.endpoint)) or ""


def _anonymous(config: "OssConfig | None") -> "OssConfig":
    from osstorchconnector.connection.config import OssConfig  # noqa: PLC0415 - as above

    given = OssConfig(anonymous=True)
    return given if config is None else config.over({"anonymous": True})
