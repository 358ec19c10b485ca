"""Receiving an object in a local file: straight into the file's memory, without a copy in between."""

import errno
import mmap
import os
import threading
from typing import TYPE_CHECKING, BinaryIO, Final

from osstorchconnector._native import crc64_combine
from osstorchconnector.files.transfer import Stopped

if TYPE_CHECKING:
    from osstorchconnector._native import OssReader
    from osstorchconnector.files.progress import Advance

# The size of many requests: between two steps the connections are idle for a moment. After Ctrl-C one step still ends.
_STEP: Final = 64 << 20
# What file systems answer that cannot reserve space, or cannot be mapped.
_CANNOT: Final = frozenset({errno.EOPNOTSUPP, errno.ENODEV, errno.EINVAL, errno.ENOSYS, errno.EACCES})


def receive(reader: "OssReader", file: BinaryIO, advance: "Advance", stopped: threading.Event) -> int:
    """Write all bytes of an object to an empty file that is open for reading and writing, and return their CRC-64.

    Raises:
        Stopped: The event was set.
        OSError: The file system has no space.
        OssError: The object could not be read.
    """
    size = reader.size
    if size == 0:
        return 0
    try:
        # Without its blocks, a write to the mapping of a full disk would end the process.
        os.posix_fallocate(file.fileno(), 0, size)
        mapped = mmap.mmap(file.fileno(), size)
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
        os.ftruncate(file.fileno(), 0)
        _copy(reader, file, advance, stopped)
        return _crc64_of(reader)
    with mapped, memoryview(mapped) as memory:
        offset = 0
        while offset < size:
            _check(stopped)
            with memory[offset : offset + _STEP] as part:
                count = reader.readinto(part)
            offset += count
            advance(count)
    return _crc64_of(reader)


def _crc64_of(reader: "OssReader") -> int:
    value = 0
    for start, end, crc in sorted(reader.received()):
        value = crc64_combine(value, crc, end - start)
    return value


def _copy(reader: "OssReader", file: BinaryIO, advance: "Advance", stopped: threading.Event) -> None:
    buffer = memoryview(bytearray(min(_STEP, reader.size)))
    while count := reader.readinto(buffer):
        _check(stopped)
        file.write(buffer[:count])
        advance(count)


def _check(stopped: threading.Event) -> None:
    if stopped.is_set():
        raise Stopped
