"""Object URIs, as text."""

from pathlib import PurePath

from osstorchconnector import _native
from osstorchconnector.exceptions import OssConfigError


def split_prefix(uri: str) -> tuple[str, str]:
    """Return bucket and key prefix of ``oss://bucket/prefix`` or ``/bucket/prefix``; the prefix may be empty.

    Raises:
        OssConfigError: It is not such a URI.
    """
    if not isinstance(uri, str):
        # str(Path("oss://bucket/key")) has lost a slash, so a path is not converted.
        raise OssConfigError(f"an OSS URI must be a string like 'oss://bucket/key', not {_told(uri)}")
    return _native.parse_uri(uri)


def split_object(uri: str) -> tuple[str, str]:
    """Return bucket and key of ``oss://bucket/key`` or ``/bucket/key``.

    Raises:
        OssConfigError: It is not such a URI, or names no object.
    """
    bucket, key = split_prefix(uri)
    if not key:
        raise OssConfigError(f"OSS URI {uri!r} names a bucket: an object is needed, like 'oss://bucket/key'")
    return bucket, key


def split_local(path: str) -> tuple[str, str]:
    """Return the first part of an absolute path and the rest, which stand for bucket and key.

    Args:
        path: ``/directory/file``, or ``oss://directory/file`` for the same.

    Raises:
        OssConfigError: It is no such path.
    """
    if not isinstance(path, str):
        raise OssConfigError(f"a path must be a string like '/directory/file', not {type(path).__name__}")
    bucket, separator, key = path.removeprefix("oss:/").removeprefix("/").partition("/")
    if not path.startswith(("oss://", "/")) or not bucket or not separator or "\0" in path:
        raise OssConfigError(
            f"{path!r} is no absolute path below a directory: with an empty endpoint, which stands for files of this "
            "machine, write /directory/... or oss://directory/..."
        )
    return bucket, key


def check_bucket(name: str) -> str:
    """Return the name if it is one that a bucket can have.

    Raises:
        OssConfigError: It is not; the message names the rule.
    """
    if split_prefix(f"oss://{name}") != (name, ""):
        raise OssConfigError(f"{name!r} is not a bucket name: it contains a slash")
    return name


def check_object(bucket: str, key: str) -> tuple[str, str]:
    """Return bucket and key if an object can have them.

    An empty key would make the request one about the bucket: deleting the object would delete the bucket.

    Raises:
        OssConfigError: It cannot; the message names the rule.
    """
    return split_object(f"oss://{check_bucket(bucket)}/{key}")


def _told(value: object) -> str:
    return f"{type(value).__name__}{': a path makes oss:/ of oss://' if isinstance(value, PurePath) else ''}"
