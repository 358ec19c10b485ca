"""Files to be written: local ones or objects, whole or not at all."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from osstorchconnector._uri import split_object
from osstorchconnector.exceptions import OssConfigError

if TYPE_CHECKING:
    from osstorchconnector._client import OssClient
    from osstorchconnector._native import Writer


@contextmanager
def writing(path: str, client: "OssClient | None") -> Iterator["BinaryIO | Writer"]:
    """Open a file or an object for writing; it appears when the block ends without an exception.

    Args:
        path: Local path, or the URI of an object.
        client: Writes objects; None where only local files are meant.

    Raises:
        OssConfigError: The directory does not exist or cannot be written to.
    """
    if client is not None and path.startswith("oss://"):
        split_object(path)
        with client.writer(path) as writer:
            yield writer
        return
    target = Path(path)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    except OSError as error:
        raise OssConfigError(f"{path} cannot be written: {error.strerror}") from error
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        # mkstemp makes private files; this one is to have what others have.
        os.chmod(name, 0o666 & ~_umask())  # noqa: PTH101 - it is text here
        os.replace(name, target)  # noqa: PTH105 - as above
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)  # noqa: PTH108 - as above
        raise


def _umask() -> int:
    # There is no way to read it without setting it.
    umask = os.umask(0o077)
    os.umask(umask)
    return umask
