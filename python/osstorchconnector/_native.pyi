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
    "ObjectStream",
    "ObjectTable",
    "Order",
    "OssReader",
    "PrefixToList",
    "RangeFetcher",
    "Writer",
    "__version__",
    "build_profile",
    "crc64",
    "crc64_combine",
    "data_object_from_bytes",
    "end_uploads",
    "infer_region",
    "new_data_object",
    "parse_uri",
    "run_emulator",
    "set_log_level",
    "traffic",
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
    """Warn of writers that are still open, give their uploads up, and wait until that is done.

    Args:
        seconds: How long to wait at most.
    """

def infer_region(endpoint: str) -> str | None:
    """Return the region ID that an endpoint's host name tells, or None.

    Args:
        endpoint: ``scheme://host[:port]``.
    """

def parse_uri(uri: str) -> tuple[str, str]:
    """Return bucket and key of ``oss://bucket/key`` or ``/bucket/key``. The key is empty for a bucket alone.

    Raises:
        OssConfigError: It is not such a URI, or the bucket name or the key breaks a rule of OSS; the message repeats
            the URI and names the rule.
    """

def crc64_combine(first: int, second: int, second_length: int, /) -> int:
    """Return the CRC-64 of two byte strings in a row, given the CRC-64 of each and the length of the second."""

def set_log_level(level: int) -> None:
    """Set the least severe level, a number of `logging`, that the core reports to ``osstorchconnector.native``."""

def traffic() -> tuple[int, int]:
    """Return how many bytes of objects this process has received and how many it has compared with a checksum of OSS.

    Bytes that were asked for twice count twice among the received; bytes count as compared once their whole object has
    been received, and its CRC-64 is the one that OSS stores.
    """

