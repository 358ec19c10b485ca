"""What is listed of a dataset's source: once, for all its processes."""

import contextlib
import threading
import time
import weakref
from collections.abc import Callable
from multiprocessing.context import get_spawning_popen
from typing import Any, Final

from osstorchconnector._native import Client, ListingFile, ObjectStream, ObjectTable, Order
from osstorchconnector.connection.client import OssClient
from osstorchconnector.dataset.private_directory import PrivateDirectory
from osstorchconnector.dataset.sources import Source
from osstorchconnector.dataset.state import Rows
from osstorchconnector.process.log import LOGGER

# A listing of some 50 million objects. A longer one would fill the disks that machines have for temporary files.
_LISTING_CACHE_BYTES: Final = 4 << 30
# Somebody who watches a long listing wants to see it move; a log wants to stay short.
_PROGRESS_SECONDS: Final = 5.0
# How long a thread that is ready to parse waits for its turn before it looks whether anybody still reads.
_TURN_SECONDS: Final = 0.5


class _Table:
    """Rows in memory, which are complete."""

    complete = True

    def __init__(self, table: ObjectTable) -> None:
        self._table = table
        self.count = len(table)

    def digest(self, count: int, /) -> int:
        return self._table.digest(count)


class SharedListing:
    """The rows of a source: in memory where they were named, else in a file that all processes of the dataset read.

    Whoever needs it first lists or parses, and the others follow. Where that process ends, another goes on behind the
    last row.
    """

    def __init__(
        self, source: Source, client: OssClient, directory: PrivateDirectory, *, directory_markers: bool
    ) -> None:
        """Hold the parts. Nothing is made before the first use."""
        self._source = source
        self._client = client
        self._directory = directory
        self._directory_markers = directory_markers
        self._listing = self._new_listing()

    def _new_listing(self) -> ListingFile:
        return ListingFile(str(self._directory.path / "listing"), limit=_LISTING_CACHE_BYTES)

    @property
    def rows(self) -> Rows:
        """What is known so far."""
        table = self._source.table
        return self._listing if table is None else _Table(table)

    def stream(self, order: Order, *, arrival: bool = False) -> ObjectStream:
        """Fetch objects in an order, ahead of the reader, listing meanwhile where nobody does.

        Raises:
            OssError: The listing's file cannot be made.
        """
        client = self._native_client
        table = self._source.table
        if table is not None:
            return client.stream(table, order, arrival=arrival)
        self._directory.make()
        prefix = self._source.prefix_listing(directory_markers=self._directory_markers)
        if prefix is not None:
            return client.stream(self._listing, order, arrival=arrival, producer=prefix)
        stream = client.stream(self._listing, order, arrival=arrival)
        if not self._listing.complete:
            arguments = (self._source, client, self._listing, weakref.ref(stream))
            # A daemon, since a parser may wait for ever; what it has not finished when the program ends is no loss.
            threading.Thread(target=_parse_for, args=arguments, name="osst-listing", daemon=True).start()
        return stream

    def stream_at(self, positions: list[int], *, ahead: bool = False) -> ObjectStream:
        """Fetch some of the rows that are known, ahead of the reader, in the order of ``positions``.

        Args:
            positions: Which rows.
            ahead: Nobody has asked for them yet: they get half of the budget only.
        """
        table = self._source.table
        return self._native_client.stream_at(self._listing if table is None else table, positions, ahead=ahead)

    def wait(self) -> Rows:
        """Wait until all rows are known, and return them.

        Raises:
            OssError: The listing failed.
        """
        if self._source.table is not None or self._listing.complete:
            return self.rows
        self._directory.make()
        prefix = self._source.prefix_listing(directory_markers=self._directory_markers)
        progress = _ProgressLog(self._source)
        if prefix is not None:
            self._listing.wait(self._native_client, prefix, progress=progress)
        else:
            turn = "taken"
            while turn == "taken":
                progress(self._listing.count)
                turn = self._listing.acquire(_TURN_SECONDS)
            if turn == "ours":
                error = _parse(self._source, self._native_client, self._listing, lambda: True, progress)
                if error is not None:
                    raise error
            # Raises where another process failed.
            len(self._listing)
        return self._listing

    def refresh(self) -> None:
        """Forget the rows that were listed: the next stream lists anew, and those that are open go on."""
        if self._source.table is None:
            self._listing.renew()

    @property
    def _native_client(self) -> Client:
        return self._client._native_client  # noqa: SLF001

    def __getstate__(self) -> dict[str, Any]:
        """Return the parts. The file is for the processes of one dataset."""
        state = self.__dict__.copy()
        if get_spawning_popen() is None:
            del state["_listing"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the parts, and the file or another one."""
        self.__dict__.update(state)
        if "_listing" not in state:
            self._listing = self._new_listing()


def _parse_for(source: Source, client: Client, listing: ListingFile, reader: "weakref.ref[ObjectStream]") -> None:
    """Parse where no other process does, as long as the stream is read."""

    def is_read() -> bool:
        stream = reader()
        return stream is not None and not stream.closed

    try:
        turn = "taken"
        while turn == "taken" and is_read():
            turn = listing.acquire(_TURN_SECONDS)
        if turn == "ours":
            _parse(source, client, listing, is_read, lambda _count: None)
    except Exception as error:  # noqa: BLE001 - the reader of the stream raises it
        stream = reader()
        if stream is not None:
            stream.fail(error)


def _parse(
    source: Source,
    client: Client,
    listing: ListingFile,
    is_wanted: Callable[[], bool],
    progress: Callable[[int], None],
) -> Exception | None:
    """Append what a source names behind the rows that are there, as long as somebody wants it.

    Returns:
        The error that ended it, which the listing tells all who read it.
    """
    known = listing.count
    try:
        with contextlib.closing(source.pages(client)) as pages:
            for page in pages:
                if not is_wanted():
                    return None
                listing.put(page[known:])
                known -= min(known, len(page))
                progress(listing.count)
        listing.finish()
    except Exception as error:  # noqa: BLE001 - all readers of the listing raise it
        listing.fail(error)
        return error
    finally:
        listing.release()
    return None


class _ProgressLog:
    """Says every few seconds how far a listing is."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._said = time.monotonic()

    def __call__(self, count: int) -> None:
        now = time.monotonic()
        if now - self._said >= _PROGRESS_SECONDS:
            self._said = now
            LOGGER.info("listing %s: %d objects so far", self._source.name, count)
