"""Whole objects and files, from one place to another."""

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
from osstorchconnector.exceptions import OssConfigError, OssError
from osstorchconnector.files.writing import writing

if TYPE_CHECKING:
    from osstorchconnector._native import OssReader, Writer
    from osstorchconnector.connection.client import OssClient
    from osstorchconnector.files.progress import Advance

# Several requests' worth, so that one read keeps them busy, and little beside what they hold.
_CHUNK: Final = 32 << 20
# Fetched in one request: their checksum is compared before a byte is written.
_SMALL: Final = 8 << 20
# How long Ctrl-C waits at most.
_SIGNAL_SECONDS: Final = 0.2

#: Standard input or output.
STANDARD: Final = "-"


class Stopped(Exception):  # noqa: N818 - it is no error
    """The transfer was given up."""


class Transfer:
    """Transfers files and objects. Threads may share it."""

    def __init__(self, client: "OssClient", advance: "Advance", standard: tuple[IO[bytes], IO[bytes]]) -> None:
        """Prepare.

        Args:
            client: Reads and writes objects.
            advance: Is told of bytes that were transferred.
            standard: What ``-`` reads from and writes to.
        """
        self._client = client
        self._advance = advance
        self._input, self._output = standard
        self._stopped = threading.Event()
        # Told by many threads, and a bar is not made for that.
        self._counting = threading.Lock()
        # A large object is transferred with all the connections that help: several at once would only take memory.
        self._large = threading.Lock()

    def stop(self) -> None:
        """Make the transfers that are under way raise :class:`Stopped`."""
        self._stopped.set()

    def run(self, source: str, target: str) -> None:
        """Transfer one file or object. It is there whole in the end, or what was there before is.

        Args:
            source: Local path, ``oss://bucket/key``, or ``-``.
            target: As `source`.

        Raises:
            OssError: It was not transferred.
        """
        if is_remote(source):
            size = self._client.head(source).size
            self.run_object(source, size, target)
            return
        with self._opened(source) as file:
            status = os.fstat(file.fileno())
            # What a pipe will yield is not known.
            size = status.st_size if stat.S_ISREG(status.st_mode) else sys.maxsize
            with self._alone(size), writing(target, self._client) as written:
                self._pump(file, written, size)

    def run_object(self, source: str, size: int, target: str) -> None:
        """Transfer one object whose size is known.

        Raises:
            OssError: It was not transferred.
        """
        if is_remote(target):
            self._client.copy(source, target, size=size, progress=self._proceed)
        elif size <= _SMALL:
            content = self._client.get(source)
            with self._target(target) as file:
                _write(file, memoryview(content))
            self._count(len(content))
        else:
            with self._alone(size), self._client.reader(source) as item, self._target(target) as file:
                self._pump(item, file, size)

    @contextlib.contextmanager
    def _target(self, target: str) -> "Iterator[IO[bytes] | Writer]":
        if target == STANDARD:
            yield self._output
            self._output.flush()
            return
        try:
            with writing(target, self._client) as file:
                yield file
        except OssError:
            raise
        except OSError as error:
            # Such as a full disk.
            raise OssConfigError(f"{target} cannot be written: {error.strerror}; nothing of it is left") from error

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
        return self._large if size > _SMALL else contextlib.nullcontext()

    def _pump(self, source: "IO[bytes] | OssReader", target: "IO[bytes] | Writer", size: int) -> None:
        # A byte more than there is, for the end to be found with the rest.
        buffer = memoryview(bytearray(min(_CHUNK, size + 1)))
        read: Callable[[memoryview], int] = self._read_standard if source is self._input else source.readinto  # type: ignore[union-attr]
        while count := read(buffer):
            if self._stopped.is_set():
                raise Stopped
            _write(target, buffer[:count])
            self._count(count)

    def _proceed(self, count: int) -> None:
        if self._stopped.is_set():
            raise Stopped
        self._count(count)

    def _read_standard(self, buffer: memoryview) -> int:
        # Whoever writes to the pipe may pause for ever, and a signal that comes just before the wait does not end it.
        descriptor = self._input.fileno()
        while not select.select([descriptor], [], [], _SIGNAL_SECONDS)[0]:
            pass
        return os.readv(descriptor, [buffer])

    def _count(self, count: int) -> None:
        with self._counting:
            self._advance(count)


def _write(target: "IO[bytes] | Writer", data: memoryview) -> None:
    # Standard output may be unbuffered, and then takes a part at a time.
    while data.nbytes > 0:
        data = data[target.write(data) :]


def is_remote(place: str) -> bool:
    """Return whether it is the URI of an object or prefix."""
    return place.startswith("oss://")


def target_of(source: str, target: str) -> str:
    """Return the file or object that a source becomes: a target that ends with a slash is a directory to put it in.

    Raises:
        OssConfigError: The target is a directory without that slash, or no object.
    """
    if target == STANDARD:
        return target
    if target.endswith("/") or (is_remote(target) and not split_prefix(target)[1]):
        if source == STANDARD:
            raise OssConfigError(f"{target} is a directory, and what comes from standard input has no name: give one")
        return f"{target.removesuffix('/')}/{PurePosixPath(source).name}"
    if is_remote(target):
        split_object(target)
    elif Path(target).is_dir():
        raise OssConfigError(f"{target} is a directory: write {target}/ to put the file in it")
    return target


def below(source: str, client: "OssClient") -> Iterator[tuple[str, str, int]]:
    """Find everything below a directory or prefix.

    Yields:
        Each file or object, its path below the directory, and its size.

    Raises:
        OssConfigError: A local directory cannot be read, or holds a link to a directory, which is not followed.
        OssError: The prefix cannot be listed.
    """
    if is_remote(source):
        bucket, prefix = split_prefix(source)
        if prefix and not prefix.endswith("/"):
            prefix += "/"
        for item in client.list(f"oss://{bucket}/{prefix}"):
            yield item.uri, item.name[len(prefix) :], item.size
        return
    root = Path(source)
    if not root.is_dir():
        raise OssConfigError(f"{source} is not a directory: leave out --recursive to copy a file")
    for directory, directories, files in os.walk(root, onerror=_unreadable):
        directories.sort()
        for name in directories:
            if Path(directory, name).is_symlink():
                raise OssConfigError(f"{Path(directory, name)} is a link to a directory: links are not followed")
        for name in sorted(files):
            path = Path(directory, name)
            yield str(path), path.relative_to(root).as_posix(), 0


def local_path(directory: str, key: str) -> Path:
    """Return the local path of a key below a directory.

    Raises:
        OssConfigError: No file can have that path, or it would lie outside of the directory.
    """
    names = key.split("/")
    if any(name in {"", ".", ".."} or "\0" in name for name in names):
        raise OssConfigError(f"the key {key!r} is no path below a local directory")
    return Path(directory, *names)


def _unreadable(error: OSError) -> None:
    raise OssConfigError(f"{error.filename} cannot be read: {error.strerror}") from error
