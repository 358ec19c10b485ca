"""Fetching many ranges of many objects at once, within a budget of memory."""

import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial

from osstorchconnector._native import OssReader, crc64
from osstorchconnector.connection.client import OssClient
from osstorchconnector.connection.uri import split_object
from osstorchconnector.dcp.integrity import check_file_size, describe
from osstorchconnector.dcp.memory import empty_bytes
from osstorchconnector.dcp.paths import join
from osstorchconnector.exceptions import OssIntegrityError, OssNotFoundError


@dataclass(frozen=True)
class Check:
    """A checksum that bytes of a range have to have."""

    start: int
    end: int
    crc: int
    item: str


@dataclass(frozen=True)
class Job:
    """A range to fetch.

    Attributes:
        file: The file below the checkpoint.
        start: First byte.
        length: How many.
        items: Names of the items concerned, for messages.
        deliver: Takes the bytes, in the thread that asked. They are its own only until it returns.
        memory: Where they go. None: a buffer, which counts against the budget.
        checks: What is checked before they are delivered.
    """

    file: str
    start: int
    length: int
    items: tuple[str, ...]
    deliver: Callable[[memoryview], None]
    memory: memoryview | None = None
    checks: tuple[Check, ...] = ()


class Files:
    """The objects of a checkpoint, each opened at its first use and pinned to that version."""

    def __init__(self, client: OssClient, checkpoint: str, sizes: Mapping[str, int]) -> None:
        """Remember what is known of them; `sizes` are those that were recorded when they were written."""
        self._client = client
        self._checkpoint = checkpoint
        self._sizes = sizes
        self._lock = threading.Lock()
        self._opened: dict[str, Future[OssReader]] = {}

    def __len__(self) -> int:
        """Return how many were opened."""
        return len(self._opened)

    def open(self, name: str, end: int, items: tuple[str, ...]) -> OssReader:
        """Return a file, which has to have `end` bytes.

        Raises:
            OssNotFoundError: It is missing.
            OssIntegrityError: It is shorter, or has not the size that was recorded.
        """
        with self._lock:
            future = self._opened.get(name)
            if mine := future is None:
                future = self._opened[name] = Future()
        uri = join(self._checkpoint, name)
        if mine:
            try:
                future.set_result(self._client.reader(uri))
            except BaseException as error:  # noqa: BLE001 - whoever waits for it gets it
                future.set_exception(error)
        try:
            reader = future.result()
        except OssNotFoundError as error:
            bucket, key = split_object(uri)
            raise OssNotFoundError(
                f"file {name} of the checkpoint {self._checkpoint} is missing, which holds {describe(items)}; "
                "it was deleted, or another save has replaced the checkpoint since its metadata was read",
                code=error.code,
                status=error.status,
                request_id=error.request_id,
                bucket=bucket,
                key=key,
            ) from error
        check_file_size(uri, reader.size, self._sizes.get(name), end, items)
        return reader


class Fetcher:
    """Fetches ranges with several requests in flight.

    Attributes:
        bytes_read: Bytes fetched so far.
        ranges: Ranges fetched so far.
    """

    def __init__(self, files: Files, concurrency: int, budget: int, buffer_size: int) -> None:
        """Remember the bounds.

        Args:
            files: The objects.
            concurrency: Most ranges in flight.
            budget: Most bytes of buffers in flight; a larger single range is fetched alone.
            buffer_size: Size of the buffers that are kept to be used again.
        """
        self.bytes_read = 0
        self.ranges = 0
        self._files = files
        self._concurrency = concurrency
        self._budget = budget
        self._buffer_size = buffer_size
        self._buffers: list[memoryview] = []

    def run(self, jobs: Iterable[Job]) -> None:
        """Fetch and deliver them all, in any order; `jobs` is asked for the next one when there is room for it.

        Raises:
            OssError: A range could not be fetched, or has another checksum when it is fetched again, too.
        """
        with ThreadPoolExecutor(self._concurrency, "osst-dcp-read") as pool:
            running: dict[Future[memoryview], Job] = {}
            in_flight = 0
            try:
                for job in jobs:
                    cost = _cost(job)
                    while running and (len(running) >= self._concurrency or in_flight + cost > self._budget):
                        in_flight -= self._deliver_some(running)
                    buffer = self._buffer(job.length) if job.memory is None else job.memory
                    running[pool.submit(self._fetch, job, buffer)] = job
                    in_flight += cost
                while running:
                    self._deliver_some(running)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _deliver_some(self, running: dict[Future[memoryview], Job]) -> int:
        done, _ = wait(running, return_when=FIRST_COMPLETED)
        freed = 0
        for future in done:
            job = running.pop(future)
            buffer = future.result()
            job.deliver(buffer[: job.length])
            self.bytes_read += job.length
            self.ranges += 1
            if job.memory is None:
                freed += job.length
                if buffer.nbytes == self._buffer_size:
                    self._buffers.append(buffer)
        return freed

    def _buffer(self, length: int) -> memoryview:
        if length > self._buffer_size:
            return empty_bytes(length)
        # Fresh memory costs a page fault for every 4 KiB, about as much as receiving them.
        return self._buffers.pop() if self._buffers else empty_bytes(self._buffer_size)

    def _fetch(self, job: Job, buffer: memoryview) -> memoryview:
        reader = self._files.open(job.file, job.start + job.length, job.items)
        target = buffer[: job.length]
        # Bytes that are compared here may be read again, which a checksum of the file
        # could not take in.
        read = partial(reader.readinto_many, [(job.start, target)], concurrent=True, verify=not job.checks)
        read()
        wrong = _first_wrong(job, target)
        if wrong is not None:
            # What was flipped on the way may be right the second time.
            read()
            wrong = _first_wrong(job, target)
        if wrong is not None:
            raise OssIntegrityError(
                f"{reader.uri} does not hold what was saved for {wrong.item!r}: the CRC-64 of bytes "
                f"{job.start + wrong.start} to {job.start + wrong.end} differs; the file is damaged, or of another save"
            )
        return buffer


def _cost(job: Job) -> int:
    return job.length if job.memory is None else 0


def _first_wrong(job: Job, target: memoryview) -> Check | None:
    return next((check for check in job.checks if crc64(target[check.start : check.end]) != check.crc), None)
