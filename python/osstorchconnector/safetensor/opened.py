"""The header of a safetensors object in OSS, read with one request of its bytes if it is short."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from osstorchconnector.connection.client import OssClient
from osstorchconnector.safetensor.header import LENGTH_BYTES, Header, length_in, read_header

if TYPE_CHECKING:
    from osstorchconnector._native import OssReader

# The header of a few hundred tensors fits, so most files need one request.
_FIRST_READ: Final = 64 << 10


@dataclass(frozen=True, slots=True)
class OpenedFile:
    """An object that is open, and what its header says.

    Attributes:
        reader: Reads the version whose header this is.
        header: Its tensors and texts.
        length: Bytes of the header, with its length in front.
    """

    reader: "OssReader"
    header: Header
    length: int


def open_file(client: OssClient, uri: str) -> OpenedFile:
    """Open an object and read its header.

    Raises:
        OssNotFoundError: The object does not exist.
        OssFormatError: It is not a safetensors file, or not complete.
    """
    reader = client.reader(uri)
    try:
        size = reader.size
        # Few bytes of many files at the same time: one request for each read, and no checksum of the whole file.
        first = bytearray(min(_FIRST_READ, size))
        reader.readinto_many([(0, first)], concurrent=True, verify=False)
        length = min(size, LENGTH_BYTES + length_in(bytes(first[:LENGTH_BYTES]), size))
        head = first[:length]
        if length > len(first):
            rest = bytearray(length - len(first))
            reader.readinto_many([(len(first), rest)], concurrent=True, verify=False)
            head += rest
        return OpenedFile(reader, read_header(bytes(head), size, uri), length)
    except BaseException:
        reader.close()
        raise
