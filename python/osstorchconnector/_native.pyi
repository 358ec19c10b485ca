"""Native core: moves the bytes. Policy, defaults and configuration live in the Python modules.

Every object here belongs to the process that made it. In another process, after a fork, its methods raise and its end
changes nothing. Errors are those of `osstorchconnector.exceptions`.
"""

import builtins
from collections.abc import Callable, Iterable, Sequence
from typing import Any, BinaryIO, Literal, Self, SupportsIndex, final

from typing_extensions import Buffer

__all__ = [
    "Client",
    "DataObject",
    "FetchedRange",
    "ListingFile",
    "ObjectListing",
    "ObjectPages",
    "ObjectStream",
    "ObjectTable",
    "Order",
    "OssReader",
    "PrefixToList",
    "RangeFetcher",
    "Stopwatch",
    "Trace",
    "Writer",
    "__version__",
    "build_profile",
    "counts",
    "crc64",
    "crc64_combine",
    "data_object_from_bytes",
    "end_uploads",
    "infer_region",
    "new_data_object",
    "parse_uri",
    "pickle_problem",
    "replaces_cause",
    "run_emulator",
    "set_log_level",
    "swap_trace",
    "waited_here",
]

__version__: str
build_profile: str
"""How the native core was compiled: ``"release"`` or ``"debug"``."""

def crc64(data: Buffer, value: int = 0, /) -> int:
    """Return the CRC-64/XZ of some bytes, which OSS calls CRC64.

    Args:
        data: The bytes.
        value: The checksum of the bytes before them.
    """

def end_uploads(seconds: float) -> None:
    """Warn of writers that are still open, abort their uploads, and wait until that is done.

    Args:
        seconds: The longest time to wait, for all uploads together.
    """

def infer_region(endpoint: str) -> str | None:
    """Return the region ID in an endpoint's host name, or None if there is none.

    Args:
        endpoint: ``scheme://host[:port]``.
    """

def parse_uri(uri: str) -> tuple[str, str]:
    """Return bucket and key of ``oss://bucket/key`` or ``/bucket/key``. A URI of a bucket has an empty key.

    Raises:
        OssConfigError: It is not such a URI, or the bucket name or the key breaks a rule of OSS. The message repeats
            the URI and names the rule.
    """

def crc64_combine(first: int, second: int, second_length: int, /) -> int:
    """Return the CRC-64 of two byte strings joined, from the CRC-64 of each and the length of the second."""

def pickle_problem(content: bytes, /) -> str | None:
    """Return why unpickling would take memory or time out of proportion to the length; None if it would not."""

def replaces_cause(error: BaseException, /) -> bool:
    """Return whether libraries raise this class in place of what a stream raised.

    These are the `SystemError` of ``torch.load`` while it reads its old format, and the errors of the modules zipfile
    and tarfile that say that a file has another format.
    """

def set_log_level(level: int) -> None:
    """Set the lowest level, a number of `logging`, that the core reports to ``osstorchconnector.native``."""

def counts() -> dict[str, Any]:
    """Return what this process has counted; `osstorchconnector.connection.stats` names it.

    Bytes that are received twice count twice. The bytes of an object count as verified after all of it has been
    received, and its CRC-64 is the one that OSS stores.
    """

def waited_here() -> int:
    """Return how many nanoseconds this thread has waited for OSS."""

@final
class Trace:
    """Collects the attempts at requests of whatever is begun while it is the trace of the thread.

    It also has those attempts of it that end later.
    """

    def __new__(cls) -> Self: ...
    def take(self) -> tuple[list[dict[str, Any]], int]:
        """Return the attempts that have ended since the last call, and how many more there were.

        Times are in nanoseconds, ``"began"`` since 1970. A trace keeps 1,000 attempts between two calls.
        """

def swap_trace(trace: Trace | None) -> Trace | None:
    """Make a trace, or none, the one of this thread; return the former one."""

@final
class Stopwatch:
    """How long a function of the program ran, apart from how long it waited for OSS meanwhile, in one thread."""

    def __new__(cls) -> Self: ...
    def start(self) -> None:
        """Begin to count."""

    def stop(self) -> None:
        """End counting, until the next start."""

    @property
    def ran(self) -> int:
        """Nanoseconds between starts and stops, apart from waiting for OSS."""

    @property
    def waited(self) -> int:
        """Nanoseconds between starts and stops that the thread waited for OSS."""

