"""Location of a checkpoint: an ``oss://`` URI, as text."""

import os

from osstorchconnector.connection.uri import split_prefix
from osstorchconnector.exceptions import OssConfigError


def checkpoint_uri(path: str | os.PathLike[str]) -> str:
    """Return the URI of a checkpoint without slashes at its end.

    Raises:
        OssConfigError: `path` is no ``oss://`` URI, or is a path object, which cannot hold one.
    """
    if not isinstance(path, str):
        raise OssConfigError(
            f"name a checkpoint on OSS by a string like 'oss://bucket/checkpoints/1', not by {path!r}: "
            "a path object makes one slash of the two after 'oss:'"
        )
    if path.startswith("/"):
        raise OssConfigError(
            f"{path!r} is a path of this machine: name a checkpoint on OSS by its URI, 'oss://bucket/...'"
        )
    bucket, key = split_prefix(path)
    # Otherwise two checkpoints whose names differ only in slashes at the end would share their objects.
    key = key.rstrip("/")
    return f"oss://{bucket}/{key}" if key else f"oss://{bucket}"


def join(uri: str, name: str) -> str:
    """Return the URI of `name` below another URI."""
    return f"{uri.rstrip('/')}/{name.lstrip('/')}"


def name_below(uri: str, other: str) -> str:
    """Return the name below `uri` of the object with the URI `other`."""
    return other[len(uri) :].lstrip("/")
