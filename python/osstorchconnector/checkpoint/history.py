"""Which checkpoints lie below a prefix, in what order, and which of them are whole.

There is no pointer object, since OSS cannot replace one only where it is unchanged: the names tell the order, and the
objects themselves tell whether they are complete.
"""

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from osstorchconnector.connection.uri import split_prefix
from osstorchconnector.exceptions import OssConfigError, OssNotFoundError

if TYPE_CHECKING:
    from osstorchconnector.connection.client import OssClient
    from osstorchconnector.dcp.history import Checkpoint

#: What a save of several processes writes last.
METADATA: Final = ".metadata"
# Suffixes that files with weights have. Others are logs, configurations and tables, which may be numbered too.
_SUFFIXES: Final = frozenset(["bin", "ckpt", "pkl", "pt", "pth", "safetensors", "tar"])
_NUMBER: Final = re.compile(r"\d+")

# https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT: how a ZIP archive, which torch.save makes, begins and
# what stands at its end.
_ZIP_START: Final = b"PK\x03\x04"
_ZIP_END: Final = b"PK\x05\x06"
_ZIP_END_LENGTH: Final = 22
# Read at a time where all of a checkpoint is read.
_READ: Final = 64 << 20
# A pickle of protocol 2 to 5, which torch.save made before it made archives, and pickle makes.
_PICKLE_STARTS: Final = tuple(bytes([0x80, protocol]) for protocol in range(2, 6))
# The length of a header in JSON, and its first byte.
_SAFETENSORS_PREFIX: Final = 8
# The longest header that the library safetensors reads. A text with a brace in that place is far above it.
_SAFETENSORS_LONGEST: Final = 100_000_000
_START_LENGTH: Final = 16


class State(Enum):
    """What a look at its bytes tells."""

    #: It has all its bytes.
    WHOLE = "whole"
    #: It is a checkpoint, and part of it is missing.
    DAMAGED = "damaged"
    #: It is something else.
    FOREIGN = "foreign"


@dataclass(frozen=True)
class Entry:
    """What is a checkpoint by its name.

    Attributes:
        uri: The object, or the directory of a distributed one.
        name: The URI's part below the prefix.
        size: Bytes of the object; of a distributed one, of its metadata.
        distributed: Whether several processes saved it.
    """

    uri: str
    name: str
    size: int
    distributed: bool

    @property
    def number(self) -> int | None:
        """The last whole number in the name, without its suffix."""
        stem, dot, suffix = self.name.rpartition(".")
        numbers = _NUMBER.findall(stem if dot and suffix in _SUFFIXES else self.name)
        return int(numbers[-1]) if numbers else None

    @property
    def order(self) -> tuple[bool, int, str]:
        """Sorts older ones first: those without a number, by their names, then by number."""
        return self.number is not None, self.number or 0, self.name


def entries(client: "OssClient", prefix: str) -> list[Entry]:
    """Return what is a checkpoint by its name below a prefix, the oldest first.

    Raises:
        OssConfigError: The prefix is a directory and the beginning of other names too, whose numbers do not compare.
    """
    bucket, start = split_prefix(prefix)
    named = (_entry(f"oss://{bucket}/{start}", item.uri, item.size) for item in client.list(prefix))
    found = [entry for entry in named if entry is not None]
    if start and not start.endswith("/"):
        directory = f"oss://{bucket}/{start}/"
        beside = [entry for entry in found if not entry.uri.startswith(directory)]
        if 0 < len(beside) < len(found):
            raise OssConfigError(
                f"{prefix} is the directory {directory} and the beginning of other names, such as {beside[0].uri}: end "
                "it with / or with more of the names"
            )
    return sorted(found, key=lambda entry: entry.order)


def newest_first(client: "OssClient", prefix: str) -> Iterator[tuple[Entry, State]]:
    """Return what is a checkpoint by its name, each with what it is by its bytes. What is gone by then is left out."""
    for entry in reversed(entries(client, prefix)):
        try:
            yield entry, state_of(client, entry)
        except OssNotFoundError:
            continue


