"""A manifest or a snapshot against the bucket: which objects are missing, and which were replaced."""

from collections.abc import Collection
from typing import TYPE_CHECKING

from osstorchconnector.cli.verify_checks.objects import Listed, below_prefix, read
from osstorchconnector.cli.verify_checks.tally import Tally
from osstorchconnector.dataset.manifest import default_manifest_parser, manifest_rows
from osstorchconnector.exceptions import OssConfigError

if TYPE_CHECKING:
    from osstorchconnector.connection.client import OssClient


def verify_manifest(client: "OssClient", manifest: str, base_uri: str, tally: Tally, *, reads: bool) -> None:
    """Compare the objects that a manifest names with a listing; a snapshot names sizes and ETags, too.

    Args:
        client: The client.
        manifest: Path of a local file, or the URI of an object.
        base_uri: The beginning of each URI; the key follows it.
        tally: Receives the results.
        reads: Also read the objects, and compare their checksums.

    Raises:
        OssConfigError: The file cannot be opened, or is no manifest.
        OssError: It cannot be read, or the bucket cannot be listed.
    """
    native = client._native_client  # noqa: SLF001 - its own part
    named: dict[str, dict[str, tuple[int | None, str | None]]] = {}
    for bucket, key, size, etag, _, _ in manifest_rows(manifest, default_manifest_parser, base_uri, native):
        named.setdefault(bucket, {})[key] = size, None if etag is None else etag.strip('"')
    if not named:
        raise OssConfigError(f"{manifest} names no object")
    for bucket, keys in named.items():
        prefix = _common(keys)
        right, others = _compared(client, bucket, prefix, keys, tally)
        if others:
            tally.note(f"{others} objects below oss://{bucket}/{prefix} are not in {manifest}")
        if reads:
            read(client, right, tally)
        else:
            tally.verified += len(right)
            tally.note("only names, sizes and ETags were compared; --read compares the content, too")


def _compared(
    client: "OssClient", bucket: str, prefix: str, keys: dict[str, tuple[int | None, str | None]], tally: Tally
) -> tuple[list[Listed], int]:
    """Return the objects that are as the manifest says, and how many others begin like them."""
    right: list[Listed] = []
    others = 0
    for listed in below_prefix(client, bucket, prefix):
        _, key, size, etag = listed
        if key not in keys:
            others += 1
            continue
        named_size, named_etag = keys.pop(key)
        uri = f"oss://{bucket}/{key}"
        if named_size not in {None, size}:
            tally.problem(uri, "differs", f"it has {size} bytes, and {named_size} when the snapshot was made")
        elif named_etag not in {None, "", etag}:
            tally.problem(uri, "differs", f"it has the ETag {etag}, and {named_etag} when the snapshot was made")
        else:
            right.append(listed)
    for key in keys:
        tally.problem(f"oss://{bucket}/{key}", "missing", "there is no such object")
    return right, others


def _common(keys: Collection[str]) -> str:
    """Return what all keys begin with: what is common to the first and the last one in order."""
    first, last = min(keys), max(keys)
    length = next((place for place, (one, other) in enumerate(zip(first, last, strict=False)) if one != other), None)
    return first[:length]