@final
class Client:
    """One connection configuration in one process. It does not pickle."""

    def __new__(
        cls,
        *,
        endpoint: str,
        region: str,
        config: Any,
        credentials: Callable[[str | None], tuple[str, str, str | None, float | None]] | None,
        io_threads: int,
    ) -> Self:
        """Prepare a client and start its I/O threads. No connection is made before the first request.

        Args:
            endpoint: ``scheme://host[:port]``, or empty for files of this machine.
            region: Region ID; empty only for signature V1 and for anonymous requests.
            config: An `OssConfig`, of which the attributes are read by name. Its access key is not.
            credentials: Returns access key ID, secret, security token and expiration in Unix seconds. It is called from
                a native thread, with the GIL, when the last answer is older than ``credential_refresh_seconds``, is
                about to expire, or was refused: then with the ID of the refused access key, otherwise with None.
                None: requests are not signed.
            io_threads: Native I/O threads.

        Raises:
            OssConfigError: A value is wrong.
        """

    @property
    def local(self) -> bool:
        """Whether objects are files of this machine: the endpoint is empty, and ``/bucket/key`` is a path."""

    def head(self, bucket: str, key: str) -> DataObject:
        """Return an object's description, unfetched.

        Raises:
            OssNotFoundError: It does not exist.
        """

    def get(self, bucket: str, key: str, start: int | None = None, end: int | None = None) -> bytes:
        """Return the bytes from `start` to before `end`.

        Raises:
            OssNotFoundError: It does not exist.
        """

    def put(
        self, bucket: str, key: str, data: Buffer, *, content_type: str | None = None, forbid_overwrite: bool = False
    ) -> str:
        """Store an object, in parts if it is larger than one, and return its ETag."""

    def delete(self, bucket: str, key: str) -> None:
        """Delete an object; it need not exist."""

    def delete_many(self, bucket: str, keys: Iterable[str]) -> None:
        """Delete objects, up to a thousand per request; they need not exist."""

    def copy(
        self,
        source: tuple[str, str],
        target: tuple[str, str],
        *,
        largest: int,
        size: int | None = None,
        progress: Callable[[int], object] | None = None,
    ) -> None:
        """Copy an object inside the service, given by bucket and key; above `largest` bytes in parts.

        Raises:
            OssNotFoundError: The source does not exist.
            OssIntegrityError: The source was replaced meanwhile, or the copy is not what it is.
        """

    def create_bucket(self, bucket: str) -> None:
        """Create a bucket."""

    def delete_bucket(self, bucket: str) -> None:
        """Delete an empty bucket."""

    def list_buckets(self) -> builtins.list[str]:
        """Return the names of this account's buckets, in order."""

    def list(self, bucket: str, prefix: str) -> ObjectListing:
        """List descriptions under a prefix, in key order, unfetched."""

    def stream(
        self,
        rows: ObjectTable | ListingFile,
        order: Order,
        *,
        arrival: bool = False,
        producer: PrefixToList | None = None,
    ) -> ObjectStream:
        """Fetch objects ahead of the reader. A listing that has failed or was discarded is begun anew.

        Args:
            rows: The objects.
            order: Which of them, in which order.
            arrival: Deliver each object when it has arrived, whatever its place.
            producer: The prefix to list if no other process lists it. This stream then lists until it is closed; the
                next stream that waits takes over. None: the rows come from the process that has acquired the listing.

        Raises:
            OssError: The listing cannot be opened.
        """

    def fetch(self, rows: ObjectTable | ListingFile, positions: Iterable[int]) -> builtins.list[DataObject]:
        """Fetch rows of a table or of a complete listing concurrently and return them in the order of `positions`.

        Raises:
            IndexError: There is no such row.
            OssError: One of the objects could not be fetched.
            RuntimeError: The listing is not complete.
        """

    def stream_at(
        self, rows: ObjectTable | ListingFile, positions: Iterable[int], *, ahead: bool = False
    ) -> ObjectStream:
        """Fetch rows that are known, ahead of the reader, in the order of `positions`.

        Args:
            rows: The objects.
            positions: Which of them.
            ahead: Nobody has asked for them yet: they get half of the budget only.

        Raises:
            IndexError: There is no such row, or it is not known yet.
        """

    def open(self, bucket: str, key: str) -> DataObject:
        """Ask for an object's size and ETag, and return it for lazy reading by ranges.

        Raises:
            OssNotFoundError: It does not exist.
        """

    def reader(self, bucket: str, key: str) -> OssReader:
        """Ask for an object's size and ETag, and open it for reading over all I/O threads.

        Raises:
            OssNotFoundError: It does not exist.
        """

    def range_fetcher(
        self,
        ranges: Iterable[Sequence[tuple[Any, str, str, int | None, int, int, int | None, Buffer | None]]],
        *,
        allocate: Callable[[int], Buffer],
        gap: int,
        run_limit: int,
        concurrency: int,
        budget: int,
    ) -> RangeFetcher:
        """Fetch many ranges of many objects at the same time.

        Args:
            ranges: Lists of ranges. The next list is asked for when there is room for more requests. A range is a tag,
                the bucket and the key, the size that the object must have or None, the first byte, the number of bytes,
                their CRC-64 or None, and the memory that receives them or None. No two memories may overlap.
            allocate: Returns writable memory of a size. It receives ranges that bring no memory of their own.
            gap: Most bytes between two ranges of a list that are received and dropped, to have both with one request.
            run_limit: Most bytes of a request for several ranges. Memory of this size is used again.
            concurrency: Most requests in flight.
            budget: Most bytes of `allocate` in use. A single larger range is fetched alone.
        """

    def writer(self, bucket: str, key: str, size_hint: int | None = None) -> Writer:
        """Open an object for sequential writing.

        Args:
            bucket: The bucket.
            key: The key.
            size_hint: About how many bytes will be written.

        Raises:
            OssConfigError: OSS has no objects as large as that.
        """

    def list_uploads(self, bucket: str, prefix: str) -> builtins.list[tuple[str, str, float]]:
        """Return key, upload ID, and start in Unix time of the uploads that were neither published nor aborted."""

    def abort_upload(self, bucket: str, key: str, upload_id: str) -> None:
        """Give up an upload and remove its parts. It is no error if there is none."""

