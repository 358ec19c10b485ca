"""The rows of a dataset's source, which are listed once for all processes of the dataset."""

import contextlib
import logging
import threading
import time
import warnings
import weakref
from collections.abc import Callable
from typing import Any, Final

from osstorchconnector._native import Client, ListingFile, ObjectStream, ObjectTable, Order
from osstorchconnector.connection.client import OssClient
from osstorchconnector.connection.nearest import nothing_below
from osstorchconnector.dataset.private_directory import PrivateDirectory
from osstorchconnector.dataset.rows import Rows
from osstorchconnector.dataset.sources import PrefixSource, Source
from osstorchconnector.process.starting import is_starting_process
from osstorchconnector.process.worker import worker_share

_logger: Final = logging.getLogger(__name__)

# Room for some 50 million objects. A longer listing would fill a disk for temporary files.
_LISTING_CACHE_BYTES: Final = 4 << 30
# Often enough for a person who watches a long listing, and not too many lines for a log.
_PROGRESS_SECONDS: Final = 5.0
# More sizes are not summed for a description: this takes a third of a second.
_MOST_SUMMED: Final = 100_000
# A thread that waits for its turn to parse looks after this time whether its stream is still read.
_TURN_SECONDS: Final = 0.5


class _TableRows:
    """The rows of an object table: they are complete."""

    complete = True

    def __init__(self, table: ObjectTable) -> None:
        self._table = table
        self.count = len(table)

    def digest(self, count: int, /) -> int:
        return self._table.digest(count)


