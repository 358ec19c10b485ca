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

    def _new_file(self) -> ListingFile:
        return ListingFile(str(self._directory.path / "listing"), limit=_LISTING_CACHE_BYTES)

    @property
    def rows(self) -> Rows:
        """The rows that are known by now."""
        table = self._source.table
        return self._file if table is None else _TableRows(table)

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
            # Raises if another process failed.
            len(self._file)
        return self._file

    def warn_if_empty(self) -> None:
        """Warn if the source is a prefix and all its rows are known to be none: mostly the prefix is misspelt."""
        source, rows = self._source, self.rows
        share = worker_share()
        if not isinstance(source, PrefixSource) or not rows.complete or rows.count or (share and share.index):
            return
        said = f"no file matches the path /{source.bucket}/{source.prefix}"
        if self._client.endpoint:
            found = next(self._client.list(source.name), None)
            said = nothing_below(self._client, source.bucket, source.prefix)
            if found is not None:
                said = f"{source.name} has only directory markers, and directory_markers=True delivers them"
        # The loop that reads is further up; its depth is not known here.
        warnings.warn(
            f"{said}; to silence: warnings.filterwarnings('ignore', 'no (object|file) matches')", stacklevel=2
        )

    def refresh(self) -> None:
        """Forget the rows: the next stream lists again, and open streams keep the old rows."""
        if self._source.table is None:
            self._file.renew()

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
