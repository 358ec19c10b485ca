r"""A snapshot of a listing: keys with sizes, ETags and labels, and a digest over them.

A text file. The first line is a JSON object with the bucket and prefix that were listed, the last one has the sums::

    {"format": "osst-snapshot", "version": 1, "bucket": "images", "prefix": "train/"}
    10240	9A0364B9E99BB480DD25E1F0284C8555	train/cat/1.jpg	cat
    {"objects": 1, "bytes": 10240, "sha256": "..."}

Each line between them is one object: size, ETag, key, and its label if there is one, separated by tabs. In keys and
labels ``\\``, ``\t``, ``\n`` and ``\r`` stand for a backslash, a tab and line breaks. The digest is over all lines but
the last.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from typing import IO, TYPE_CHECKING, Any, Final

from osstorchconnector._json import read_json
from osstorchconnector.exceptions import OssConfigError, OssIntegrityError
from osstorchconnector.files.fields import join_fields, split_fields
from osstorchconnector.files.lines import bounded_lines

if TYPE_CHECKING:
    from osstorchconnector._native import DataObject, Writer

FORMAT: Final = "osst-snapshot"
VERSION: Final = 1

# Three fields, of which two are numbers and one a digest.
_LAST_LINE: Final = 1024

#: The beginning of a snapshot. No manifest begins like this.
MAGIC: Final = f'{{"format": "{FORMAT}",'.encode()


class SnapshotWriter:
    """Writes a snapshot, object by object."""

    def __init__(self, target: "IO[bytes] | Writer", bucket: str, prefix: str) -> None:
        """Write the first line."""
        self._target = target
        self._digest = hashlib.sha256()
        self._objects = 0
        self._bytes = 0
        self._write(_line({"format": FORMAT, "version": VERSION, "bucket": bucket, "prefix": prefix}))

    def add(self, key: str, size: int, etag: str, label: str = "") -> None:
        """Write the line of an object."""
        self._write(join_fields(size, etag, key, *((label,) if label else ())))
        self._objects += 1
        self._bytes += size

    def finish(self) -> None:
        """Write the last line."""
        self._write(_line({"objects": self._objects, "bytes": self._bytes, "sha256": self._digest.hexdigest()}))

    def _write(self, line: bytes) -> None:
        self._digest.update(line)
        self._target.write(line)


def snapshot_parser(reader: Iterable[bytes]) -> Iterator[tuple[str, str, int, str]]:
    """Yield URI, label, size and ETag of each object of a snapshot that ``osst manifest --snapshot`` wrote.

    Args:
        reader: The snapshot, as a binary stream. It is read line by line, so it may be larger than memory.

    Raises:
        OssConfigError: It is not a snapshot, or a snapshot of a later version.
        OssIntegrityError: It was cut short or edited. This is raised at that line, or at the end.
    """
    lines = bounded_lines(reader)
    first = next(lines, b"")
    bucket = _bucket_of(first)
    digest = hashlib.sha256(first)
    objects = size_of_all = 0
    for number, line in enumerate(lines, start=2):
        if line.startswith(b"{"):
            _check_end(line, {"objects": objects, "bytes": size_of_all, "sha256": digest.hexdigest()})
            if next(lines, None) is not None:
                raise OssIntegrityError(
                    f"the snapshot continues after its last line, which is line {number}; write it again"
                )
            return
        digest.update(line)
        try:
            size, etag, key, *labels = split_fields(line)
            (label,) = labels or ("",)
            length = int(size)
        except ValueError:
            raise OssIntegrityError(
                f"line {number} of the snapshot is damaged: {line[:200]!r}; write it again"
            ) from None
        objects += 1
        size_of_all += length
        yield f"oss://{bucket}/{key}", label, length, etag
    raise OssIntegrityError(
        f"the snapshot ends after {objects} objects without its last line: it was cut short; copy it again"
    )


def stated_count(reader: "IO[bytes] | DataObject") -> int | None:
    """Return the number of objects that the last line of a snapshot states, or None if this is no snapshot.

    Args:
        reader: The manifest, as a seekable binary stream. Only its beginning and its end are read.

    Raises:
        OssIntegrityError: The last line is damaged or missing.
    """
    if reader.read(len(MAGIC)) != MAGIC:
        return None
    length = reader.seek(0, os.SEEK_END)
    reader.seek(max(length - _LAST_LINE, 0))
    line = reader.read().rstrip(b"\n").rpartition(b"\n")[2]
    try:
        document = read_json(line)
    except ValueError:
        document = None
    objects = document.get("objects") if isinstance(document, dict) else None
    if not isinstance(objects, int) or isinstance(objects, bool) or objects < 0:
        raise OssIntegrityError(
            f"the snapshot ends with {line[:200]!r} instead of its last line: it was cut short or edited; copy it again"
        )
    return objects


def _line(document: dict[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False).encode() + b"\n"


def _bucket_of(line: bytes) -> str:
    if not line.startswith(MAGIC):
        raise OssConfigError("this is not a snapshot: its first line must name the format 'osst-snapshot'")
    try:
        document = read_json(line)
    except ValueError as error:
        raise OssIntegrityError(f"the first line of the snapshot is damaged: {error}; write it again") from error
    if document.get("version") != VERSION:
        version = document.get("version")
        raise OssConfigError(f"this is a snapshot of version {version!r}; this release reads version {VERSION}")
    bucket = document.get("bucket")
    if not isinstance(bucket, str):
        raise OssIntegrityError("the first line of the snapshot names no bucket; write it again")
    return bucket


def _check_end(line: bytes, found: dict[str, Any]) -> None:
    try:
        said = read_json(line)
    except ValueError:
        said = None
    if said != found:
        raise OssIntegrityError(
            f"the snapshot was edited or damaged: its last line is {line[:200]!r}, but the lines before it give "
            f"{found}; write it again with osst manifest --snapshot"
        )