@final
class Client:
    """A client in one process. It does not pickle."""

    def __new__(
        cls,
        *,
        endpoint: str,
        region: str,
        config: Any,
        credentials: Callable[[str | None], tuple[str, str, str | None, float | None]] | None,
        io_threads: int,
        shared: bytes,
        proxy: Any = None,
    ) -> Self:
        """Prepare a client and start its I/O threads. No connection is made before the first request.

        Args:
            endpoint: ``scheme://host[:port]``, or empty for files of this machine.
            region: Region ID; empty only for signature V1 and for anonymous requests.
            config: An `OssConfig`. Its attributes are read by name, except the access key.
            credentials: Returns access key ID, secret, security token and expiration in Unix seconds. It is called from
                a native thread, with the GIL, if the last answer is older than ``credential_refresh_seconds``, expires
                soon, or was refused. The argument is the ID of the refused access key, otherwise None. If it is None
                itself, requests are not signed.
            io_threads: Native I/O threads.
            shared: What decides with which clients of this process it shares connections, buffers and concurrency:
                those for which it is equal.
            proxy: A `Proxy` of :mod:`osstorchconnector.connection.proxy`, or None.

        Raises:
            OssConfigError: A value is wrong.
        """

    @property
    def local(self) -> bool:
        """Whether objects are files of this machine: the endpoint is empty, and ``/bucket/key`` is a path."""

    def head(self, bucket: str, key: str) -> DataObject:
        """Return an object's description, without its bytes.

        Raises:
            OssNotFoundError: It does not exist.
        """

    def get(
        self,
        bucket: str,
        key: str,
        start: int | None = None,
        end: int | None = None,
        *,
        limit: int | None = None,
        conditions: builtins.list[tuple[str, str]] = ...,
    ) -> bytes:
        """Return the bytes from `start` to before `end`, of the version that meets the conditions, which are headers.

        Raises:
            OssNotFoundError: It does not exist.
            OssError: It is whole, and has more than `limit` bytes.
        """

    def put(self, bucket: str, key: str, data: Buffer, *, headers: builtins.list[tuple[str, str]] = ...) -> str:
        """Store an object, in parts if it is larger than one, and return its ETag. The headers say how it is stored."""

    def delete(self, bucket: str, key: str) -> None:
        """Delete an object. It is no error if it does not exist."""

    def delete_many(self, bucket: str, keys: Iterable[str]) -> None:
        """Delete objects, up to a thousand per request. It is no error if one does not exist."""

    def copy(
        self,
        source: tuple[str, str],
        target: tuple[str, str],
        *,
        largest: int,
        size: int | None = None,
        progress: Callable[[int], object] | None = None,
        headers: builtins.list[tuple[str, str]] = ...,
    ) -> None:
        """Copy an object inside the service, above `largest` bytes in parts.

        Args:
            source: Bucket and key of the object.
            target: Bucket and key of the copy.
            largest: Most bytes that one request copies.
            size: The object's size, if it is known.
            progress: Called with the number of bytes copied since the last call.
            headers: What is stored otherwise than at the source.

        Raises:
            OssNotFoundError: The source does not exist.
            OssIntegrityError: The source was replaced meanwhile, or the copy differs from it.
        """

    def create_bucket(self, bucket: str) -> None:
        """Create a bucket."""

    def delete_bucket(self, bucket: str) -> None:
        """Delete an empty bucket."""

    def list_buckets(self) -> builtins.list[str]:
        """Return the names of this account's buckets, sorted."""

    def list(self, bucket: str, prefix: str, *, delimiter: str = "") -> ObjectListing:
        """List the objects under a prefix in key order, without their bytes."""

    def list_pages(
        self,
        bucket: str,
        prefix: str,
        *,
        delimiter: str = "",
        parallel: bool = False,
        start_after: str | None = None,
        page_size: int | None = None,
    ) -> ObjectPages:
        """List the objects under a prefix in key order, page by page, with all that a listing says of them.

        Args:
            bucket: The bucket.
            prefix: What the keys begin with.
            delimiter: Keys that share what follows the prefix up to this are one entry.
            parallel: Without a delimiter: list several segments at once. Empty pages are left out.
            start_after: List only keys after this one. A directory that has some of them is listed.
            page_size: Most entries of a page, if they are listed one after the other. Default: 1000.
        """

    def stream(
        self,
        rows: ObjectTable | ListingFile,
        order: Order,
        *,
        arrival: bool = False,
        prefix: PrefixToList | None = None,
    ) -> ObjectStream:
        """Fetch objects ahead of the reader. A listing that has failed or was discarded begins again.

        Args:
            rows: The objects.
            order: Which of them, in which order.
            arrival: Deliver each object when it has arrived, not in the order.
            prefix: What to list if no other process lists it. This stream then lists until it is closed; the next
                stream that waits takes over. None: the rows come from the process that has acquired the listing.

        Raises:
            OssError: The listing cannot be opened.
        """

    def fetch(self, rows: ObjectTable | ListingFile, indices: Iterable[int]) -> builtins.list[DataObject]:
        """Fetch rows of a table or of a complete listing concurrently, and return them in the order of `indices`.

        Raises:
            IndexError: There is no such row.
            OssError: One of the objects could not be fetched.
            RuntimeError: The listing is not complete.
        """

    def stream_at(
        self, rows: ObjectTable | ListingFile, indices: Iterable[int], *, ahead: bool = False
    ) -> ObjectStream:
        """Fetch rows that are known, ahead of the reader, in the order of `indices`.

        Args:
            rows: The objects.
            indices: The numbers of the rows.
            ahead: The program has not asked for them yet, so they get half of the budget.

        Raises:
            IndexError: There is no such row, or it is not known yet.
        """

    def open(self, bucket: str, key: str, *, label: str = "") -> DataObject:
        """Ask for an object's size and ETag, and return it; its bytes are read by ranges when they are needed.

        Raises:
            OssNotFoundError: It does not exist.
        """

    def describe(self, bucket: str, key: str, size: int | None, label: str) -> DataObject:
        """Return an object that is known by name, without asking for it; its bytes are fetched when it is read."""

    def reader(self, bucket: str, key: str) -> OssReader:
        """Ask for an object's size and ETag, and open it for reading with all I/O threads.

        Raises:
            OssNotFoundError: It does not exist.
        """

    def range_fetcher(
        self,
        ranges: Iterable[
            Sequence[tuple[Any, str, str, int | OssReader | None, int, int, int | None, Buffer | None]] | None
        ],
        *,
        allocate: Callable[[int], Buffer],
        gap: int,
        run_limit: int,
        concurrency: int,
        budget: int,
    ) -> RangeFetcher:
        """Fetch many ranges of many objects at the same time.

        Args:
            ranges: Lists of ranges. The next list is asked for when there is room for more requests; None in place of a
                list means that the caller has no room now, and is asked again at its next call. A range is a tag, the
                bucket and the key, what is known of the object, the first byte, the number of bytes, their CRC-64 or
                None, and the buffer that receives them or None. Known is None, the size that the object must have, or
                an open reader of it: then its version is read, and the bytes count for the reader's checksum. No two
                buffers may overlap.
            allocate: Returns a writable buffer of a given size, for ranges that have no buffer of their own.
            gap: Two ranges of a list with at most this many bytes between them are one request. Those bytes are
                dropped.
            run_limit: Most bytes of a request for several ranges. Buffers of this size are used again.
            concurrency: Most requests in flight.
            budget: Most bytes in use in buffers of `allocate`. A single larger range is fetched alone.
        """

    def writer(
        self,
        bucket: str,
        key: str,
        size_hint: int | None = None,
        *,
        deferred: bool = False,
        headers: builtins.list[tuple[str, str]] = ...,
        after: tuple[str, builtins.list[tuple[str, int, int | None]]] | None = None,
    ) -> Writer:
        """Open an object for sequential writing.

        Args:
            bucket: The bucket.
            key: The key.
            size_hint: About how many bytes will be written.
            deferred: Only `Writer.publish` publishes.
            headers: How it is stored.
            after: The upload to continue, and ETag, length and CRC-64 of its first parts, in their order.

        Raises:
            OssConfigError: An object of this size is larger than OSS allows.
        """

    def request(
        self,
        method: str,
        bucket: str,
        key: str | None,
        *,
        query: builtins.list[tuple[str, str]] = ...,
        headers: builtins.list[tuple[str, str]] = ...,
        body: bytes = ...,
    ) -> tuple[builtins.list[tuple[str, str]], bytes]:
        """Send a request, with retries, and return headers and body of its answer, at most 4 MiB.

        Raises:
            OssError: It was refused, or failed.
        """

    def tags(self, bucket: str, key: str) -> str:
        """Return the tags of an object in form encoding."""

    def presign(self, method: str, bucket: str, key: str, seconds: int, headers: builtins.list[tuple[str, str]]) -> str:
        """Return a URL with a signature.

        Raises:
            OssConfigError: The time is too long, or the client has no access key.
        """

    def list_uploads(self, bucket: str, prefix: str) -> builtins.list[tuple[str, str, float]]:
        """Return key, upload ID and start (Unix time) of the uploads that were neither completed nor aborted."""

    def list_parts(
        self, bucket: str, key: str, upload_id: str
    ) -> builtins.list[tuple[int, tuple[str, int, int | None]]]:
        """Return number, ETag, length and CRC-64 of the parts of an upload that have arrived.

        Raises:
            OssNotFoundError: There is no such upload.
        """

    def abort_upload(self, bucket: str, key: str, upload_id: str) -> None:
        """Abort an upload and remove its parts. It is no error if it does not exist."""

