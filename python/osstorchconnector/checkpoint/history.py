"""The checkpoints below a prefix, their order, and which of them are whole.

No object points to the newest checkpoint, because OSS cannot replace an object on the condition that it is unchanged.
The names define the order, and the first and last bytes of an object show whether it is complete.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Final

from osstorchconnector._json import read_json
from osstorchconnector.connection.uri import split_prefix
from osstorchconnector.exceptions import OssConfigError, OssNotFoundError

if TYPE_CHECKING:
    from osstorchconnector.connection.client import OssClient
    from osstorchconnector.dcp.history import Checkpoint

#: The object that a save of several processes writes last.
METADATA: Final = ".metadata"
# Suffixes of files with weights. Logs, configurations and tables have other suffixes, and may be numbered too.
_SUFFIXES: Final = frozenset(["bin", "ckpt", "pkl", "pt", "pth", "safetensors", "tar"])
_NUMBER: Final = re.compile(r"\d+")

# torch.save writes a ZIP archive. Its beginning and its end, after
# https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT.
_ZIP_START: Final = b"PK\x03\x04"
_ZIP_END: Final = b"PK\x05\x06"
_ZIP_END_LENGTH: Final = 22
# Bytes of one read while a whole checkpoint is read.
_READ: Final = 64 << 20
# A pickle of protocol 2 to 5, as the module pickle writes it, and as torch.save did before it wrote archives.
_PICKLE_STARTS: Final = tuple(bytes([0x80, protocol]) for protocol in range(2, 6))
# Bytes of the length in front of the header, which is JSON.
_SAFETENSORS_PREFIX: Final = 8
# The longest header that the library safetensors reads. Eight characters of a text, read as a length, are far above it.
_SAFETENSORS_LONGEST: Final = 100_000_000
_START_LENGTH: Final = 16


class Condition(Enum):
    """What the bytes of a candidate show."""

    #: A checkpoint with all its bytes.
    WHOLE = "whole"
    #: A checkpoint of which something is missing.
    DAMAGED = "damaged"
    #: No checkpoint.
    FOREIGN = "foreign"


@dataclass(frozen=True)
class Candidate:
    """An object or directory that has the name of a checkpoint.

    Attributes:
        uri: The object, or the directory of a distributed checkpoint.
        name: The part of the URI below the prefix.
        size: Bytes of the object, or of a distributed checkpoint's metadata.
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
        """The key to sort by, the oldest first: names without a number, then by number."""
        return self.number is not None, self.number or 0, self.name


def candidates(client: "OssClient", prefix: str) -> list[Candidate]:
    """Return the candidates below a prefix, the oldest first.

    Raises:
        OssConfigError: The prefix is a directory, and other names begin with it too. Their numbers do not compare.
    """
    bucket, start = split_prefix(prefix)
    listed = (_candidate(f"oss://{bucket}/{start}", found.uri, found.size) for found in client.list(prefix))
    named = [candidate for candidate in listed if candidate is not None]
    if start and not start.endswith("/"):
        directory = f"oss://{bucket}/{start}/"
        beside = [candidate for candidate in named if not candidate.uri.startswith(directory)]
        if 0 < len(beside) < len(named):
            raise OssConfigError(
                f"{prefix} is the directory {directory} and the beginning of other names, such as {beside[0].uri}: "
                "add a / to mean the directory, or more characters to mean the names"
            )
    return sorted(named, key=lambda candidate: candidate.order)


def named(client: "OssClient", uri: str) -> list[Candidate]:
    """Return the object with this URI if its name is that of a checkpoint; else nothing."""
    directory, slash, name = uri.rpartition("/")
    if not split_prefix(uri)[1]:
        return []
    candidate = _candidate(f"{directory}{slash}", uri, 0)
    try:
        return [] if candidate is None or not name else [replace(candidate, size=client.head(uri).size)]
    except OssNotFoundError:
        return []


def newest_first(client: "OssClient", prefix: str) -> Iterator[tuple[Candidate, Condition]]:
    """Yield the candidates with their conditions. Candidates that are deleted meanwhile are left out."""
    for candidate in reversed(candidates(client, prefix)):
        try:
            yield candidate, condition_of(client, candidate)
        except OssNotFoundError:
            continue