@final
class PrefixToList:
    """What to list into a `ListingFile`: every object under a prefix, in key order."""

    def __new__(cls, bucket: str, prefix: str, *, directory_markers: bool = False) -> Self:
        """Describe a listing; nothing is sent.

        Args:
            bucket: The bucket.
            prefix: What the keys begin with.
            directory_markers: Keep objects without bytes whose key ends with a slash.
        """

    @property
    def bucket(self) -> str:
        """The bucket."""

    @property
    def prefix(self) -> str:
        """What the keys begin with."""

    @property
    def directory_markers(self) -> bool:
        """Whether objects that stand for a directory only are kept."""

@final
class ListingFile:
    """The listing of a dataset, as a file that all its processes share: one of them makes it, all read it.

    In another process, after a fork, it opens the file again. It is pickled, by the path of its directory, only to
    start a process. Who has chosen the directory removes it.
    """

    def __new__(cls, directory: str, *, limit: int) -> Self:
        """Name the place; nothing is made before the first use.

        Args:
            directory: A directory for this listing alone, whose parent exists. It is made, open to this user only.
            limit: Most bytes that are kept once the listing is complete. A longer one is read to its end by who has
                opened it, and the next stream lists again.
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
        """Number of objects left out so far because they stand for a directory only."""

    def acquire(self, timeout: float | None = None) -> Literal["ours", "over", "taken"]:
        """Wait for this process's turn to append rows behind the first `count`.

        Args:
            timeout: Seconds to wait at most. None: as long as it takes.

        Returns:
            ``"ours"``: It is this process's turn. ``"over"``: The listing is complete or has failed, so no row follows.
            ``"taken"``: Another process appends rows, and the timeout has passed.

        Raises:
            OssError: The file cannot be made, or was discarded meanwhile.
        """

    def put(self, objects: list[tuple[str, str, int | None, str | None, str, tuple[str, int] | None]]) -> None:
        """Append rows by bucket, key, size, ETag, label and span, after `acquire`.

        A span is the key of an archive in the same bucket, and the offset of the first of the row's `size` bytes in it.

        Raises:
            OssError: The file cannot be written; nothing is appended.
            RuntimeError: This process has not acquired the listing, or has released it.
        """

    def finish(self) -> None:
        """Declare that all rows are there, and release."""

    def fail(self, error: BaseException) -> None:
        """Declare that no row follows, and release. Every reader raises the error behind the rows that are there."""

    def release(self) -> None:
        """Let another process go on behind the last row. Without effect if the listing is not acquired."""

    def wait(
        self,
        client: Client | None = None,
        producer: PrefixToList | None = None,
        *,
        progress: Callable[[int], object] | None = None,
    ) -> None:
        """Wait until the listing is complete.

        Args:
            client: Lists what `producer` says if no other process does.
            producer: What to list; a listing that has failed is begun anew.
            progress: Called with the number of rows when that has changed.

        Raises:
            OssError: The listing failed.
        """

    def digest(self, count: int) -> int:
        """Return the CRC-64 of the first `count` rows: bucket, key, size, ETag, label and span of each.

        Raises:
            ValueError: Fewer are known.
        """

    def renew(self) -> None:
        """Begin anew at the next use. Open streams keep the listing that they have."""

    def close(self) -> None:
        """Release, and close the file. The next use opens it again."""

    def __len__(self) -> int:
        """Return the number of rows of the complete listing.

        Raises:
            OssError: The listing failed.
            RuntimeError: It is not complete.
        """

    def __getitem__(self, index: SupportsIndex, /) -> DataObject:
        """Return a row of the complete listing, unfetched. A negative index counts from the end.

        Raises:
            IndexError: There is no such row.
            OssError: The listing failed.
            RuntimeError: It is not complete.
        """

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by the path, while a process is being started.

        Raises:
            TypeError: None is.
        """

