"""What the rows of a listing become: names, sizes, or descriptions.

They are made a page at a time, in one expression, since a directory may have millions of keys. Keys that end with a
slash mark directories, and are no files.
"""

from datetime import UTC, datetime
from typing import Any

Entry = dict[str, Any]
# Key and size, and what else a listing says of an object.
Row = tuple[Any, ...]


class _Moments(dict[float, datetime]):
    """Times of objects. Those that are listed one after the other were often written in the same second."""

    def __missing__(self, mtime: float) -> datetime:
        moment = self[mtime] = datetime.fromtimestamp(mtime, UTC)
        return moment


def names(bucket: str, rows: list[Row]) -> list[str]:
    """Return the names of the files of a page."""
    return [f"{bucket}/{row[0]}" for row in rows if row[0][-1] != "/"]


def sizes(bucket: str, rows: list[Row]) -> dict[str, int]:
    """Return the sizes of the files of a page by name."""
    return {f"{bucket}/{row[0]}": row[1] for row in rows if row[0][-1] != "/"}


def total_size(_bucket: str, rows: list[Row]) -> int:
    """Return the size of all files of a page."""
    return sum([row[1] for row in rows if row[0][-1] != "/"])


def descriptions(bucket: str, rows: list[Row]) -> list[Entry]:
    """Return the descriptions of the files of a page."""
    moments = _Moments()
    return [
        {
            "name": f"{bucket}/{key}",
            "size": size,
            "type": "file",
            "ETag": etag,
            "mtime": mtime,
            "LastModified": moments[mtime],
            "StorageClass": storage_class,
            "ObjectType": kind,
        }
        for key, size, etag, mtime, kind, storage_class in rows
        if key[-1] != "/"
    ]


def directory(name: str) -> Entry:
    """Return the description of a directory."""
    return {"name": name, "size": 0, "type": "directory"}
