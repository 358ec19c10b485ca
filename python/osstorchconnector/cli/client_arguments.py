"""The options of all commands that connect to OSS."""

import argparse
import os

from osstorchconnector.connection.client import OssClient
from osstorchconnector.exceptions import OssConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options to a command."""
    group = parser.add_argument_group("connection")
    group.add_argument("--endpoint", metavar="HOST", help="endpoint of the bucket's region (default: $OSS_ENDPOINT)")
    group.add_argument(
        "--region", default="", metavar="ID", help="region ID (default: $OSS_REGION, or the region of the endpoint)"
    )
    group.add_argument("--cred-path", default="", metavar="FILE", help="JSON file with an access key")
    group.add_argument("--config-path", default="", metavar="FILE", help="JSON configuration file")


def connect(options: argparse.Namespace) -> OssClient:
    """Return a client for the options.

    Raises:
        OssConfigError: There is no endpoint, a value is wrong, or a file is missing or malformed.
    """
    endpoint = options.endpoint or os.environ.get("OSS_ENDPOINT", "")
    if not endpoint:
        raise OssConfigError("no endpoint: give --endpoint, or set OSS_ENDPOINT")
    return OssClient(endpoint, options.cred_path, options.config_path, region=options.region)