@final
class Order:
    """Which entry stands at which position: the order formula with all its numbers."""

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
        """Fix the numbers.

        Args:
            seed: What a shuffle depends on, together with the epoch: 0 to 2**64 - 1.
            epoch: Number of the pass over the data.
            shuffle: True: each entry can come anywhere. A number: within its block of so many entries.
            start: Positions of the whole sequence, over all ranks, that were consumed before.
            rank: Which of `world` shares.
            world: Number of shares.
            batch_size: Positions that stay together.
            even: What becomes of entries that are no full batch for each rank: ``"pad"`` repeats the first ones,
                ``"drop"`` leaves out fewer than one for each rank, ``"none"`` gives some ranks one more.
            worker: Which of the rank's `workers`.
            workers: Number of workers.
            skip: Positions of this worker that were consumed before.
            chunks: Whole blocks of `shuffle` entries change places too; a shorter last one stays last.

        Raises:
            OssConfigError: A number is out of range; the message names it.
        """

    def length(self, count: int) -> int:
        """Return how many positions this worker has, of `count` entries."""

    def entry(self, position: int, count: int) -> int:
        """Return the entry at a position of this worker, of `count` entries.

        Raises:
            IndexError: There is no such position.
        """

@final
class ObjectTable:
    """Packed keys, sizes, ETags, labels and spans. It pickles as one bytes object."""

    @staticmethod
    def from_uris(uris: Iterable[str]) -> ObjectTable:
        """Pack ``oss://bucket/key`` or ``/bucket/key`` URIs, in their order.

        Raises:
            OssConfigError: One is not a string or not the URI of an object; the message repeats it.
        """

    @staticmethod
    def from_objects(
        objects: Iterable[tuple[str, str, int | None, str | None, str, tuple[str, int] | None]],
    ) -> ObjectTable:
        """Pack bucket, key, size, ETag, label and span of objects, in their order; see `ListingFile.put`."""

    @staticmethod
    def from_file(path: str) -> ObjectTable:
        """Open what `write_to` wrote. The rows stay in the file, whose memory all processes share.

        Raises:
            OssError: It cannot be opened, or is no such file.
        """

    def write_to(self, path: str) -> None:
        """Write the table to a file that is there and empty.

        Raises:
            OSError: It cannot be written.
        """

    def digest(self, count: int) -> int:
        """Return the CRC-64 of the first `count` rows, as `ListingFile.digest` does.

        Raises:
            ValueError: There are fewer.
        """

    def __len__(self) -> int:
        """Return the number of entries."""

    def __getitem__(self, index: SupportsIndex, /) -> DataObject:
        """Return an entry, unfetched. A negative index counts from the end.

        Raises:
            IndexError: There is no such entry.
        """

@final
class ObjectListing:
    """Iterator of unfetched objects under a prefix, in key order; a page is asked for when the one before ends."""

    def __iter__(self) -> Self:
        """Return the listing itself."""

    def __next__(self) -> DataObject:
        """Return the next object.

        Raises:
            OssError: The page could not be fetched; the listing then ends.
            StopIteration: There is none left.
        """

@final
class ObjectStream:
    """Iterator of objects. An object's error is raised in its place; the next call returns the next object."""

    def __iter__(self) -> Self:
        """Return the stream itself."""

    def __next__(self) -> DataObject:
        """Return the next object.

        Raises:
            OssError: This object could not be fetched, or the listing failed.
            StopIteration: There is none left.
        """

    @property
    def closed(self) -> bool:
        """Whether it was closed or has ended."""

    @property
    def failed(self) -> DataObject | None:
        """The object whose error was raised last, unfetched; None if that was an error of the listing."""

    def fail(self, error: BaseException) -> None:
        """Cancel what is in flight; the reader raises the error, and iterating then stops."""

    def close(self) -> None:
        """Cancel what is in flight, and stop listing. Iterating then stops."""

