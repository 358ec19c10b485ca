"""Fetches the ranges of a checkpoint's files, and hands what arrives to their owners."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from osstorchconnector._native import FetchedRange
from osstorchconnector.connection.client import OssClient
from osstorchconnector.connection.uri import split_object
from osstorchconnector.dcp.integrity import check_file_size, describe
from osstorchconnector.dcp.memory import empty_bytes
from osstorchconnector.dcp.paths import join
from osstorchconnector.exceptions import OssIntegrityError, OssNotFoundError


@dataclass(frozen=True)
class Job:
    """A range to fetch.

    Attributes:
        file: The file below the checkpoint.
        start: First byte.
        length: Number of bytes.
        item: Name of the item, for messages.
        deliver: Takes the bytes, in the thread that calls :meth:`Fetcher.run`. The memory is used again after the call.
        memory: Receives the bytes. None: a buffer, which counts against the budget.
        crc: The CRC-64 that the bytes must have, if it is known.
    """

    file: str
    start: int
    length: int
    item: str
    deliver: Callable[[memoryview], None]
    memory: memoryview | None = None
    crc: int | None = None

    @property
    def end(self) -> int:
        """First byte behind the range."""
        return self.start + self.length


class Files:
    """The objects of a checkpoint. A fetcher opens each at its first use, and reads that version only."""

    def __init__(self, client: OssClient, checkpoint: str, sizes: Mapping[str, int]) -> None:
        """Remember the checkpoint; `sizes` are the sizes that were recorded when the files were written."""
        self.client = client
        self._checkpoint = checkpoint
        self._sizes = sizes
        self._opened: set[str] = set()

    def __len__(self) -> int:
        """Return how many were read."""
        return len(self._opened)

    def uri(self, file: str) -> str:
        """Return the URI of a file."""
        return join(self._checkpoint, file)

    def size(self, file: str) -> int | None:
        """Return the recorded size of a file."""
        return self._sizes.get(file)

    def check(self, job: Job, fetched: FetchedRange) -> None:
        """Raise if a range could not be fetched, or does not hold what was saved.

        Raises:
            OssNotFoundError: The file is missing.
            OssIntegrityError: The file has another size than was recorded, or ends too early; or the checksum differs.
            OssError: The range could not be fetched.
        """
        self._opened.add(job.file)
        uri = self.uri(job.file)
        error = fetched.error
        if isinstance(error, OssNotFoundError):
            bucket, key = split_object(uri)
            raise OssNotFoundError(
                f"file {job.file} of the checkpoint {self._checkpoint} is missing, which holds {describe([job.item])}; "
                "it was deleted, or another save has replaced the checkpoint since its metadata was read",
                code=error.code,
                status=error.status,
                request_id=error.request_id,
                bucket=bucket,
                key=key,
            ) from error
        if error is not None:
            raise error
        if fetched.object_size is not None:
            check_file_size(uri, fetched.object_size, self.size(job.file), job.end, [job.item])
        if not fetched.intact:
            raise OssIntegrityError(
                f"{uri} does not hold what was saved for {job.item!r}: the CRC-64 of bytes {job.start} to {job.end} "
                "differs; the file is damaged, or of another save"
            )


class Fetcher:
    """Fetches ranges with several requests in flight.

    Attributes:
        bytes_read: Bytes fetched so far.
        ranges: Requests made so far. Ranges that lie close together are one.
    """

    def __init__(self, files: Files, concurrency: int, budget: int, buffer_size: int, gap: int = 0) -> None:
        """Set the limits.

        Args:
            files: The objects.
            concurrency: Most requests in flight.
            budget: Most bytes of buffers in use. A larger single range is fetched alone.
            buffer_size: Size of the buffers that are used again, and most bytes of a request for several ranges.
            gap: Most bytes between two ranges that are fetched and dropped, to have both with one request.
        """
        self.bytes_read = 0
        self.ranges = 0
        self._files = files
        self._concurrency = concurrency
        self._budget = budget
        self._buffer_size = buffer_size
        self._gap = gap

    def run(self, batches: Iterable[Sequence[Job]]) -> None:
        """Fetch and deliver all jobs, in any order.

        The next batch is asked for when there is room for more requests. A batch is sorted by file and first byte; jobs
        of it that lie close together are one request.

        Raises:
            OssError: A range could not be fetched, or has another checksum also when it is fetched again.
        """
        fetcher = self._files.client._native_client.range_fetcher(  # noqa: SLF001 - the package's own
            ([self._range_of(job) for job in batch] for batch in batches),
            allocate=empty_bytes,
            gap=self._gap,
            run_limit=self._buffer_size,
            concurrency=self._concurrency,
            budget=self._budget,
        )
        with fetcher:
            for fetched in fetcher:
                job: Job = fetched.tag
                self._files.check(job, fetched)
                job.deliver(memoryview(fetched.memory)[fetched.offset : fetched.offset + job.length])
        self.bytes_read += fetcher.bytes_read
        self.ranges += fetcher.runs

    def _range_of(self, job: Job) -> tuple[Job, str, str, int | None, int, int, int | None, memoryview | None]:
        bucket, key = split_object(self._files.uri(job.file))
        return job, bucket, key, self._files.size(job.file), job.start, job.length, job.crc, job.memory
