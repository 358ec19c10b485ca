"""The objects that are read: a sample of those below a prefix, in classes of size."""

import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from osstorchconnector.cli.bench_runs.reading import LARGEST_STREAMED
from osstorchconnector.connection.nearest import nothing_below
from osstorchconnector.connection.uri import split_prefix
from osstorchconnector.exceptions import OssConfigError

if TYPE_CHECKING:
    from osstorchconnector.connection.client import OssClient

#: Upper limits of the classes, and their names.
CLASSES: Final = (
    (16 << 10, "up to 16 KiB"),
    (128 << 10, "up to 128 KiB"),
    (1 << 20, "up to 1 MiB"),
    (8 << 20, "up to 8 MiB"),
    (LARGEST_STREAMED, "up to 32 MiB"),
    (1 << 63, "above 32 MiB"),
)
# Twenty pages: enough that no object comes twice within a short run, and listed in a second.
_MOST: Final = 20_000

# Each process of each run reads at least one object. If this many objects are more than the traffic, they are read in
# pieces, as large ones are.
_READS: Final = 120

Row = tuple[str, str, int]


@dataclass
class Sample:
    """Objects below a prefix.

    Attributes:
        uri: The prefix.
        rows: Bucket, key and size of each.
        more: Whether there are more than those.
        streamed: The largest size of objects that a run reads as a whole; larger ones are read in pieces.
        classes: The same objects by class of size, without empty classes.
    """

    uri: str
    rows: list[Row]
    more: bool
    streamed: int
    classes: dict[str, list[Row]] = field(init=False)

    def __post_init__(self) -> None:
        """Sort the objects into classes."""
        self.classes = {}
        for row in sorted(self.rows, key=lambda row: row[2]):
            name = next(name for limit, name in CLASSES if row[2] <= limit)
            self.classes.setdefault(name, []).append(row)

    @property
    def main(self) -> list[Row]:
        """The objects of the main run: those that a dataset fetches ahead, else the large ones."""
        return [row for row in self.rows if row[2] <= self.streamed] or self.rows

    @property
    def median(self) -> int:
        """The median size of the main run."""
        return int(statistics.median(row[2] for row in self.main))


def sample(client: "OssClient", uri: str, traffic: int) -> Sample:
    """List the objects below a prefix, and leave out what is empty.

    Raises:
        OssConfigError: There is none.
    """
    bucket, prefix = split_prefix(uri)
    rows: list[Row] = []
    native = client._native_client  # noqa: SLF001 - its own part
    more = False
    for objects, _ in native.list_pages(bucket, prefix):
        rows += [(bucket, key, size) for key, size, *_ in objects if size > 0]
        if more := len(rows) >= _MOST:
            break
    if not rows:
        raise OssConfigError(f"there is nothing to read: {nothing_below(client, bucket, prefix)}")
    return Sample(uri, rows[:_MOST], more, min(LARGEST_STREAMED, traffic // _READS))