@final
class DataObject:
    """One object as a readable binary stream. ``isinstance(item, io.BufferedIOBase)`` holds.

    It pickles with its bytes. It may be a description whose bytes are fetched when it is first read.
    """

    @property
    def key(self) -> str:
        """``/bucket/name``."""

    @property
    def bucket(self) -> str:
        """The bucket."""

    @property
    def name(self) -> str:
        """The key inside the bucket; of a member of an archive, its name there."""

    @property
    def uri(self) -> str:
        """``oss://bucket/name``."""

    @property
    def size(self) -> int:
        """Bytes of the object. If they are not known yet, this asks for them."""

    @property
    def label(self) -> str:
        """The label that a dataset gave it, or an empty string."""

    @property
    def etag(self) -> str | None:
        """The entity tag, without quotes; None if it is not known yet."""

    @property
    def crc64(self) -> int | None:
        """The CRC-64 that the service stores; None if the service does not send it, or was not asked yet."""

    @property
    def last_modified(self) -> float | None:
        """When it was last written, in seconds since 1970; None if it is not known, and for bytes in memory."""

    @property
    def closed(self) -> bool:
        """Whether it was closed."""

    def read(self, size: int | None = ..., /) -> bytes:
        """Return up to `size` bytes, or all that are left; nothing at the end.

        Raises:
            OssError: They could not be fetched.
            ValueError: It is closed.
        """

    def read1(self, size: int | None = ..., /) -> bytes:
        """Return up to `size` bytes of those in memory, or of one request; none only at the end."""

    def readinto(self, buffer: Buffer, /) -> int:
        """Fill writable, contiguous memory and return how many bytes; fewer than fit only at the end.

        Nothing is written to the memory after the return, also if it raises.
        """

    def readinto1(self, buffer: Buffer, /) -> int:
        """Read into memory what :meth:`read1` would return."""

    def readline(self, size: int | None = ..., /) -> bytes:
        """Return one line with its line feed, or up to `size` bytes of it."""

    def readlines(self, hint: int | None = ..., /) -> list[bytes]:
        """Return the lines that are left, until they have `hint` bytes together."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Move to an offset from the start (0), from here (1) or from the end (2), and return the position.

        Raises:
            ValueError: `offset` is negative and from the start, or `whence` is none of these.
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
        """Do nothing: it is not written to."""

    def close(self) -> None:
        """Let go of the bytes. Closing again does nothing.

        Raises:
            OssIntegrityError: All bytes were received, are not what OSS stores, and no read has said so.
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
        """Return an independent stream over the same bytes, at the start."""

    def __enter__(self) -> Self:
        """Return the object."""

    def __exit__(self, *_exception: object) -> None:
        """Close it."""

    def __iter__(self) -> Self:
        """Return the object, which iterates over its lines."""

    def __next__(self) -> bytes:
        """Return the next line.

        Raises:
            StopIteration: There is none left.
        """

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle with its bytes, which are fetched now if they are not in memory."""

@final
class OssReader(BinaryIO):
    """One version of an object as a readable, seekable binary stream, for checkpoints and other large objects.

    Nothing is fetched before the first read. A sequential reader is served from a window of memory that parallel
    requests fill ahead of it; a large `readinto` is received straight into its buffer. Every byte comes from the
    version that was opened. Once all bytes have been received, in whatever order, their CRC-64 is compared with the one
    that OSS stores; until then they are checked for length and place only.

    Threads may share it: each call but :meth:`readinto_many` is done whole before the next.
    ``isinstance(reader, io.BufferedIOBase)`` holds. It does not pickle.
    """

    @property
    def uri(self) -> str:
        """``oss://bucket/name``."""

    @property
    def size(self) -> int:
        """Bytes of the object."""

    @property
    def etag(self) -> str:
        """The entity tag of the version being read, without quotes."""

    @property
    def closed(self) -> bool:
        """Whether it was closed."""

    def read(self, size: int | None = ..., /) -> bytes:
        """Return up to `size` bytes, or all that are left; fewer only at the end.

        Raises:
            OssIntegrityError: The object was replaced since it was opened, or what was received of it is not what OSS
                stores.
            OssNotFoundError: The object was deleted.
            OssError: The bytes could not be fetched.
            ValueError: It is closed.
        """

    def read1(self, size: int | None = ..., /) -> bytes:
        """Return up to `size` bytes of those in memory, or of one request; none only at the end."""

    def readinto(self, buffer: Buffer, /) -> int:
        """Fill writable, contiguous memory and return how many bytes; fewer than fit only at the end.

        Nothing is written to the memory after the return, also if it raises.
        """

    def readinto1(self, buffer: Buffer, /) -> int:
        """Read into memory what :meth:`read1` would return."""

    def readinto_many(
        self, parts: Iterable[tuple[int, Buffer]], /, *, concurrent: bool = False, verify: bool = True
    ) -> None:
        """Fill each of several memories from the byte that stands before it. The position does not move.

        They are received at the same time, and what lies at most 16 KiB apart in one request. Several threads may do
        so at the same time.

        Args:
            parts: First bytes, and the memories to fill.
            concurrent: Say that many threads do so: requests are then as long as `part_size`, instead of shorter ones
                that together use all connections, and nothing is fetched but what is asked for.
            verify: Let these bytes count for the comparison with the object's checksum. Without, the caller checks
                them, and may read again what was flipped on the way.

        Raises:
            OssError: As :meth:`read` does; the memories' content is then not defined.
            ValueError: A range is not within the object, two memories overlap, or the reader is closed.
        """

    def readline(self, size: int | None = ..., /) -> bytes:
        """Return one line with its line feed, or up to `size` bytes of it."""

    def readlines(self, hint: int | None = ..., /) -> list[bytes]:
        """Return the lines that are left, until they have `hint` bytes together."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Move to an offset from the start (0), from here (1) or from the end (2), and return the position.

        It may be beyond the end; reading there returns nothing. Nothing is fetched.

        Raises:
            ValueError: `offset` is negative and from the start, or `whence` is none of these.
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
        """Do nothing: it does not write."""

    def close(self) -> None:
        """Let go of the window and cancel what is on its way. Closing again does nothing.

        Raises:
            OssIntegrityError: All bytes were received, are not what OSS stores, and no read has said so.
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

    def __exit__(self, *_exception: object) -> None:
        """Close it."""

    def __iter__(self) -> Self:
        """Return the reader, which iterates over its lines."""

    def __next__(self) -> bytes:
        """Return the next line.

        Raises:
            StopIteration: There is none left.
        """

    def __reduce__(self) -> tuple[Any, ...]:
        """Raise TypeError: it belongs to its process."""

