"""Copying whole objects and files."""

import contextlib
import os
import select
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Final

from osstorchconnector.connection.uri import split_object, split_prefix
from osstorchconnector.exceptions import OssConfigError, OssError, OssIntegrityError
from osstorchconnector.files.record import Record
from osstorchconnector.files.resumable import (
    RESUMABLE,
    Download,
    Pump,
    Upload,
    download_record,
    is_partial,
    upload_record,
)
from osstorchconnector.files.writing import writing

if TYPE_CHECKING:
    from osstorchconnector._native import OssReader, Writer
    from osstorchconnector.connection.client import OssClient
    from osstorchconnector.files.limit import RateLimit
    from osstorchconnector.files.progress import Advance

# The size of several requests, so that one read keeps them all in flight; small compared with their buffers.
_CHUNK: Final = 32 << 20
# Objects up to this size are fetched in one request, and their checksum is compared before a byte is written.
_SMALL: Final = 8 << 20
# Of a download whose bytes do not have their checksum.
_ATTEMPTS: Final = 3
# The longest wait of Ctrl-C.
_SIGNAL_SECONDS: Final = 0.2

#: The path that means standard input or output.
STANDARD: Final = "-"


class Stopped(Exception):  # noqa: N818 - it is no error
    """The transfer was stopped before its end."""


class Transfer:
    """Transfers files and objects. Threads may share it."""

    def __init__(
        self,
        client: "OssClient",
        advance: "Advance",
        standard: tuple[IO[bytes], IO[bytes]],
        limit: "RateLimit | None" = None,
        *,
        resume: bool = False,
        continued: Callable[[str, int], object] = lambda _path, _count: None,
    ) -> None:
        """Prepare.

        Args:
            client: Reads and writes objects.
            advance: Reports transferred bytes to a progress bar.
            standard: The streams that ``-`` reads from and writes to.
            limit: The rate of bytes between this machine and the service. Copies inside the service have none.
            resume: Continue large transfers that ended early, and leave what has arrived of those that end early.
            continued: Called with the source and the number of bytes of a transfer that is continued.
        """
        self._client = client
        self._advance = advance
        self._input, self._output = standard
        self._limit = limit
        self._chunk = _CHUNK if limit is None else limit.step
        self._small = min(_SMALL, self._chunk)
        self._resume = resume
        self._continued = continued
        self._stopped = threading.Event()
        # Many threads report, but a progress bar is not made for threads.
        self._counting = threading.Lock()
        # One large object already uses all connections that help: several at a time would only take memory.
        self._large = threading.Lock()

    def stop(self) -> None:
        """Make the running transfers raise :class:`Stopped`."""
        self._stopped.set()

    def run(self, source: str, target: str) -> None:
        """Transfer one file or object, whole or not at all; if it fails, the previous target is unchanged.

        Args:
            source: Local path, ``oss://bucket/key``, or ``-``.
            target: Like `source`.

        Raises:
            OssError: The transfer failed.
        """
        if is_remote(source):
            size = self._client.head(source).size
            self.run_object(source, size, target)
            return
        with self._opened(source) as file:
            status = os.fstat(file.fileno())
            # The size of a pipe's content is not known.
            size = status.st_size if stat.S_ISREG(status.st_mode) else sys.maxsize
            with self._alone(size):
                self._send(source, file, size, target)

    def run_object(self, source: str, size: int, target: str) -> None:
        """Transfer one object whose size is known.

        Raises:
            OssError: The transfer failed.
        """
        if is_remote(target):
            self._client.copy(source, target, size=size, progress=self._proceed)
        elif size <= self._small:
            self._wait(size)
            content = self._client.get(source)
            with self._target(target) as file:
                _write(file, memoryview(content))
            self._count(len(content))
        else:
            with self._alone(size):
                self._download(source, size, target)

    def _send(self, source: str, file: IO[bytes], size: int, target: str) -> None:
        if self._resume and is_remote(target) and RESUMABLE <= size < sys.maxsize:
            with upload_record(self._client, source, target) as record:
                if record is not None:
                    upload = Upload(self._client, source, target, record)
                    upload.run(file, self._pumped(size), self._continued_at(source))
                    return
        with writing(target, self._client) as written:
            self._pump(file, written, size)

    def _pumped(self, size: int, counting: "Advance | None" = None) -> Pump:
        return lambda source, target: self._pump(source, target, size, counting)

    def _continued_at(self, source: str, counting: "Advance | None" = None) -> "Advance":
        def continued(count: int) -> None:
            (self._count if counting is None else counting)(count)
            self._continued(source, count)

        return continued

    def _download(self, source: str, size: int, target: str) -> None:
        is_file = target != STANDARD and (Path(target).is_file() or not Path(target).exists())
        if self._resume and is_file and size >= RESUMABLE:
            with download_record(target) as record:
                if record is not None:
                    self._attempt(is_file, lambda count: self._fetch(source, size, target, record, count))
                    return

        def fetch(count: "Advance") -> None:
            with self._client.reader(source) as reader, self._target(target) as file:
                self._pump(reader, file, size, count)

        self._attempt(is_file, fetch)

    def _fetch(self, source: str, size: int, target: str, record: Record, count: "Advance") -> None:
        download = Download(self._client, source, Path(os.path.realpath(target)), record)
        with self._writing(target):
            download.run(self._pumped(size, count), self._continued_at(source, count))

    def _attempt(self, is_file: bool, download: "Callable[[Advance], None]") -> None:  # noqa: FBT001 - of this class
        # Bytes that were damaged on the way are known by the checksum, at the end. A pipe has them already.
        attempts = _ATTEMPTS if is_file else 1
        for attempt in range(1, attempts + 1):
            counted = 0

            def count(more: int) -> None:
                nonlocal counted
                counted += more
                self._count(more)

            try:
                download(count)
            except OssIntegrityError:
                if attempt == attempts:
                    raise
                self._count(-counted)
            else:
                return

    @contextlib.contextmanager
    def _target(self, target: str) -> "Iterator[IO[bytes] | Writer]":
        if target == STANDARD:
            yield self._output
            self._output.flush()
            return
        with self._writing(target), writing(target, self._client) as file:
            yield file

    @contextlib.contextmanager
    def _writing(self, target: str) -> Iterator[None]:
        try:
            yield
        except OssError:
            raise
        except OSError as error:
            # Such as a full disk.
            raise OssConfigError(f"{target} cannot be written: {error.strerror}; no partial file is left") from error

    @contextlib.contextmanager
    def _opened(self, source: str) -> Iterator[IO[bytes]]:
        if source == STANDARD:
            yield self._input
            return
        try:
            file = Path(source).open("rb")  # noqa: SIM115 - the block below closes it
        except OSError as error:
            raise OssConfigError(f"{source} cannot be read: {error.strerror}") from error
        with file:
            yield file

    def _alone(self, size: int) -> AbstractContextManager[object]:
        return self._large if size > self._small else contextlib.nullcontext()

    def _pump(
        self,
        source: "IO[bytes] | OssReader",
        target: "IO[bytes] | Writer",
        size: int,
        counting: "Advance | None" = None,
    ) -> None:
        advance = self._count if counting is None else counting
        # One byte larger than the file, so that one read also finds the end.
        buffer = memoryview(bytearray(min(self._chunk, size + 1)))
        read: Callable[[memoryview], int] = self._read_standard if source is self._input else source.readinto  # type: ignore[union-attr]
        while count := read(buffer):
            self._wait(count)
            _write(target, buffer[:count])
            advance(count)

    def _wait(self, count: int) -> None:
        if self._limit is not None:
            self._limit.wait(count, self._stopped)
        if self._stopped.is_set():
            raise Stopped

    def _proceed(self, count: int) -> None:
        if self._stopped.is_set():
            raise Stopped
        self._count(count)

    def _read_standard(self, buffer: memoryview) -> int:
        # The writer of the pipe may pause forever, and a signal just before the wait would not end it.
        descriptor = self._input.fileno()
        while not select.select([descriptor], [], [], _SIGNAL_SECONDS)[0]:
            pass
        return os.readv(descriptor, [buffer])

    def _count(self, count: int) -> None:
        with self._counting:
            self._advance(count)