def stored_last(client: "OssClient", prefix: str) -> str | None:
    """Return the URI of the object below a prefix that is a whole checkpoint and was stored last."""
    times: dict[Entry, float] = {}
    for entry in entries(client, prefix):
        if not entry.distributed:
            with suppress(OssNotFoundError):
                times[entry] = client.head(entry.uri).last_modified or 0.0
    # Times are whole seconds. Of those stored together, last.ckpt, which has no number, is the last.
    for entry in sorted(times, key=lambda entry: (times[entry], entry.number is None, entry.order), reverse=True):
        with suppress(OssNotFoundError):
            if state_of(client, entry) is State.WHOLE:
                return entry.uri
    return None


def state_of(client: "OssClient", entry: Entry) -> State:
    """Look at a checkpoint's first and last bytes, its header, or what its metadata speaks of.

    Raises:
        OssNotFoundError: It is gone.
    """
    if entry.distributed:
        found = _distributed(client, entry)
        return State.WHOLE if found.complete else State.DAMAGED
    size = client.head(entry.uri).size
    start = client.get(entry.uri, 0, min(size, _START_LENGTH))
    if start.startswith(_ZIP_START):
        end = client.get(entry.uri, max(0, size - _ZIP_END_LENGTH), size)
        return State.WHOLE if end.startswith(_ZIP_END) else State.DAMAGED
    if start.startswith(_PICKLE_STARTS):
        return State.WHOLE
    if start[_SAFETENSORS_PREFIX:].startswith(b"{"):
        return _state_of_safetensors(client, entry.uri, size, int.from_bytes(start[:_SAFETENSORS_PREFIX], "little"))
    return State.FOREIGN


def _state_of_safetensors(client: "OssClient", uri: str, size: int, header_length: int) -> State:
    header_end = _SAFETENSORS_PREFIX + header_length
    if header_length > _SAFETENSORS_LONGEST:
        return State.FOREIGN
    if header_end > size:
        return State.DAMAGED
    try:
        header = json.loads(client.get(uri, _SAFETENSORS_PREFIX, header_end))
        ends = [place["data_offsets"][1] for name, place in header.items() if name != "__metadata__"]
        end = header_end + max(ends, default=0)
    except (ValueError, LookupError, TypeError, RecursionError):
        return State.FOREIGN
    return State.WHOLE if end == size else State.DAMAGED


def read_through(client: "OssClient", entry: Entry) -> None:
    """Read all of a checkpoint, so that its checksum is compared.

    Raises:
        OssIntegrityError: It is not what OSS stores.
        OssError: It could not be read.
    """
    if entry.distributed:
        from osstorchconnector.dcp.history import verify  # noqa: PLC0415 - takes a second, and few need it

        verify(client, _distributed(client, entry))
        return
    buffer = bytearray(min(entry.size, _READ))
    with client.reader(entry.uri) as reader:
        while buffer and reader.readinto(buffer):
            pass


def delete(client: "OssClient", entry: Entry) -> None:
    """Delete a checkpoint. Of a distributed one the metadata goes first: from then on nobody takes it for whole."""
    if not entry.distributed:
        client.delete(entry.uri)
        return
    from osstorchconnector.dcp.history import remove  # noqa: PLC0415 - as above

    remove(client, _distributed(client, entry))


def _entry(prefix: str, uri: str, size: int) -> Entry | None:
    below = uri[len(prefix) :].removeprefix("/")
    name, slash, rest = below.partition("/")
    if slash:
        directory = uri[: len(uri) - len(rest) - 1]
        return Entry(directory, name, size, distributed=True) if rest == METADATA else None
    _, dot, suffix = name.rpartition(".")
    if not name or (dot and not suffix.isdigit() and suffix not in _SUFFIXES):
        return None
    return Entry(uri, name, size, distributed=False)


def _distributed(client: "OssClient", entry: Entry) -> "Checkpoint":
    from osstorchconnector.dcp.history import checkpoints  # noqa: PLC0415 - as above

    for found in checkpoints(client, entry.uri):
        if found.uri == entry.uri:
            return found
    raise OssNotFoundError(f"{entry.uri} was deleted meanwhile")
