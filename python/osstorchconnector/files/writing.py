"""Files to be written: local ones or objects, whole or not at all."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from osstorchconnector.connection.uri import split_object
from osstorchconnector.exceptions import OssConfigError

if TYPE_CHECKING:
    from osstorchconnector._native import Writer
    from osstorchconnector.connection.client import OssClient

# File systems take names of 255 bytes, and a character has up to four.
_NAME: Final = 50


@contextmanager
def writing(path: str, client: "OssClient | None") -> Iterator["BinaryIO | Writer"]:
    """Open a file or an object for writing; it appears when the block ends without an exception.

    A link stays one, and so does a device or a pipe, which gets what is written as it comes.

    Args:
        path: Local path, or the URI of an object.
        client: Writes objects; None where only local files are meant.

    Raises:
        OssConfigError: It is a directory, or its directory does not exist or cannot be written to.
    """
    if client is not None and path.startswith("oss://"):
        split_object(path)
        with client.writer(path) as writer:
            yield writer
        return
    target = Path(path)
    if target.is_dir():
        raise OssConfigError(f"{path} cannot be written: it is a directory")
    if target.exists() and not target.is_file():
        with target.open("wb") as file:
            yield file
        return
    target = Path(os.path.realpath(target))
    try:
        # With the permissions that any new file gets, which a temporary file of the library's making does not.
        name = target.with_name(f".{target.name[:_NAME]}.{secrets.token_hex(8)}")
        handle = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise OssConfigError(f"{path} cannot be written: {error.strerror}") from error
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        name.replace(target)
        _sync_directory(target.parent)
    except BaseException:
        name.unlink(missing_ok=True)
        raise


def _sync_directory(directory: Path) -> None:
    # The file's new name is in the directory.
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