@final
class PrefixToList:
    """What to list into a `ListingFile`: every object under a prefix, in key order."""

    def __new__(cls, bucket: str, prefix: str, *, directory_markers: bool = False) -> Self:
        """Describe a listing. This sends no request.

        Args:
            bucket: The bucket.
            prefix: What the keys begin with.
            directory_markers: Keep empty objects whose key ends with a slash.
        """

    @property
    def bucket(self) -> str:
        """The bucket."""

    @property
    def prefix(self) -> str:
        """What the keys begin with."""

    @property
    def directory_markers(self) -> bool:
        """Whether empty objects whose key ends with a slash are kept."""

@final
class ListingFile:
    """The listing of a dataset, as a file that all its processes share: one process makes it, all read it.

    After a fork, the child opens the file again. It pickles only while a process is being started: as the path of its
    directory. The code that chose the directory removes it.
    """

    def __new__(cls, directory: str, *, limit: int) -> Self:
        """Remember the directory. Nothing is made before the first use.

        Args:
            directory: A directory for this listing alone. It is made, for this user only; its parent must exist.
            limit: Most bytes that are kept once the listing is complete. A longer one can be read to its end by
                processes that have it open; the next stream lists again.
        """

    @property
    def path(self) -> str:
        """The directory."""

    @property
    def count(self) -> int:
        """Number of rows known so far."""

    @property
    def complete(self) -> bool:
        """Whether all rows are known."""

    @property
    def markers(self) -> int:
        """Number of empty objects whose key ends with a slash that were left out so far."""

    def acquire(self, timeout: float | None = None) -> Literal["ours", "over", "taken"]:
        """Wait for this process's turn to append rows after the first `count`.

        Args:
            timeout: Most seconds to wait. None: without a limit.

        Returns:
            ``"ours"``: It is this process's turn. ``"over"``: The listing is complete or has failed, so no row follows.
            ``"taken"``: Another process appends rows, and the timeout has passed.

        Raises:
            OssError: The file cannot be made, or was discarded meanwhile.
        """

    def put(self, objects: list[tuple[str, str, int | None, str | None, str, tuple[str, int] | None]]) -> None:
        """Append rows by bucket, key, size, ETag, label and span, after `acquire`.

        A span is the key of an archive in the same bucket, and the offset of the row's first byte in it.

        Raises:
            OssError: The file cannot be written; nothing is appended.
            RuntimeError: This process has not acquired the listing, or has released it.
        """

    def finish(self) -> None:
        """Mark the listing as complete, and release it."""

    def fail(self, error: BaseException) -> None:
        """Mark the listing as failed, and release it. Every reader raises the error after the known rows."""

    def release(self) -> None:
        """Let another process continue after the last row. Does nothing if the listing is not acquired."""

    def wait(
        self,
        client: Client | None = None,
        prefix: PrefixToList | None = None,
        *,
        progress: Callable[[int], object] | None = None,
    ) -> None:
        """Wait until the listing is complete.

        Args:
            client: Lists `prefix` if no other process does.
            prefix: What to list. A listing that has failed begins again.
            progress: Called with the number of rows whenever it has changed.

        Raises:
            OssError: The listing failed.
        """

    def digest(self, count: int) -> int:
        """Return the CRC-64 of the first `count` rows: bucket, key, size, ETag, label and span of each.

        Raises:
            ValueError: Fewer rows are known.
        """

    def renew(self) -> None:
        """List again at the next use. Open streams keep their listing."""

    def close(self) -> None:
        """Release, and close the file. The next use opens it again."""

    def __len__(self) -> int:
        """Return the number of rows of the complete listing.

        Raises:
            OssError: The listing failed.
            RuntimeError: It is not complete.
        """

    def __getitem__(self, index: SupportsIndex, /) -> DataObject:
        """Return a row of the complete listing, without its bytes. A negative index counts from the end.

        Raises:
            IndexError: There is no such row.
            OssError: The listing failed.
            RuntimeError: It is not complete.
        """

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the path, while a process is being started.

        Raises:
            TypeError: No process is being started.
        """

@final
class Order:
    """The order of the entries: a formula that gives the entry at each position, with all its numbers."""

    def __new__(
        cls,
        *,
        seed: int = 0,
        epoch: int = 0,
        shuffle: bool | int = False,
        start: int = 0,
        rank: int = 0,
        world: int = 1,
        batch_size: int = 1,
        even: str = "pad",
        worker: int = 0,
        workers: int = 1,
        skip: int = 0,
        chunks: bool = False,
    ) -> Self:
        """Set the numbers.

        Args:
            seed: What a shuffle depends on, together with the epoch: 0 to 2**64 - 1.
            epoch: Number of the pass over the data.
            shuffle: True: each entry can come anywhere. A number: within its block of this many entries.
            start: Places of the epoch, over all ranks, that are consumed.
            rank: Number of this rank, from 0.
            world: Number of ranks.
            batch_size: Positions that stay together.
            even: What is done with the last entries, which do not fill a batch for each rank: ``"pad"`` repeats the
                first entries, ``"drop"`` leaves out fewer than one for each rank, ``"none"`` gives some ranks one more.
            worker: Number of this worker of the rank, from 0.
            workers: Number of workers of the rank.
            skip: Positions of this worker that are consumed.
            chunks: Also shuffle the blocks of `shuffle` entries; a shorter last block stays last.

        Raises:
            OssConfigError: A number is out of range; the message names it.
        """

    def length(self, count: int) -> int:
        """Return the number of positions of this worker, if there are `count` entries."""

    def entry(self, position: int, count: int) -> int:
        """Return the entry at a position of this worker, if there are `count` entries.

        Raises:
            IndexError: There is no such position.
        """

@final
class ObjectTable:
    """Keys, sizes, ETags, labels and spans of objects, packed. It pickles as one bytes object."""

    @staticmethod
    def from_uris(uris: Iterable[str]) -> ObjectTable:
        """Pack ``oss://bucket/key`` or ``/bucket/key`` URIs, in their order.

        Raises:
            OssConfigError: One of them is not a string, or not the URI of an object. The message repeats it.
        """

    @staticmethod
    def from_objects(
        objects: Iterable[tuple[str, str, int | None, str | None, str, tuple[str, int] | None]],
    ) -> ObjectTable:
        """Pack bucket, key, size, ETag, label and span of objects, in their order; see `ListingFile.put`."""

    @staticmethod
    def from_file(path: str) -> ObjectTable:
        """Open a file that `write_to` wrote. The rows stay in the file, whose memory all processes share.

        Raises:
            OssError: The file cannot be opened, or `write_to` did not write it.
        """

    def write_to(self, path: str) -> None:
        """Write the table to an existing, empty file.

        Raises:
            OSError: The file cannot be written.
        """

    def digest(self, count: int) -> int:
        """Return the CRC-64 of the first `count` rows, as `ListingFile.digest` does.

        Raises:
            ValueError: The table has fewer rows.
        """

    def __len__(self) -> int:
        """Return the number of entries."""

    def __getitem__(self, index: SupportsIndex, /) -> DataObject:
        """Return an entry, without its bytes. A negative index counts from the end.

        Raises:
            IndexError: There is no such entry.
        """

@final
class ObjectListing:
    """Iterator of the objects under a prefix, in key order, without their bytes. It asks for one page at a time."""

    def __iter__(self) -> Self:
        """Return the listing itself."""

    def __next__(self) -> DataObject:
        """Return the next object.

        Raises:
            OssError: The page could not be fetched; the listing then ends.
            StopIteration: None is left.
        """

@final
class ObjectPages:
    """Iterator of the pages of a listing."""

    def __iter__(self) -> Self:
        """Return the iterator itself."""

    def __next__(
        self,
    ) -> tuple[builtins.list[tuple[str, int, str, float, str, str]], builtins.list[str]]:
        """Return the next page: its objects, and what keys share up to the delimiter.

        An object is its key, size, ETag without quotes, Unix time, type and storage class.

        Raises:
            OssError: The page could not be fetched; the listing then ends.
            StopIteration: None is left.
        """

@final
class ObjectStream:
    """Iterator of objects. If an object fails, its error is raised; the next call returns the next object."""

    def __iter__(self) -> Self:
        """Return the stream itself."""

    def __next__(self) -> DataObject:
        """Return the next object.

        Raises:
            OssError: This object could not be fetched, or the listing failed.
            StopIteration: None is left.
        """

    @property
    def closed(self) -> bool:
        """Whether the stream was closed or has ended."""

    @property
    def waited(self) -> int:
        """Nanoseconds that readers of the stream have waited for objects that had not arrived."""

    @property
    def failed(self) -> DataObject | None:
        """The object whose error was raised last, without its bytes. None if it was an error of the listing.

        It has the error as its `failure`, and a read tries again.
        """

    def fail(self, error: BaseException) -> None:
        """Cancel the requests in flight. The reader raises the error; iterating then stops."""

    def close(self) -> None:
        """Cancel the requests in flight, and stop listing. Iterating then stops."""

@final
class DataObject:
    """One object as a readable binary stream. ``isinstance(item, io.BufferedIOBase)`` holds.

    It pickles with its bytes. The bytes may be fetched only at the first read.
    """

    @property
    def key(self) -> str:
        """``/bucket/name``."""

    @property
    def bucket(self) -> str:
        """The bucket."""

    @property
    def name(self) -> str:
        """The key inside the bucket, or the name of a member inside its archive."""

    @property
    def mode(self) -> str:
        """``"rb"``."""

    @property
    def uri(self) -> str:
        """``oss://bucket/name``."""

    @property
    def size(self) -> int:
        """Bytes of the object. If the size is not known yet, this asks the service."""

    @property
    def label(self) -> str:
        """The label that a dataset gave it, or an empty string."""

    @property
    def etag(self) -> str | None:
        """The entity tag, without quotes; None if it is not known yet."""

    @property
    def crc64(self) -> int | None:
        """The CRC-64 that the service stores; None if the service does not send it, or has not been asked yet."""

    @property
    def last_modified(self) -> float | None:
        """When the object was last written, in Unix time. None if that is not known, and for bytes in memory."""

    @property
    def closed(self) -> bool:
        """Whether it was closed."""

    def read(self, count: int | None = ...) -> bytes:
        """Return up to `count` bytes, or all that are left. At the end it returns no bytes.

        Raises:
            OssError: The bytes could not be fetched.
            ValueError: It is closed.
        """

    def read1(self, size: int | None = ..., /) -> bytes:
        """Return up to `size` bytes, from memory or with one request. Only at the end it returns no bytes."""

    def readinto(self, buffer: Buffer, /) -> int:
        """Fill a writable, contiguous buffer and return the number of bytes: less than its length only at the end.

        Nothing is written to the buffer after this returns or raises.
        """

    @property
    def failure(self) -> BaseException | None:
        """What the last read raised. Libraries lose it: see :func:`replaces_cause`."""

    def err(self) -> int:
        """Return the number of :attr:`failure`, as `errno` names it: 0 without one, ``EIO`` if it has none."""

    def error_msg(self) -> str:
        """Return the text of :attr:`failure`; empty without one."""

    def readinto1(self, buffer: Buffer, /) -> int:
        """Read into a buffer what :meth:`read1` would return."""

    def readline(self, size: int | None = ..., /) -> bytes:
        """Return one line with its line feed, or up to `size` bytes of it."""

    def readlines(self, hint: int | None = ..., /) -> list[bytes]:
        """Return lines until together they have `hint` bytes, or all that are left."""

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move to an offset from the start (0), the position (1) or the end (2), and return the new position.

        Raises:
            ValueError: `offset` is negative and from the start, or `whence` is not one of these.
        """

    def tell(self) -> int:
        """Return the position."""

    def readable(self) -> bool:
        """Return True."""

    def writable(self) -> bool:
        """Return False."""

    def seekable(self) -> bool:
        """Return True."""

    def isatty(self) -> bool:
        """Return False."""

    def flush(self) -> None:
        """Do nothing, because nothing is written."""

    def close(self) -> None:
        """Release the bytes. Closing again does nothing.

        Raises:
            OssIntegrityError: All bytes were received, but their CRC-64 is not the one that OSS stores, and no read has
                raised this before.
        """

    def fileno(self) -> int:
        """Raise `io.UnsupportedOperation`."""

    def detach(self) -> Any:
        """Raise `io.UnsupportedOperation`."""

    def write(self, _data: Any, /) -> int:
        """Raise `io.UnsupportedOperation`."""

    def writelines(self, _lines: Any, /) -> None:
        """Raise `io.UnsupportedOperation`."""

    def truncate(self, _size: int | None = None, /) -> int:
        """Raise `io.UnsupportedOperation`."""

    def copy(self) -> DataObject:
        """Return another stream over the same bytes, at the start."""

    def __enter__(self) -> Self:
        """Return the object."""

    def __exit__(self, *exception: object) -> None:
        """Close it.

        Raises:
            OssError: :attr:`failure`, instead of what a library made of it.
        """

    def __iter__(self) -> Self:
        """Return the object itself: it iterates over its lines."""

    def __next__(self) -> bytes:
        """Return the next line.

        Raises:
            StopIteration: None is left.
        """

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the object with its bytes, and fetch them before if they are not in memory."""

