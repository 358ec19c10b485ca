"""What the service says: the bucket and its region, the identity, the rights, the quota."""

import html
import re
import secrets
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from osstorchconnector.cli.doctor_checks.finding import Finding, failure, ok, warning
from osstorchconnector.cli.doctor_checks.target import Target
from osstorchconnector.exceptions import (
    OssArchivedError,
    OssError,
    OssNotFoundError,
    OssPermissionError,
    OssThrottledError,
)

if TYPE_CHECKING:
    from osstorchconnector._native import Client

_PAGE: Final = 1000
#: Codes of refusals of the access key itself, whatever it asks for, and what to do.
_REFUSED_KEYS: Final = {
    "InvalidAccessKeyId": "the service does not know this key: check its ID, and that it is enabled",
    "SignatureDoesNotMatch": "the secret does not belong to the ID: copy both again, without blanks around them",
    "SecurityTokenExpired": "the temporary key has ended: get a new one",
    "InvalidSecurityToken": "the token does not belong to the key: set all three of one answer of STS",
    "SecurityTokenNotSupported": "the key is no temporary one: leave the token out",
    "AccessKeyIdAndSecurityTokenNotMatch": "the token does not belong to the key: set all three of one answer of STS",
    "UserDisable": "the account is disabled, for instance for an unpaid bill",
    "RequestTimeTooSkewed": "set the clock of this machine",
}
# Codes with which a signature for another region is refused.
_REGION_CODES: Final = frozenset({"AccessDenied", "InvalidArgument", "SignatureDoesNotMatch"})
_ALMOST_FULL: Final = 0.95
_GIB: Final = 1 << 30


@dataclass
class Door:
    """What the first request said.

    Attributes:
        findings: The lines about it.
        open: Whether the key is accepted, so that rights can be tried.
    """

    findings: list[Finding]
    open: bool


@dataclass
class Listed:
    """Some objects below the prefix: their keys and sizes."""

    objects: list[tuple[str, int]] = field(default_factory=list)


def door(target: Target, client: "Client") -> Door:
    """Ask for the bucket's description: the answer says whether key, region and bucket are right."""
    if not target.bucket:
        return _account(client)
    try:
        _, body = client.request("GET", target.bucket, None, query=[("bucketInfo", "")])
    except OssError as error:
        return _refused(target, error)
    region = _text(body, "Location").removeprefix("oss-")
    owner = _text(body, "ID")
    versioned = _text(body, "Versioning")
    shown = f"{target.bucket} of account {owner}, {_text(body, 'StorageClass')}, {_text(body, 'DataRedundancyType')}"
    found = [ok("bucket", shown, owner=owner, versioning=versioned)]
    if target.region and region != target.region:
        text = f"the bucket is in {region}, but requests are signed for {target.region}"
        found.append(failure("region", text, f"give --region {region} and an endpoint of that region", region=region))
    else:
        found.append(ok("region", f"{region}, says the service", region=region))
    return Door(found, open=True)


def identity(target: Target, endpoint: str = "") -> list[Finding]:
    """Ask STS who the key belongs to.

    Args:
        target: The key is its access key.
        endpoint: Address of STS. Default: that of the region.
    """
    name = "identity"
    if target.credentials is None:
        return [ok(name, "nobody: requests are not signed")]
    if not endpoint and not target.is_alibaba:
        return [ok(name, "not asked: the endpoint is none of Alibaba Cloud, so its STS need not know the key")]
    from osstorchconnector.credentials.sts import caller_identity  # noqa: PLC0415 - few commands need it

    try:
        who = caller_identity(target.credentials(), endpoint, region=target.region, vpc=target.is_internal)
    except OssError as error:
        return [ok(name, f"not known: {error}")]
    return [ok(name, f"{who['Arn']} (account {who['AccountId']})", **who)]


def may_list(target: Target, client: "Client", listed: Listed) -> list[Finding]:
    """Try the right to list, and remember some objects."""
    name = "list"
    if not target.bucket:
        return []
    try:
        page = next(client.list_pages(target.bucket, target.prefix, page_size=_PAGE), ([], []))
    except OssError as error:
        remedy = f"allow oss:ListObjects on acs:oss:*:*:{target.bucket}, or read from a manifest instead of a prefix"
        return [_denied(name, error, remedy)]
    # A directory marker has no bytes.
    listed.objects += [(key, size) for key, size, *_ in page[0] if size > 0]
    uri = f"oss://{target.bucket}/{target.prefix}"
    if not page[0]:
        return [warning(name, f"allowed; no object below {uri}", "check the prefix: upper and lower case differ")]
    more = "at least " if len(page[0]) == _PAGE else ""
    return [ok(name, f"allowed; {more}{len(page[0])} objects below {uri}", objects=len(page[0]))]


def may_read(target: Target, client: "Client", listed: Listed) -> list[Finding]:
    """Try the right to read, with one byte of an object."""
    name = "read"
    if not target.bucket:
        return []
    key = listed.objects[0][0] if listed.objects else target.prefix
    if not key:
        return [ok(name, "not tried: no object is known")]
    try:
        client.get(target.bucket, key, 0, 1)
    except OssNotFoundError:
        return [ok(name, f"allowed; there is no object {key!r} to read")]
    except OssArchivedError as error:
        return [warning(name, str(error), "restore it with OssClient.restore, or choose another storage class")]
    except OssError as error:
        # Nothing can be measured with them.
        listed.objects.clear()
        return [_denied(name, error, f"allow oss:GetObject on acs:oss:*:*:{target.bucket}/*")]
    return [ok(name, "allowed")]


