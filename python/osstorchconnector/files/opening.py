"""Opening a local file or an object for reading."""

from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from osstorchconnector.connection.uri import check_local, split_local, split_object
from osstorchconnector.exceptions import OssConfigError

if TYPE_CHECKING:
    from osstorchconnector._native import Client, DataObject


def open_binary(path: str, client: "Client") -> "BinaryIO | DataObject":
    """Open a file or an object as a seekable binary stream.

    Args:
        path: Local path, or the URI of an object.
        client: Reads objects. If it is a client of local files, ``oss://`` URIs are local paths too.

    Raises:
        OssConfigError: The local file cannot be opened.
        OssError: The object cannot be opened.
    """
    if path.startswith("oss://"):
        return client.open(*(split_local(path) if client.local else split_object(path)))
    check_local(path)
    try:
        return Path(path).open("rb")
    except OSError as error:
        raise OssConfigError(f"{path} cannot be opened: {error.strerror}") from error
