"""Where a checkpoint is: an ``oss://`` URI, as text."""

import os

from osstorchconnector.connection.uri import split_prefix
from osstorchconnector.exceptions import OssConfigError


def checkpoint_uri(path: str | os.PathLike[str]) -> str:
    """Return the URI of a checkpoint without slashes at its end.

    Raises:
        OssConfigError: It is no URI of OSS, or a path object, which cannot hold one.
    """
    if not isinstance(path, str):
        raise OssConfigError(
            f"a checkpoint on OSS is named by a string like 'oss://bucket/checkpoints/1', not by {path!r}: "
            "a path object makes one slash of the two after 'oss:'"
        )
    if path.startswith("/"):
        raise OssConfigError(f"{path!r} is a path of this machine: a checkpoint on OSS is at 'oss://bucket/...'")
    bucket, key = split_prefix(path)
    # Two checkpoints whose names differ in slashes at the end would share their objects.
    key = key.rstrip("/")
    return f"oss://{bucket}/{key}" if key else f"oss://{bucket}"


def join(uri: str, name: str) -> str:
    """Return the URI of something below another one."""
    return f"{uri.rstrip('/')}/{name.lstrip('/')}"


def name_below(uri: str, other: str) -> str:
    """Return what the object with the URI `other` is called below `uri`."""
    return other[len(uri) :].lstrip("/")