def may_write(target: Target, client: "Client") -> list[Finding]:
    """Try the rights to write and delete, with an object of 16 bytes that is deleted in every case."""
    if not target.bucket:
        return []
    key = f"{target.prefix}.osst-doctor-{uuid.uuid4().hex}"
    uri = f"oss://{target.bucket}/{key}"
    written: Finding
    stored = True
    try:
        try:
            client.put(target.bucket, key, secrets.token_bytes(16))
            written = ok("write", "allowed")
        except OssError as error:
            # The answer may have been lost, so the object may exist.
            stored = not isinstance(error, OssPermissionError)
            written = _denied("write", error, f"allow oss:PutObject on acs:oss:*:*:{target.bucket}/*")
    finally:
        deleted = _delete(target, client, key, uri, stored=stored)
    return [written, deleted]


def quota(target: Target, client: "Client") -> list[Finding]:
    """Ask for the bucket's limit of bytes, and how many it has."""
    name = "quota"
    if not target.bucket:
        return []
    try:
        _, body = client.request("GET", target.bucket, None, query=[("qos", "")])
        capacity = int(_text(body, "StorageCapacity") or -1)
        _, body = client.request("GET", target.bucket, None, query=[("stat", "")])
        used = int(_text(body, "Storage") or 0)
    except OssError as error:
        return [ok(name, f"not known: {_short(error)}")]
    if capacity < 0:
        return [ok(name, f"no limit of the bucket's size; it has {used / _GIB:.2f} GiB", used=used)]
    text = f"{used / _GIB:.2f} of {capacity} GiB are used"
    if used > _ALMOST_FULL * capacity * _GIB:
        return [warning(name, text, "delete objects or raise the bucket's capacity", used=used, capacity=capacity)]
    return [ok(name, text, used=used, capacity=capacity)]


def _account(client: "Client") -> Door:
    try:
        count = len(client.list_buckets())
    except OssPermissionError as error:
        if error.code in _REFUSED_KEYS:
            return Door([failure("access key", str(error), _REFUSED_KEYS[error.code])], open=False)
        return Door([ok("buckets", "the key is accepted, and may not list the buckets")], open=True)
    except OssError as error:
        return Door([failure("buckets", str(error), "see the message")], open=False)
    return Door([ok("buckets", f"the key may list the buckets of its account: {count}", buckets=count)], open=True)


def _refused(target: Target, error: OssError) -> Door:
    if isinstance(error, OssThrottledError):
        return Door([warning("bucket", str(error), "lower the rate of requests, or ask for a higher quota")], open=True)
    wrong = _wrong(target, error)
    if wrong is None:
        said = "the key may not ask for its description (oss:GetBucketInfo)"
        return Door([ok("bucket", f"{target.bucket}; {said}: {error}")], open=True)
    return Door([wrong], open=False)


def _wrong(target: Target, error: OssError) -> Finding | None:
    """Return what stands in the way of every request, or None if only this one was denied."""
    text = str(error)
    region = _region_by_old_signature(target) if error.code in _REGION_CODES else ""
    if region not in {"", target.region}:
        remedy = f"give --region {region}, and an endpoint of that region"
        return failure("region", f"the bucket is in {region}: {text}", remedy, region=region)
    if error.code == "InvalidArgument":
        return failure("region", text, "give the region of the bucket as --region; the console shows it")
    if error.code in _REFUSED_KEYS:
        name = "clock" if error.code == "RequestTimeTooSkewed" else "access key"
        return failure(name, text, _REFUSED_KEYS[error.code])
    if isinstance(error, OssNotFoundError):
        return failure("bucket", text, "check the name of the bucket, and that the endpoint is one of its region")
    if isinstance(error, OssPermissionError):
        return None
    return failure("bucket", text, "see the message")


def _region_by_old_signature(target: Target) -> str:
    """Return the bucket's region by a request with signature V1, which needs no region; empty if that is refused."""
    try:
        client = target.client(signature_version="v1")
        _, body = client.request("GET", target.bucket, None, query=[("location", "")])
    except OssError:
        return ""
    return _text(body, "LocationConstraint").removeprefix("oss-")


def _denied(name: str, error: OssError, remedy: str) -> Finding:
    if isinstance(error, OssPermissionError):
        return failure(name, f"denied: {error}", f"if the message names an endpoint, give that; else {remedy}")
    return failure(name, f"failed: {error}", "see the message")


def _delete(target: Target, client: "Client", key: str, uri: str, *, stored: bool) -> Finding:
    for attempt in range(2):
        try:
            client.delete(target.bucket, key)
        except OssError as error:
            if attempt == 0 and not isinstance(error, OssPermissionError):
                continue
            remains = f"; {uri} remains" if stored and _exists(target, client, key) else ""
            remedy = f"allow oss:DeleteObject on acs:oss:*:*:{target.bucket}/*"
            if remains:
                remedy += f", and delete {uri}"
            found = _denied("delete", error, remedy)
            return failure("delete", f"{found.text}{remains}", remedy if remains else found.remedy)
        break
    return ok("delete", "allowed" if stored else "allowed, of an object that does not exist")


def _exists(target: Target, client: "Client", key: str) -> bool:
    with suppress(OssNotFoundError):
        try:
            client.head(target.bucket, key)
        except OssNotFoundError:
            raise
        except OssError:
            # It cannot be asked, so it may exist.
            return True
        return True
    return False


def _short(error: OssError) -> str:
    return f"the answer was {error.code or error.status or str(error)}"


def _text(body: bytes, tag: str) -> str:
    """Return the text of the first element of that name; these documents have no attributes and no nesting of it."""
    match = re.search(rf"<{tag}>([^<]*)</{tag}>".encode(), body)
    return "" if match is None else html.unescape(match[1].decode(errors="replace"))
