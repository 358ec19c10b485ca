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
        # A path is not converted, because str(Path("oss://bucket/key")) has only one slash.
        raise OssConfigError(f"an OSS URI must be a string like 'oss://bucket/key', not {_described(uri)}")
    try:
        return _native.parse_uri(uri)
    except UnicodeEncodeError:
        # Such as the name of a local file; Python keeps its bytes as lone surrogates.
        raise OssConfigError(f"{without_query(uri)!r} is not UTF-8, and names of OSS are: use another name") from None


def split_object(uri: str) -> tuple[str, str]:
    """Return bucket and key of ``oss://bucket/key`` or ``/bucket/key``.

    Raises:
        OssConfigError: It is not such a URI, or does not name an object.
    """
    bucket, key = split_prefix(uri)
    if not key:
        raise OssConfigError(
            f"OSS URI {without_query(uri)!r} names only a bucket: an object is needed, like 'oss://bucket/key'"
        )
    return bucket, key


def split_local(path: str) -> tuple[str, str]:
    """Return the first directory of an absolute path and the rest: they stand for bucket and key.

    Args:
        path: ``/directory/file``, or ``oss://directory/file`` for the same.

    Raises:
        OssConfigError: It is not such a path.
    """
    if not isinstance(path, str):
        raise OssConfigError(f"a path must be a string like '/directory/file', not {type(path).__name__}")
    bucket, separator, key = path.removeprefix("oss:/").removeprefix("/").partition("/")
    if not path.startswith(("oss://", "/")) or not bucket or not separator or "\0" in path:
        raise OssConfigError(
            f"{without_query(path)!r} is not an absolute path below a directory: an empty endpoint means files of this "
            "machine, so write /directory/... or oss://directory/..."
        )
    return bucket, key


def check_bucket(name: str) -> str:
    """Return the name of a bucket if it is valid.

    Raises:
        OssConfigError: It is not valid; the message names the rule.
    """
    if split_prefix(f"oss://{name}") != (name, ""):
        raise OssConfigError(f"{name!r} is not a bucket name: it contains a slash")
    return name


def check_object(bucket: str, key: str) -> tuple[str, str]:
    """Return bucket and key of an object if they are valid.

    With an empty key, the request would be about the bucket: deleting the object would delete the bucket.

    Raises:
        OssConfigError: One is not valid; the message names the rule.
        TypeError: The key is no text.
    """
    if not isinstance(key, str):
        raise TypeError(f"key must be a text, not {type(key).__name__}")
    return split_object(f"oss://{check_bucket(bucket)}/{key}")


def without_query(url: str) -> str:
    """Return a URL for a message: the query of a presigned URL is a secret."""
    shown, mark, _ = url.partition("?")
    return f"{shown}?..." if mark else url


def check_local(path: str) -> str:
    """Return a path if it is one of this machine.

    Raises:
        OssConfigError: It looks like a URI: without this check, a mistake would read or write a local file.
    """
    scheme, colon, rest = path.partition(":")
    if scheme.lower() == "oss" and colon and ("/" in rest or scheme != "oss"):
        raise OssConfigError(
            f"{without_query(path)!r} is no object's URI: write 'oss://{rest.lstrip('/').partition('?')[0]}', or "
            f"'./{path.partition('?')[0]}' for a local file of that name"
        )
    if rest.startswith("//") and scheme.isalnum():
        raise OssConfigError(
            f"{without_query(path)!r} is neither a local path nor an oss:// URI: write 'oss://bucket/key' for an object"
        )
    return path


def _described(value: object) -> str:
    return f"{type(value).__name__}{': a path turns oss:// into oss:/' if isinstance(value, PurePath) else ''}"