class SharedListing:
    """The rows of a source: an object table, or a listing file that all processes of a dataset read.

    The first process that needs the rows lists or parses, and the other processes read its rows. If that process ends,
    another one continues after the last row.
    """

    def __init__(
        self, source: Source, client: OssClient, directory: PrivateDirectory, *, directory_markers: bool
    ) -> None:
        """Hold the parts. The file is made at the first use."""
        self._source = source
        self._client = client
        self._directory = directory
        self._directory_markers = directory_markers
        self._file = self._new_file()
        self._stated: tuple[int | None] | None = None
        # For how many rows, and their size if it is known.
        self._size: tuple[int, int | None] | None = None

    def _new_file(self) -> ListingFile:
        return ListingFile(str(self._directory.path / "listing"), limit=_LISTING_CACHE_BYTES)

    @property
    def rows(self) -> Rows:
        """The rows that are known by now."""
        table = self._source.table
        return self._file if table is None else _TableRows(table)

    @property
    def name(self) -> str:
        """The source's name."""
        return self._source.name

    @property
    def client(self) -> OssClient:
        """What fetches the objects."""
        return self._client

    @property
    def place(self) -> str:
        """The place of the objects: the source's name, or the first of named objects."""
        table = self._source.table
        return self._source.name if table is None else table[0].uri + (", ..." if len(table) > 1 else "")

    def described(self) -> tuple[int | None, int | None]:
        """Return the number of rows and the sum of their sizes, as far as both are known without the network.

        Raises:
            OssError: The rows cannot be read.
        """
        rows = self.rows
        if rows.complete:
            if self._size is None or self._size[0] != rows.count:
                table = self._source.table
                self._size = rows.count, _size_of(self._file if table is None else table, rows.count)
            return self._size
        if self._stated is not None or self._source.is_here:
            return self.stated_count(), None
        return None, None

    def stated_count(self) -> int | None:
        """Return the number of rows that the source states, without listing or parsing; None if it states none.

        Raises:
            OssError: The source cannot be read.
        """
        if self._stated is None:
            table = self._source.table
            self._stated = (self._source.stated_count(self._native_client) if table is None else len(table),)
        return self._stated[0]

    def known_count(self) -> int | None:
        """Return the number of rows if it is known without listing or parsing.

        Raises:
            OssError: The source cannot be read.
        """
        rows = self.rows
        return rows.count if rows.complete else self.stated_count()

    def stream(self, order: Order, *, arrival: bool = False) -> ObjectStream:
        """Prefetch objects in an order. If no process lists yet, this one does meanwhile.

        Raises:
            OssError: The listing file cannot be made.
        """
        client = self._native_client
        table = self._source.table
        if table is not None:
            return client.stream(table, order, arrival=arrival)
        self._directory.make()
        prefix = self._source.prefix_to_list(directory_markers=self._directory_markers)
        if prefix is not None:
            return client.stream(self._file, order, arrival=arrival, prefix=prefix)
        stream = client.stream(self._file, order, arrival=arrival)
        if not self._file.complete:
            arguments = (self._source, client, self._file, weakref.ref(stream))
            # A daemon, because a parser may wait for ever. At the end of the program its work is not needed any more.
            threading.Thread(target=_parse_for, args=arguments, name="osst-listing", daemon=True).start()
        return stream

    def stream_at(self, indices: list[int], *, ahead: bool = False) -> ObjectStream:
        """Prefetch some of the rows that are known, in the order of ``indices``.

        Args:
            indices: The numbers of the rows.
            ahead: Whether the program has not asked for them yet: then they get only half of the budget.
        """
        table = self._source.table
        return self._native_client.stream_at(self._file if table is None else table, indices, ahead=ahead)

    def wait(self) -> Rows:
        """Wait until all rows are known, and return them.

        Raises:
            OssError: The listing failed.
        """
        if self._source.table is not None or self._file.complete:
            return self.rows
        self._directory.make()
        prefix = self._source.prefix_to_list(directory_markers=self._directory_markers)
        progress = _ProgressLog(self._source)
        if prefix is not None:
            self._file.wait(self._native_client, prefix, progress=progress)
            self.warn_if_empty()
        else:
            turn = "taken"
            while turn == "taken":
                progress(self._file.count)
                turn = self._file.acquire(_TURN_SECONDS)
            if turn == "ours":
                error = _parse(self._source, self._native_client, self._file, lambda: True, progress)
                if error is not None:
                    raise error
                self.warn_if_empty()
            # Raises if another process failed.
            len(self._file)
        return self._file

    def warn_if_empty(self) -> None:
        """Warn if the source is known to name no object: mostly its place is misspelt."""
        source, rows = self._source, self.rows
        share = worker_share()
        if not rows.complete or rows.count or (share and share.index):
            return
        pattern = "no (object|file) matches"
        if not isinstance(source, PrefixSource):
            said, pattern = f"{source.name} names no object", ".* names no object"
        elif not self._client.endpoint:
            said = f"no file matches the path /{source.bucket}/{source.prefix}"
        elif next(self._client.list(source.name), None) is None:
            said = nothing_below(self._client, source.bucket, source.prefix)
        else:
            said = f"{source.name} has only directory markers, and directory_markers=True delivers them"
        # The loop that reads is further up; its depth is not known here.
        warnings.warn(f"{said}; to silence: warnings.filterwarnings('ignore', '{pattern}')", stacklevel=2)

    def refresh(self) -> None:
        """Forget the rows: the next stream lists again, and open streams keep the old rows."""
        if self._source.table is None:
            self._file.renew()
            self._stated = None

    @property
    def _native_client(self) -> Client:
        return self._client._native_client  # noqa: SLF001

    def __getstate__(self) -> dict[str, Any]:
        """Return the parts; the file only if a process of this dataset is being started."""
        state = self.__dict__.copy()
        if not is_starting_process():
            del state["_file"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the parts. Without a file, use a new one."""
        self.__dict__.update(state)
        if "_file" not in state:
            self._file = self._new_file()


def _size_of(rows: ListingFile | ObjectTable, count: int) -> int | None:
    """Return the sum of the sizes; None if there are too many rows, or if one of them has no size."""
    if count > _MOST_SUMMED:
        return None
    try:
        return sum(rows[index].size for index in range(count))
    except ValueError:
        # A row has no client that could ask for its size.
        return None


def _parse_for(source: Source, client: Client, file: ListingFile, reader: "weakref.ref[ObjectStream]") -> None:
    """Parse, if no other process does, as long as the stream is read."""

    def is_read() -> bool:
        stream = reader()
        return stream is not None and not stream.closed

    try:
        turn = "taken"
        while turn == "taken" and is_read():
            turn = file.acquire(_TURN_SECONDS)
        if turn == "ours":
            _parse(source, client, file, is_read, lambda _count: None)
    except Exception as error:  # noqa: BLE001 - the reader of the stream raises it
        stream = reader()
        if stream is not None:
            stream.fail(error)


def _parse(
    source: Source,
    client: Client,
    file: ListingFile,
    is_wanted: Callable[[], bool],
    progress: Callable[[int], None],
) -> Exception | None:
    """Append the rows of a source after those in the file, as long as they are wanted.

    Returns:
        The error that ended it. All readers of the file raise it.
    """
    known = file.count
    try:
        with contextlib.closing(source.pages(client)) as pages:
            for page in pages:
                if not is_wanted():
                    return None
                file.put(page[known:])
                known -= min(known, len(page))
                progress(file.count)
        file.finish()
    except Exception as error:  # noqa: BLE001 - all readers of the listing raise it
        file.fail(error)
        return error
    finally:
        file.release()
    return None


class _ProgressLog:
    """Logs every few seconds how many objects are listed."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._logged = time.monotonic()

    def __call__(self, count: int) -> None:
        now = time.monotonic()
        if now - self._logged >= _PROGRESS_SECONDS:
            self._logged = now
            _logger.info("listing %s: %d objects so far", self._source.name, count)
