"""Lines of files that may be larger than memory."""

from collections.abc import Iterable, Iterator
from typing import Final

from osstorchconnector.exceptions import OssFormatError

# A key has at most 1,023 bytes. The limit keeps a file without line feeds out of memory.
_LONGEST: Final = 1 << 20


def bounded_lines(reader: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the lines of a binary stream, or of anything else that yields lines.

    Raises:
        OssFormatError: A line of a stream is longer than 1 MiB.
    """
    readline = getattr(reader, "readline", None)
    if readline is None:
        yield from reader
        return
    number = 0
    while line := readline(_LONGEST):
        number += 1
        if len(line) == _LONGEST and not line.endswith(b"\n"):
            name = getattr(reader, "uri", None) or getattr(reader, "name", None) or "the file"
            raise OssFormatError(f"{name}: line {number} has more than {_LONGEST} bytes: this is no list of objects")
        yield line