@final
class RangeFetcher:
    """Iterator of ranges in the order of their arrival; see `Client.range_fetcher`.

    An object is opened by the first request for it, and all its ranges come from that version. A range that fails
    carries its error, and the other ranges still arrive. Bytes whose CRC-64 differs are received once more.
    An interrupted call can be made again. It does not pickle.
    """

    def __iter__(self) -> Self:
        """Return the fetcher itself."""

    def __next__(self) -> FetchedRange:
        """Return the next range. Its memory is the caller's until the next call.

        Raises:
            StopIteration: There is none left.
            ValueError: The fetcher is closed.
        """

    @property
    def bytes_read(self) -> int:
        """Bytes fetched so far, with the gaps between ranges."""

    @property
    def runs(self) -> int:
        """Runs of ranges fetched so far: ranges that lie close together are one."""

    def close(self) -> None:
        """Cancel what is in flight. No memory is written to after the return."""

    def __enter__(self) -> Self:
        """Return the fetcher."""

    def __exit__(self, *_exception: object) -> None:
        """Close it."""

@final
class FetchedRange:
    """A range that has arrived, or has failed."""

    @property
    def tag(self) -> Any:
        """What the caller gave for this range."""

    @property
    def memory(self) -> Buffer:
        """Memory with the bytes of this range, and perhaps with others around them."""

    @property
    def offset(self) -> int:
        """The first byte of this range in the memory."""

    @property
    def object_size(self) -> int | None:
        """Bytes of the object; None if the range has failed."""

    @property
    def intact(self) -> bool:
        """Whether the bytes were received, and have the CRC-64 that was given.

        They were not received if the object has another size than it must, or ends before the range does.
        """

    @property
    def error(self) -> BaseException | None:
        """Why the range could not be fetched."""

