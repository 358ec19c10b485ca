"""What is written about a local copy of a model, beside its directory."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from osstorchconnector.files.writing import writing
from osstorchconnector.model_files.download import crc64_of

_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class KeptFile:
    """A whole file of a copy.

    Attributes:
        uri: Its object.
        size: Its bytes.
        etag: The ETag of the version that it is.
        crc64: Its CRC-64.
        stamp: Its inode and its time of change, in nanoseconds, when its checksum was compared last.
    """

    uri: str
    size: int
    etag: str
    crc64: int
    stamp: tuple[int, int]

    @classmethod
    def of(cls, path: Path, uri: str, etag: str, crc64: int) -> Self:
        """Describe a file that is whole."""
        return cls(uri, path.stat().st_size, etag, crc64, stamp_of(path))

    def is_whole(self, path: Path, *, compare: bool) -> bool:
        """Return whether a file is still the one that was described.

        Args:
            path: The file.
            compare: Read it and compare its checksum. Else that is done only if it was changed since.
        """
        try:
            if not path.is_file() or path.stat().st_size != self.size:
                return False
            return (not compare and stamp_of(path) == self.stamp) or crc64_of(path) == self.crc64
        except OSError:
            return False


@dataclass(frozen=True)
class Record:
    """What is written about a copy.

    Attributes:
        uri: The model.
        total: Bytes of all its files.
        complete: Whether all files are whole.
        files: The files that are whole, by their path.
    """

    uri: str
    total: int
    complete: bool = False
    files: Mapping[str, KeptFile] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """Return the record in a file; None if there is none that can be read."""
        try:
            document: Any = json.loads(path.read_bytes())
            if document["version"] != _VERSION:
                return None
            files = {
                name: KeptFile(uri, size, etag, crc64, (inode, moment))
                for name, (uri, size, etag, crc64, inode, moment) in document["files"].items()
            }
            return cls(document["uri"], int(document["total"]), document["complete"] is True, files)
        except (OSError, ValueError, TypeError, LookupError, AttributeError):
            return None

    def write(self, path: Path) -> None:
        """Write the record, whole or not at all."""
        files = {name: [kept.uri, kept.size, kept.etag, kept.crc64, *kept.stamp] for name, kept in self.files.items()}
        document = {
            "version": _VERSION,
            "uri": self.uri,
            "total": self.total,
            "complete": self.complete,
            "files": files,
        }
        with writing(str(path), None) as file:
            file.write(json.dumps(document).encode())


def stamp_of(path: Path) -> tuple[int, int]:
    """Return what changes if a file is replaced or written to."""
    status = os.stat(path)  # noqa: PTH116 - as fast as it can be, for thousands of files
    return status.st_ino, status.st_mtime_ns
