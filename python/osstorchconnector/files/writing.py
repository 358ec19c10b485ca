"""Writing a local file or an object, whole or not at all."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from osstorchconnector.connection.uri import check_local, split_object
from osstorchconnector.exceptions import OssConfigError

if TYPE_CHECKING:
    from osstorchconnector._native import Writer
    from osstorchconnector.connection.client import OssClient

# Characters of the name that a temporary file repeats: file systems allow 255 bytes, and a character has up to four.
_NAME: Final = 50


# Temporary files that are being written. Adding to a set and removing from it need no lock.
_unfinished: Final[set[Path]] = set()


def remove_unfinished() -> None:
    """Remove the temporary files of writes that will not end, because the process ends without waiting for them."""
    while _unfinished:
        _unfinished.pop().unlink(missing_ok=True)


@contextmanager
def writing(path: str, client: "OssClient | None", *, durable: bool = True) -> Iterator["BinaryIO | Writer"]:
    """Open a file or an object for writing; it appears when the block ends without an exception.

    If the path is a link, the file that it points to is replaced. A device or a pipe is written to directly.

    Args:
        path: Local path, or the URI of an object.
        client: Writes objects; None if every path is local.
        durable: The file is on the disk at the end, so that it also survives a crash of the machine.

    Raises:
        OssConfigError: The path is a directory, or its directory does not exist or cannot be written to.
    """
    if client is not None and path.startswith("oss://"):
        split_object(path)
        with client.writer(path) as writer:
            yield writer
        return
    target = Path(check_local(path))
    if target.is_dir():
        raise OssConfigError(f"{path} cannot be written: it is a directory")
    if target.exists() and not target.is_file():
        with target.open("wb") as file:
            yield file
        return
    target = Path(os.path.realpath(target))
    try:
        # Not by the module tempfile: its files do not have the permissions of a new file.
        name = target.with_name(f".{target.name[:_NAME]}.{secrets.token_hex(8)}")
        _unfinished.add(name)
        handle = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except OSError as error:
        _unfinished.discard(name)
        raise OssConfigError(f"{path} cannot be written: {error.strerror}") from error
    try:
        # Also for reading: a file that is only written cannot be mapped.
        with os.fdopen(handle, "w+b") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        name.replace(target)
        if durable:
            sync_directory(target.parent)
    except BaseException:
        name.unlink(missing_ok=True)
        raise
    finally:
        _unfinished.discard(name)


def sync_directory(directory: Path) -> None:
    """Force a rename in a directory to the disk."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