@final
class Writer:
    """Sequential upload of one object. Nothing is visible before `close` succeeds.

    Below one part, the object is one request. Above, parts are sent while the next ones are being written, over all I/O
    threads; a large write is sent from the memory it is in, and returns when that memory is free again. What fails is
    raised by the next call, with all that failed in the exception's notes, and by every one after that.

    A writer that is collected without having been closed publishes nothing and emits ``ResourceWarning``. Threads may
    share it: each call is done whole before the next. ``isinstance(writer, io.BufferedIOBase)`` holds. It does not
    pickle.
    """

    @property
    def uri(self) -> str:
        """``oss://bucket/name``."""

    @property
    def closed(self) -> bool:
        """Whether it was closed or aborted."""

    @property
    def etag(self) -> str | None:
        """The entity tag of what was published, without quotes; None if nothing was published yet."""

    @property
    def crc64(self) -> int | None:
        """The CRC-64 of what was published; None if nothing was published yet."""

    def write(self, data: Buffer, /) -> int:
        """Take bytes and return how many; wait while as many parts as allowed are in flight.

        Raises:
            OssError: A part could not be uploaded.
            OssConfigError: The object becomes larger than OSS allows, or than what the parts hold that it may have.
            TypeError: It is text, or has no buffer.
            ValueError: It is closed.
        """

    def writelines(self, lines: Iterable[Buffer], /) -> None:
        """Take bytes from each."""

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
        """Raise what has failed meanwhile, and do nothing else: bytes become visible on `close`, all at once."""

    def close(self) -> None:
        """Upload what is left and publish the object. Closing again does nothing.

        Raises:
            OssError: The object was not published; the previous one is untouched. If the answer to the last request
                was lost and OSS cannot be asked, a note says that the outcome is not known.
        """

    def abort(self) -> None:
        """Give the upload up. The previous object is untouched."""

    def fileno(self) -> int:
        """Raise `io.UnsupportedOperation`."""

    def detach(self) -> None:
        """Raise `io.UnsupportedOperation`."""

    def seek(self, _offset: int, _whence: int = 0, /) -> int:
        """Raise `io.UnsupportedOperation`."""

    def truncate(self, _size: int | None = None, /) -> int:
        """Raise `io.UnsupportedOperation`."""

    def read(self, _size: int | None = None, /) -> bytes:
        """Raise `io.UnsupportedOperation`."""

    def readinto(self, _buffer: Buffer, /) -> int:
        """Raise `io.UnsupportedOperation`."""

    def __enter__(self) -> Self:
        """Return the writer."""

    def __exit__(self, *exception: object) -> None:
        """Publish the object, or abort if the block raised.

        Raises:
            OssError: The object was not published. If the block raised another exception after a write had failed, that
                exception is this one's context.
        """

    def __reduce__(self) -> Any:
        """Raise TypeError: it belongs to its process."""

def new_data_object(key: str, size: int, label: str = "") -> DataObject:
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
    """Return an object whose bytes are here: what a pickle calls."""

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
        domain: Host names under it are ``bucket.domain``. None: an IP address or ``localhost`` means path style, else
            the first label is the bucket.
        key_pairs: Access key ID, secret, security token, the token's end in Unix time, and the policy of the user, of
            each accepted key.
        buckets: Buckets to start with.
        root: Directory to store in. None: memory.
        fsync: Wait for the disk before a write is answered.
        memory_limit: Most bytes of content kept in memory.
        import_directory: Directory whose files become objects of the one bucket.
        fast_etag: Make ETags without MD5.
        verify_signatures: Refuse requests whose signature is wrong.
        restore_seconds: How long an archived object takes to be restored.
        tls: Serve HTTPS with a certificate made at the start.
        certificate: Serve HTTPS with the certificate and the private key of these PEM files.
        faults: JSON of a fault rule, or of a list of them.
        admin_token: Lets its holders change faults and read the request log below ``/-/admin/``.
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
