"""Arguments that name buckets."""

import argparse

from osstorchconnector.connection.uri import split_prefix
from osstorchconnector.exceptions import OssConfigError


def bucket_of(text: str) -> str:
    """Return the name of the bucket in ``oss://bucket``."""
    try:
        name, key = split_prefix(text)
    except OssConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if key or not text.startswith("oss://"):
        raise argparse.ArgumentTypeError(f"{text!r} does not name a bucket: write oss://bucket")
    return name
