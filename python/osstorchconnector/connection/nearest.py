"""The nearest prefix that has objects, for a prefix that matches nothing."""

from typing import TYPE_CHECKING

from osstorchconnector.exceptions import OssError

if TYPE_CHECKING:
    from osstorchconnector.connection.client import OssClient


def nothing_below(client: "OssClient", bucket: str, prefix: str) -> str:
    """Return a sentence about a prefix that matches nothing; it names the nearest prefix that has objects."""
    said = f"no object matches the prefix oss://{bucket}/{prefix}"
    parent = prefix
    try:
        while parent:
            parent = parent.rstrip("/").rpartition("/")[0]
            parent += "/" if parent else ""
            found = next(client.list(f"oss://{bucket}/{parent}"), None)
            if found is not None:
                return f"{said}: the nearest one with objects is oss://{bucket}/{parent}, with {found.uri}"
    except OssError:
        # The key may read this prefix and no other.
        return said
    return f"{said}: the bucket {bucket} is empty"
