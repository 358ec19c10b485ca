"""Objects as the native core takes them, a page at a time."""

from collections.abc import Generator, Iterable
from typing import Final

#: Bucket, key, size, quoted ETag and label of an object, and where its bytes lie in an archive: its key and an offset.
Row = tuple[str, str, int | None, str | None, str, tuple[str, int] | None]

# Objects named at a time: enough that crossing to the native core costs each next to nothing, few enough that the first
# requests start at once.
_PAGE: Final = 1000


def pages(rows: Iterable[Row]) -> Generator[list[Row]]:
    """Yield the rows a thousand at a time; those before an exception come before it."""
    page: list[Row] = []
    try:
        for row in rows:
            page.append(row)
            if len(page) == _PAGE:
                yield page
                page = []
    except Exception:
        yield page
        raise
    yield page


def quoted(etag: str) -> str | None:
    """Return an ETag as requests carry it; None for an empty one."""
    return f'"{etag}"' if etag else None
