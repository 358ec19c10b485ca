"""Endpoint and region in their complete form, from what the user wrote."""

import ipaddress
import re
from typing import Final
from urllib.parse import urlsplit

from osstorchconnector import _native
from osstorchconnector.connection.uri import without_query
from osstorchconnector.exceptions import OssConfigError

# https://www.alibabacloud.com/help/en/oss/user-guide/regions-and-endpoints: region IDs are lowercase words and digits.
_REGION: Final = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")

# What a person may write for them. Access keys, which may have been written at the wrong place, have no such form.
_LIKE_REGION: Final = re.compile(r"\s*[A-Za-z]{1,12}([-_ ./][A-Za-z0-9]{1,12})*\s*")
_LIKE_ENDPOINT: Final = re.compile(r"[^.:]*[.:].*|localhost.*", re.DOTALL)

# A bucket's own host, as the console shows it. https://www.alibabacloud.com/help/en/oss/user-guide/regions-and-endpoints
_BUCKET_HOST: Final = re.compile(
    r"(?P<bucket>[a-z0-9][a-z0-9-]{1,61}[a-z0-9])\."
    r"(?P<endpoint>(?:oss-(?!data-acc\.)[a-z0-9-]+|[a-z0-9-]+\.oss|[a-z0-9-]+\.oss-data-acc)\.aliyuncs\.com)"
)


def normalize_endpoint(endpoint: str) -> str:
    """Return the endpoint as ``scheme://host[:port]``.

    An endpoint without a scheme means HTTPS; an IP address or ``localhost`` means HTTP.

    Raises:
        OssConfigError: The endpoint is empty, or is not a host with an optional scheme and port.
    """
    if not isinstance(endpoint, str):
        raise OssConfigError(f"endpoint must be a string, not {type(endpoint).__name__}")
    if not endpoint:
        raise OssConfigError("endpoint must not be empty: give one like 'oss-cn-hangzhou-internal.aliyuncs.com'")
    if "@" in endpoint:
        # The text before the @ may be a password, so the message does not repeat it.
        raise OssConfigError("endpoint must not contain a user name or password: give them as credentials")
    # The query of a presigned URL is a secret.
    written, endpoint = endpoint, without_query(endpoint)
    shown = _shown(endpoint, _LIKE_ENDPOINT)
    scheme, separator, rest = written.partition("://")
    authority = rest if separator else endpoint
    try:
        parts = urlsplit(f"//{authority}")
        host, port = parts.hostname, parts.port
    except ValueError:
        # Its message may hold the query.
        raise OssConfigError(f"endpoint {shown} cannot be read: give a host with an optional port") from None
    if not host or re.search(r"[\s\\]", authority):
        raise OssConfigError(f"endpoint {shown} has no valid host name")
    _check_server(endpoint, host, port)
    if parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise OssConfigError(f"endpoint {shown} must be a host with an optional scheme and port, without a path")
    if not separator:
        scheme = "http" if _is_local(host) else "https"
    scheme = scheme.lower()
    if scheme not in {"http", "https"}:
        raise OssConfigError(f"endpoint {endpoint!r} has scheme {scheme!r}: allowed are http and https")
    return f"{scheme}://{parts.netloc}"


def _check_server(endpoint: str, host: str, port: int | None) -> None:
    owned = _BUCKET_HOST.fullmatch(host)
    if owned is not None:
        bucket, right = owned["bucket"], owned["endpoint"]
        raise OssConfigError(
            f"endpoint {endpoint!r} is the host of bucket {bucket!r}: pass endpoint={right!r}, and name the bucket "
            f"in the URI, like 'oss://{bucket}/key'"
        )
    if port == 0:
        raise OssConfigError(f"endpoint {endpoint!r} has port 0, on which no server listens")


def check_region(region: str, argument: str) -> str:
    """Return the region if it is well-formed.

    Args:
        region: A region ID such as ``cn-hangzhou``.
        argument: The argument or variable that holds it, for the message.

    Raises:
        OssConfigError: It is not a region ID.
    """
    if not isinstance(region, str) or _REGION.fullmatch(region) is None:
        raise OssConfigError(
            f"{argument} must be a region ID such as 'cn-hangzhou', not {_shown(region, _LIKE_REGION)}"
        )
    if region.startswith("oss-"):
        # Bucket locations have this prefix; OSS refuses a signature for such a region.
        raise OssConfigError(f"{argument} is a bucket location, {region!r}: the region ID is {region[4:]!r}")
    return region


def _shown(text: object, likely: re.Pattern[str]) -> str:
    if isinstance(text, str) and likely.fullmatch(text) is None:
        return f"({len(text)} characters, which may be a secret and are not repeated)"
    return repr(text)


def infer_region(endpoint: str) -> str | None:
    """Return the region in the endpoint's host name, or None.

    Args:
        endpoint: An endpoint as :func:`normalize_endpoint` returns it.
    """
    return _native.infer_region(endpoint)


def _is_local(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