def _write(target: "IO[bytes] | Writer", data: memoryview) -> None:
    # Standard output may be unbuffered; it then takes only some of the bytes.
    while data.nbytes > 0:
        data = data[target.write(data) :]


def is_remote(path: str) -> bool:
    """Return whether a path is the URI of an object or prefix."""
    return path.startswith("oss://")


def target_of(source: str, target: str) -> str:
    """Return the path that a source is copied to. A target with a slash at its end is a directory to put the file in.

    Raises:
        OssConfigError: The target is a directory but has no slash, or it names no object.
    """
    if target == STANDARD:
        return target
    if target.endswith("/") or (is_remote(target) and not split_prefix(target)[1]):
        if source == STANDARD:
            raise OssConfigError(
                f"{target} is a directory, and standard input has no name: give the name of the target too"
            )
        return f"{target.removesuffix('/')}/{PurePosixPath(source).name}"
    if is_remote(target):
        split_object(target)
    elif Path(target).is_dir():
        raise OssConfigError(f"{target} is a directory: give {target}/ to put the file in it")
    return target


def walk(root: Path) -> Iterator[Path]:
    """Yield all files below a directory, but nothing that an unfinished download has left.

    Raises:
        OssConfigError: A directory cannot be read, or there is a link to a directory; links are not followed.
    """
    for directory, directories, files in os.walk(root, onerror=_unreadable):
        directories.sort()
        for name in directories:
            if Path(directory, name).is_symlink():
                raise OssConfigError(
                    f"{Path(directory, name)} is a link to a directory, and links are not followed: copy that directory"
                )
        for name in sorted(files):
            if not is_partial(name):
                yield Path(directory, name)


def local_path(directory: str, key: str) -> Path:
    """Return the local path of a key below a directory.

    Raises:
        OssConfigError: No file can have that path, or the file would be outside of the directory, also by a link.
    """
    names = key.split("/")
    if any(name in {"", ".", ".."} or "\0" in name for name in names):
        raise OssConfigError(f"the key {key!r} cannot become a path below {directory}")
    path, root = Path(directory, *names), os.path.realpath(directory)
    if os.path.commonpath([root, os.path.realpath(path)]) != root:
        raise OssConfigError(
            f"the key {key!r} would leave {directory} by a link in it: remove the link, or copy that object by itself"
        )
    return path


def _unreadable(error: OSError) -> None:
    raise OssConfigError(f"{error.filename} cannot be read: {error.strerror}") from error