@final
class OssReader(BinaryIO):
    """One version of an object as a readable, seekable binary stream, for checkpoints and other large objects.

    Nothing is fetched before the first read. Parallel requests fill a window of memory ahead of sequential reads; a
    large `readinto` is received straight into its buffer. Every byte comes from the version that was opened. After all
    bytes have been received, in any order, their CRC-64 is compared with the one that OSS stores. Before that, only
    the range of each answer is checked.

    Threads may share it: except :meth:`readinto_many`, calls run one after the other.
    ``isinstance(reader, io.BufferedIOBase)`` holds. It does not pickle.
    """

    @property
    def uri(self) -> str:
        """``oss://bucket/name``."""

    @property
    def name(self) -> str:
        """The URI, as the name of a file is what it was opened by."""

    @property
    def key(self) -> str:
        """``/bucket/name``."""

    @property
    def label(self) -> str:
        """An empty string: only objects of a dataset have labels."""

    def copy(self) -> OssReader:
        """Return another reader of the same version, at the start."""

    @property
    def mode(self) -> str:
        """``"rb"``."""

    @property
    def size(self) -> int:
        """Bytes of the object."""

    @property
    def etag(self) -> str:
        """The entity tag of the version being read, without quotes."""

    @property
    def crc64(self) -> int | None:
        """The CRC-64 that OSS stores for the object, if it stores one."""

    @property
    def closed(self) -> bool:
        """Whether it was closed."""

    def read(self, count: int | None = ...) -> bytes:
        """Return `count` bytes, or all that are left; fewer only at the end.

        Raises:
            OssIntegrityError: The object was replaced since it was opened, or the bytes received are not those that OSS
                stores.
            OssNotFoundError: The object was deleted.
            OssError: The bytes could not be fetched.
            ValueError: It is closed.
        """

    def read1(self, size: int | None = ..., /) -> bytes:
        """Return up to `size` bytes, from memory or with one request. Only at the end it returns no bytes."""

    def readinto(self, buffer: Buffer, /) -> int:
        """Fill a writable, contiguous buffer and return the number of bytes: less than its length only at the end.

        Nothing is written to the buffer after this returns or raises.
        """

    @property
    def failure(self) -> BaseException | None:
        """What the last read raised. Libraries lose it: see :func:`replaces_cause`."""

    def err(self) -> int:
        """Return the number of :attr:`failure`, as `errno` names it: 0 without one, ``EIO`` if it has none."""

    def error_msg(self) -> str:
        """Return the text of :attr:`failure`; empty without one."""

    def readinto1(self, buffer: Buffer, /) -> int:
        """Read into a buffer what :meth:`read1` would return."""

    def readinto_many(
        self, ranges: Iterable[tuple[int, Buffer]], /, *, concurrent: bool = False, verify: bool = True
    ) -> None:
        """Fill several buffers, each from its own first byte. The position does not move.

        The ranges are received at the same time. Ranges at most 16 KiB apart are one request. Several threads may call
        this at the same time.

        Args:
            ranges: First bytes, and the buffers to fill.
            concurrent: Many threads call this at the same time. Then requests are as long as `part_size`, instead of
                shorter ones that together use all connections, and no bytes after the ranges are fetched ahead.
            verify: Let these bytes count for the comparison with the object's checksum. Without it, the caller checks
                them, and may read damaged bytes again.

        Raises:
            OssError: As :meth:`read` does; the content of the buffers is then not defined.
            ValueError: A range is not within the object, two buffers overlap, or the reader is closed.
        """

    def received(self) -> builtins.list[tuple[int, int, int]]:
        """Return start, end and CRC-64 of each range that was received. If bytes came twice, the first ones count."""

    def readline(self, size: int | None = ..., /) -> bytes:
        """Return one line with its line feed, or up to `size` bytes of it."""

    def readlines(self, hint: int | None = ..., /) -> list[bytes]:
        """Return lines until together they have `hint` bytes, or all that are left."""

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move to an offset from the start (0), the position (1) or the end (2), and return the new position.

        The position may be beyond the end; a read there returns no bytes. This fetches nothing.

        Raises:
            ValueError: `offset` is negative and from the start, or `whence` is not one of these.
        """

    def tell(self) -> int:
        """Return the position."""

    def readable(self) -> bool:
        """Return True."""

    def writable(self) -> bool:
        """Return False."""

    def seekable(self) -> bool:
        """Return True."""

    def isatty(self) -> bool:
        """Return False."""

    def flush(self) -> None:
        """Do nothing, because nothing is written."""

    def close(self) -> None:
        """Release the window and cancel the requests in flight. Closing again does nothing.

        Raises:
            OssIntegrityError: All bytes were received, but their CRC-64 is not the one that OSS stores, and no read has
                raised this before.
        """

    def fileno(self) -> int:
        """Raise `io.UnsupportedOperation`."""

    def detach(self) -> Any:
        """Raise `io.UnsupportedOperation`."""

    def write(self, _data: Any, /) -> int:
        """Raise `io.UnsupportedOperation`."""

    def writelines(self, _lines: Any, /) -> None:
        """Raise `io.UnsupportedOperation`."""

    def truncate(self, _size: int | None = None, /) -> int:
        """Raise `io.UnsupportedOperation`."""

    def __enter__(self) -> Self:
        """Return the reader."""

    def __exit__(self, *exception: object) -> None:
        """Close it.

        Raises:
            OssError: :attr:`failure`, instead of what a library made of it.
        """

    def __iter__(self) -> Self:
        """Return the reader itself: it iterates over its lines."""

    def __next__(self) -> bytes:
        """Return the next line.

        Raises:
            StopIteration: None is left.
        """

    def __reduce__(self) -> tuple[Any, ...]:
        """Raise TypeError: it belongs to its process."""

@final
class RangeFetcher:
    """Iterator of ranges in the order of their arrival; see `Client.range_fetcher`.

    The first request for an object opens it, and all its ranges come from that version. If a range fails, it carries
    its error, and the other ranges still arrive. Bytes with a wrong CRC-64 are received a second time. After an
    interruption, the call can be made again. It does not pickle.
    """

    def __iter__(self) -> Self:
        """Return the fetcher itself."""

    def __next__(self) -> FetchedRange:
        """Return the next range. The caller may use its memory until the next call.

        Raises:
            StopIteration: None is left.
            ValueError: The fetcher is closed.
        """

    @property
    def bytes_read(self) -> int:
        """Bytes fetched so far, with the gaps between ranges."""

    @property
    def runs(self) -> int:
        """Runs of ranges fetched so far. Ranges that lie close together are one run."""

    def close(self) -> None:
        """Cancel the requests in flight. After this returns, nothing is written to the memory."""

    def __enter__(self) -> Self:
        """Return the fetcher."""

    def __exit__(self, *_exception: object) -> None:
        """Close it."""

@final
class FetchedRange:
    """A range that has arrived, or has failed."""

    @property
    def tag(self) -> Any:
        """The tag that the caller gave this range."""

    @property
    def memory(self) -> Buffer:
        """Memory that holds the bytes of this range, and perhaps other bytes around them."""

    @property
    def offset(self) -> int:
        """Offset of the range's first byte in the memory."""

    @property
    def object_size(self) -> int | None:
        """Bytes of the object; None if the range has failed."""

    @property
    def intact(self) -> bool:
        """Whether the bytes were received, and have the given CRC-64.

        They are not received if the object has the wrong size, or ends before the range does.
        """

    @property
    def error(self) -> BaseException | None:
        """Why the range could not be fetched, or None."""

