"""The rows of a listing, as the native core takes them: a page at a time."""

from collections.abc import Generator, Iterable
from typing import Final, Protocol

#: Bucket, key, size, quoted ETag and label of an object; for a member also the key of its archive and its offset there.
Row = tuple[str, str, int | None, str | None, str, tuple[str, int] | None]

# Rows in a page: enough that the call into the native core costs each row next to nothing, and few enough that the
# first requests start at once.
_PAGE: Final = 1000


class Rows(Protocol):
    """The rows of a listing that are known by now."""

    @property
    def count(self) -> int:
        """Their number."""
        ...

    @property
    def complete(self) -> bool:
        """Whether they are all rows of the listing."""
        ...

    def digest(self, count: int, /) -> int:
        """Return a checksum over the first ``count`` rows."""
        ...


def pages(rows: Iterable[Row]) -> Generator[list[Row]]:
    """Yield the rows a thousand at a time. If an exception comes, the rows before it are yielded first."""
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