def stored_last(client: "OssClient", prefix: str) -> str | None:
    """Return the URI of the whole checkpoint below a prefix that was stored last."""
    times: dict[Candidate, float] = {}
    for candidate in candidates(client, prefix):
        written_last = f"{candidate.uri}/{METADATA}" if candidate.distributed else candidate.uri
        with suppress(OssNotFoundError):
            times[candidate] = client.head(written_last).last_modified or 0.0
    # Times are whole seconds. Of objects with the same time, last.ckpt, which has no number, is the last.
    for candidate in sorted(times, key=lambda one: (times[one], one.number is None, one.order), reverse=True):
        with suppress(OssNotFoundError):
            if condition_of(client, candidate) is Condition.WHOLE:
                return candidate.uri
    return None


def condition_of(client: "OssClient", candidate: Candidate) -> Condition:
    """Return the condition that a candidate's first and last bytes, its header, or its metadata and files show.

    Raises:
        OssNotFoundError: It was deleted.
    """
    if candidate.distributed:
        found = _distributed(client, candidate)
        return Condition.WHOLE if found.complete else Condition.DAMAGED
    return condition_of_content(
        lambda start, end: client.get(candidate.uri, start, end), client.head(candidate.uri).size
    )


def condition_of_content(read: Callable[[int, int], bytes], size: int) -> Condition:
    """Return the condition that the first and last bytes of one object show.

    Args:
        read: Returns the bytes from a first one to before a second one.
        size: Bytes of the object.
    """
    start = read(0, min(size, _START_LENGTH))
    if start.startswith(_ZIP_START):
        end = read(max(0, size - _ZIP_END_LENGTH), size)
        return Condition.WHOLE if end.startswith(_ZIP_END) else Condition.DAMAGED
    if start.startswith(_PICKLE_STARTS):
        return Condition.WHOLE
    if start[_SAFETENSORS_PREFIX:].startswith(b"{"):
        return _condition_of_safetensors(read, size, int.from_bytes(start[:_SAFETENSORS_PREFIX], "little"))
    return Condition.FOREIGN


def _condition_of_safetensors(read: Callable[[int, int], bytes], size: int, header_length: int) -> Condition:
    header_end = _SAFETENSORS_PREFIX + header_length
    if header_length > _SAFETENSORS_LONGEST:
        return Condition.FOREIGN
    if header_end > size:
        return Condition.DAMAGED
    try:
        header = read_json(read(_SAFETENSORS_PREFIX, header_end))
        ends = [place["data_offsets"][1] for name, place in header.items() if name != "__metadata__"]
        end = header_end + max(ends, default=0)
    except (ValueError, LookupError, TypeError, AttributeError):
        return Condition.FOREIGN
    return Condition.WHOLE if end == size else Condition.DAMAGED


def read_through(client: "OssClient", candidate: Candidate) -> None:
    """Read all of a checkpoint, so that its checksum is compared.

    Raises:
        OssIntegrityError: The bytes do not have the checksum that OSS stores.
        OssError: The checkpoint could not be read.
    """
    if candidate.distributed:
        from osstorchconnector.dcp.history import verify  # noqa: PLC0415 - takes a second, and few need it

        verify(client, _distributed(client, candidate))
        return
    buffer = bytearray(min(candidate.size, _READ))
    with client.reader(candidate.uri) as reader:
        while buffer and reader.readinto(buffer):
            pass


def delete(client: "OssClient", candidate: Candidate) -> None:
    """Delete a checkpoint. If it is distributed, its metadata is deleted first, so that it no longer looks complete."""
    if not candidate.distributed:
        client.delete(candidate.uri)
        return
    from osstorchconnector.dcp.history import remove  # noqa: PLC0415 - as above

    remove(client, _distributed(client, candidate))


def has_checkpoint_name(name: str) -> bool:
    """Return whether the suffix of a name is one of files with weights."""
    _, dot, suffix = name.rpartition(".")
    return bool(dot) and suffix in _SUFFIXES


def _candidate(prefix: str, uri: str, size: int) -> Candidate | None:
    below = uri[len(prefix) :].removeprefix("/")
    name, slash, rest = below.partition("/")
    if slash:
        directory = uri[: len(uri) - len(rest) - 1]
        return Candidate(directory, name, size, distributed=True) if rest == METADATA else None
    _, dot, suffix = name.rpartition(".")
    if not name or (dot and not suffix.isdigit() and suffix not in _SUFFIXES):
        return None
    return Candidate(uri, name, size, distributed=False)


def _distributed(client: "OssClient", candidate: Candidate) -> "Checkpoint":
    from osstorchconnector.dcp.history import checkpoints  # noqa: PLC0415 - as above

    for found in checkpoints(client, candidate.uri):
        if found.uri == candidate.uri:
            return found
    raise OssNotFoundError(f"{candidate.uri} was deleted while it was read")