@final
class Writer:
    """Sequential upload of one object. Nothing is visible before it is published.

    The end of its ``with`` block publishes it, unless the block raised; `close` inside of that block only ends the
    writing. Without such a block, `close` publishes it, unless an exception is the reason of that call. `publish`
    publishes it in any case.

    An object of at most one part is one request. Of a larger object, all I/O threads send parts while the next ones
    are written. A large write is sent from the caller's memory, and returns when that memory is free again. If
    something fails, the next call raises it, and so does every later call; the notes list all failures.

    A writer that is garbage-collected before it was closed publishes nothing and emits ``ResourceWarning``. Threads may
    share it: calls run one after the other. ``isinstance(writer, io.BufferedIOBase)`` holds. It does not pickle.
    """

    @property
    def uri(self) -> str:
        """``oss://bucket/name``."""

    @property
    def name(self) -> str:
        """The URI, as the name of a file is what it was opened by."""

    @property
    def key(self) -> str:
        """``/bucket/name``."""

    @property
    def size(self) -> int:
        """How many bytes were written so far."""

    @property
    def label(self) -> str:
        """An empty string: only objects of a dataset have labels."""

    def err(self) -> int:
        """Return the number of the error that ended the writing, as `errno` names it; 0 without one."""

    def error_msg(self) -> str:
        """Return the text of that error; empty without one."""

    @property
    def mode(self) -> str:
        """``"wb"``."""

    @property
    def closed(self) -> bool:
        """Whether it was closed or aborted."""

    @property
    def aborted(self) -> bool:
        """Whether it was aborted, by `abort` or because of an exception: it will never be published."""

    @property
    def etag(self) -> str | None:
        """The entity tag of the published object, without quotes. None if it is not published yet."""

    @property
    def crc64(self) -> int | None:
        """The CRC-64 of the published object. None if it is not published yet."""

    def write(self, data: Buffer, /) -> int:
        """Take bytes and return their number. It waits while the allowed number of parts is in flight.

        Raises:
            OssError: A part could not be uploaded.
            OssConfigError: The object becomes larger than OSS allows, or than its parts can hold.
            TypeError: `data` is text, or has no buffer.
            ValueError: It is closed.
        """

    def writelines(self, lines: Iterable[Buffer], /) -> None:
        """Take the bytes of each line."""

    def tell(self) -> int:
        """Return the number of bytes taken."""

    def readable(self) -> bool:
        """Return False."""

    def writable(self) -> bool:
        """Return True."""

    def seekable(self) -> bool:
        """Return False."""

    def isatty(self) -> bool:
        """Return False."""

    def flush(self) -> None:
        """Raise the error of a part that has failed, and do nothing else: all bytes become visible at once."""

    def close(self) -> None:
        """End the writing, and publish the object. Closing again does nothing.

        Inside of the writer's own ``with`` block, the end of the block publishes it.

        It aborts instead if this thread is handling an exception that it was not handling when the writer was opened,
        or if the interpreter collects what wraps the writer. Then it adds a note to the exception, writes a line to the
        log and emits ``RuntimeWarning``. It cannot know of an exception in another thread.

        Raises:
            OssError: The object was not published; the previous one is untouched. If the answer to the last request
                was lost and OSS cannot be asked, a note says that the outcome is not known.
        """

    def publish(self) -> None:
        """Upload the rest and publish the object, also while an exception is being handled.

        Publishing again does nothing.

        Raises:
            OssError: As `close` raises it.
            ValueError: The writer was aborted.
        """

    def abort(self) -> None:
        """Abort the upload. The previous object is untouched."""

    def commit(self) -> None:
        """Publish the object: `publish` under the name that fsspec calls."""

    def discard(self) -> None:
        """Abort the upload: `abort` under the name that fsspec calls."""

    def fileno(self) -> int:
        """Raise `io.UnsupportedOperation`."""

    def detach(self) -> Any:
        """Raise `io.UnsupportedOperation`."""

    def seek(self, _offset: int, _whence: int = 0, /) -> int:
        """Raise `io.UnsupportedOperation`."""

    def truncate(self, _size: int | None = None, /) -> int:
        """Raise `io.UnsupportedOperation`."""

    def read(self, _size: int | None = ..., /) -> bytes:
        """Raise `io.UnsupportedOperation`."""

    def read1(self, _size: int | None = ..., /) -> bytes:
        """Raise `io.UnsupportedOperation`."""

    def readinto(self, _buffer: Buffer, /) -> int:
        """Raise `io.UnsupportedOperation`."""

    def readinto1(self, _buffer: Buffer, /) -> int:
        """Raise `io.UnsupportedOperation`."""

    def readline(self, _size: int | None = ..., /) -> bytes:
        """Raise `io.UnsupportedOperation`."""

    def readlines(self, _hint: int | None = ..., /) -> list[bytes]:
        """Raise `io.UnsupportedOperation`."""

    def __iter__(self) -> Self:
        """Return the writer."""

    def __next__(self) -> bytes:
        """Raise `io.UnsupportedOperation`."""

    def __enter__(self) -> Self:
        """Return the writer."""

    def _reason_to_abort(self, ends_block: bool) -> BaseException | None:
        """Return the exception because of which `close` would abort outside of the ``with`` block.

        With `ends_block`: because of which ``__exit__``, which is the caller, must abort.
        """

    def _begin(self) -> str:
        """Begin an upload in parts, and return its ID."""

    def _leave(self) -> None:
        """End without publishing; another writer can continue after the parts that have arrived."""

    def _dealloc_warn(self, _source: object, /) -> None:
        """Note that what wraps the writer is being collected, and closes it next."""

    def __exit__(self, *exception: object) -> None:
        """Publish the object, or abort if the block raised.

        It also aborts, as `close` does, if the block did not raise but this thread has begun to handle an exception, as
        when an ``ExitStack`` is closed because of one.

        Raises:
            OssError: The object was not published. If the block raised another exception after a write had failed, that
                exception is this one's context.
        """

    def __reduce__(self) -> Any:
        """Raise TypeError: it belongs to its process."""

