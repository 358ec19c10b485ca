"""The list of files that makes a folder in OSS a checkpoint, and the folders below a prefix that have one.

:mod:`osstorchconnector.checkpoint.folders` writes it. Only this module is needed to look at such checkpoints, or to
delete them.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

from osstorchconnector._json import read_json
from osstorchconnector._native import crc64
from osstorchconnector.connection.client import get_bounded
from osstorchconnector.exceptions import OssError, OssIntegrityError, OssNotFoundError

if TYPE_CHECKING:
    from osstorchconnector.connection.client import OssClient

#: The object that a save writes last: the list of the checkpoint's files.
LIST: Final = ".oss-checkpoint.json"
_VERSION: Final = 1
# Far above the list of any checkpoint, so that another object with its name does not fill the memory.
_LARGEST_LIST: Final = 64 << 20
_READ: Final = 16 << 20


@dataclass(frozen=True)
class StoredFile:
    """One file of a checkpoint.

    Attributes:
        name: Its path in the folder, with ``/``.
        key: The part of its object's key below the checkpoint.
        size: Bytes.
        crc64: Their checksum.
    """

    name: str
    key: str
    size: int
    crc64: int


@dataclass(frozen=True)
class StoredFolder:
    """A folder with a list.

    Attributes:
        uri: The folder.
        files: The files of its list; None if the list cannot be read.
        problems: Why it is not whole, by the sizes in the listing.
        sizes: The size of each object below it, except the list, by the part of its key below the folder.
    """

    uri: str
    files: tuple[StoredFile, ...] | None
    problems: tuple[str, ...]
    sizes: dict[str, int]

    @property
    def leftovers(self) -> list[str]:
        """Objects that no list names, such as those of a save that was killed. Of a damaged list nothing is known."""
        return [] if self.files is None else sorted(self.sizes.keys() - {file.key for file in self.files})


def written_list(files: Iterable[StoredFile]) -> bytes:
    """Return the content of a list."""
    return json.dumps({"version": _VERSION, "files": [asdict(file) for file in files]}, indent=1).encode()


def read_list(client: "OssClient", uri: str) -> list[StoredFile] | None:
    """Return the files in the list of a checkpoint, or None if it has no list.

    Raises:
        OssIntegrityError: The list is damaged, or a newer release wrote it.
    """
    try:
        content = get_bounded(client, f"{uri}/{LIST}", _LARGEST_LIST)
    except OssNotFoundError:
        return None
    try:
        document = read_json(content)
        if document["version"] != _VERSION:
            raise OssIntegrityError(
                f"{uri}/{LIST} has version {document['version']!r}, but this release reads {_VERSION}: update "
                "osstorchconnector, or use another checkpoint"
            )
        files = [
            StoredFile(str(one["name"]), str(one["key"]), int(one["size"]), int(one["crc64"]))
            for one in document["files"]
        ]
    except (ValueError, LookupError, TypeError) as error:
        if isinstance(error, OssError):
            raise
        raise OssIntegrityError(f"{uri}/{LIST} is damaged: {error}; use another checkpoint") from error
    for file in files:
        if file.size < 0:
            raise OssIntegrityError(
                f"{uri}/{LIST} is damaged: {file.name!r} has {file.size} bytes; use another checkpoint"
            )
        # A name is joined to a local folder.
        if "\0" in file.name or any(
            part in {"", ".", ".."} for path in (file.name, file.key) for part in path.split("/")
        ):
            raise OssIntegrityError(f"{uri}/{LIST} names {file.name!r}, which may lie outside of the folder")
    return files


def stored_folders(client: "OssClient", prefix: str) -> list[StoredFolder]:
    """Return the folders with a list whose objects begin with a prefix, in the order of their keys.

    Raises:
        OssError: The prefix could not be listed, or a list could not be read.
    """
    sizes = {found.uri: found.size for found in client.list(prefix)}
    folders: dict[str, dict[str, int]] = {
        uri.removesuffix(f"/{LIST}"): {} for uri in sizes if uri.rpartition("/")[2] == LIST
    }
    for uri, size in sizes.items():
        directory = uri
        while directory := directory.rpartition("/")[0]:
            if directory in folders:
                folders[directory][uri.removeprefix(f"{directory}/")] = size
                break
    found = (_stored_folder(client, uri, below) for uri, below in folders.items())
    return [folder for folder in found if folder is not None]


def _stored_folder(client: "OssClient", uri: str, sizes: dict[str, int]) -> StoredFolder | None:
    del sizes[LIST]
    try:
        files = read_list(client, uri)
    except OssIntegrityError as error:
        return StoredFolder(uri, None, (str(error),), sizes)
    if files is None:
        # It was deleted meanwhile.
        return None
    problems = []
    for file in files:
        if file.key not in sizes:
            problems.append(f"{file.key} is missing")
        elif sizes[file.key] != file.size:
            problems.append(f"{file.key} has {sizes[file.key]} bytes, and {file.size} were saved")
    return StoredFolder(uri, tuple(files), tuple(problems), sizes)


def verify(client: "OssClient", folder: StoredFolder) -> int:
    """Read all files of a checkpoint and compare their checksums; return their number.

    Raises:
        OssIntegrityError: It is not whole, or a file has other bytes than were saved.
        OssError: A file could not be read.
    """
    if folder.problems or folder.files is None:
        raise OssIntegrityError("; ".join(folder.problems))
    for file in folder.files:
        checksum = 0
        buffer = memoryview(bytearray(min(_READ, file.size + 1)))
        with client.reader(f"{folder.uri}/{file.key}") as reader:
            while count := reader.readinto(buffer):
                checksum = crc64(buffer[:count], checksum)
        if checksum != file.crc64:
            raise OssIntegrityError(f"{file.key} has other bytes than were saved")
    return len(folder.files)
