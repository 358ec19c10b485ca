"""Conditions of reads: which version of an object is wanted."""

from datetime import datetime

from osstorchconnector.connection.http_date import format_http_date
from osstorchconnector.connection.write_options import Headers, check_value
from osstorchconnector.exceptions import OssConfigError


def condition_headers(
    if_match: str | None,
    if_none_match: str | None,
    if_modified_since: datetime | None,
    if_unmodified_since: datetime | None,
) -> Headers:
    """Return the headers of the conditions that are given.

    Raises:
        OssConfigError: A value is not allowed.
    """
    found = []
    for name, etag in (("if_match", if_match), ("if_none_match", if_none_match)):
        if etag is not None:
            if not isinstance(etag, str):
                raise OssConfigError(f"{name} must be an ETag as a string, not {type(etag).__name__}")
            check_value(name, etag)
            found.append((name.replace("_", "-"), etag if etag == "*" or etag.startswith('"') else f'"{etag}"'))
    for name, time in (("if_modified_since", if_modified_since), ("if_unmodified_since", if_unmodified_since)):
        if time is not None:
            if not isinstance(time, datetime):
                raise OssConfigError(f"{name} must be a datetime, not {type(time).__name__}")
            if time.tzinfo is None:
                raise OssConfigError(f"{name} is a time without a zone: add one, such as datetime.UTC")
            found.append((name.replace("_", "-"), format_http_date(time)))
    return found