def new_data_object(key: str, size: int = 0, label: str = "") -> DataObject:
    """Describe an object without asking for it.

    Args:
        key: ``/bucket/key`` or ``oss://bucket/key``.
        size: Its size in bytes.
        label: A label to carry.

    Raises:
        OssConfigError: The key is not such a URI.
    """

def data_object_from_bytes(
    uri: str, data: Buffer, etag: str | None = None, label: str = "", archive: str | None = None
) -> DataObject:
    """Return an object with these bytes. Pickles call this."""

def run_emulator(
    *,
    host: str,
    port: int,
    region: str,
    domain: str | None,
    key_pairs: list[tuple[str, str, str | None, float | None, str | None]],
    buckets: list[str],
    root: str | None,
    fsync: bool,
    memory_limit: int | None,
    import_directory: str | None,
    fast_etag: bool,
    verify_signatures: bool,
    restore_seconds: float,
    tls: bool,
    certificate: tuple[str, str] | None,
    faults: str | None,
    admin_token: str | None,
    block_public_access: bool,
    requests_per_second: int | None,
    quota: int | None,
    ready: Callable[[str, str | None], None],
    until_stdin_closes: bool,
) -> None:
    """Run an OSS server in this process until a signal handler raises.

    Args:
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        region: Region ID that signatures must be for.
        domain: Host names under it are ``bucket.domain``. None: an IP address or ``localhost`` means path style;
            otherwise the first label is the bucket.
        key_pairs: Access key ID, secret, security token, expiration in Unix time, and the policy of the user, of each
            accepted key.
        buckets: Buckets to start with.
        root: Directory to store in. None: memory.
        fsync: Write to the disk before a request is answered.
        memory_limit: Most bytes of content kept in memory.
        import_directory: Directory whose files become objects of the one bucket.
        fast_etag: Make ETags without MD5.
        verify_signatures: Refuse requests whose signature is wrong.
        restore_seconds: How long an archived object takes to be restored.
        tls: Serve HTTPS with a certificate made at the start.
        certificate: Serve HTTPS with the certificate and the private key of these PEM files.
        faults: JSON of a fault rule, or of a list of them.
        admin_token: Clients that send it may change faults and read the request log below ``/-/admin/``.
        block_public_access: Whether new buckets block access for everyone.
        requests_per_second: Most requests a second that are answered. None: no limit.
        quota: Most bytes of the objects of one bucket. None: no limit.
        ready: Called once when connections are accepted, with ``http://host:port`` and None, or with
            ``https://host:port`` and the certificates to trust in PEM form.
        until_stdin_closes: Return when standard input ends.

    Raises:
        OSError: The port is taken, the directory is unusable or a bucket name is wrong; the message says so.
        ValueError: A fault rule or the admin token is wrong; the message says so.
    """
