"""Annotation files, which libraries read as local files: where their copies are, and how they get there."""

import fcntl
import hashlib
import json
import os
import stat
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from osstorchconnector.connection.uri import split_object, without_query
from osstorchconnector.exceptions import OssConfigError, OssError
from osstorchconnector.files.writing import writing

if TYPE_CHECKING:
    from osstorchconnector._native import OssReader
    from osstorchconnector.connection.client import OssClient

_BUFFER: Final = 8 << 20
# Characters of the key that the name of a copy repeats: file systems allow 255 bytes, and a character has up to four.
_READABLE: Final = 48
_DIGITS: Final = 16


def get_oss_ann_path(data_root: str, ann_file: str, ann_cache_dir: str = "/tmp") -> tuple[str, str, str]:  # noqa: S108 - the original's default; what is made there is private
    """Return where an annotation file is, and the path of its local copy, which need not exist yet.

    :class:`OSSDetDataset` makes the copy. Give the path to an evaluator, such as ``CocoMetric(ann_file=...)``.

    Args:
        data_root: The directory of the dataset, ``oss://bucket/coco``.
        ann_file: The annotation file below it.
        ann_cache_dir: The directory for copies. They are in a directory of it that only this user can read.

    Returns:
        Bucket, key, and local path.

    Raises:
        OssConfigError: `data_root` is no ``oss://`` URI.
    """
    if not data_root.startswith("oss://"):
        raise OssConfigError(f"data_root is {without_query(data_root)!r}: it must begin with 'oss://'")
    bucket, key = split_object(f"{data_root.rstrip('/')}/{ann_file.lstrip('/')}")
    # The readable part alone would be one name for a/b and a_b.
    digest = hashlib.sha256(f"{bucket}/{key}".encode()).hexdigest()[:_DIGITS]
    readable = f"{bucket}_{key}".replace("/", "_")[-_READABLE:]
    name = f"oss_ann_{digest}_{readable}"
    return bucket, key, str(Path(ann_cache_dir, f"osstorchconnector-{os.getuid()}", name))


def copy_annotations(client: "OssClient", bucket: str, key: str, local_path: str) -> None:
    """Make the local copy of an annotation file, if it is not that of the object as it is now.

    Processes of a machine that do this at the same time download once. The copy appears whole or not at all.

    Args:
        client: Reads the object.
        bucket: Its bucket.
        key: Its key.
        local_path: What :func:`get_oss_ann_path` returned.

    Raises:
        OssNotFoundError: The object does not exist.
        OssConfigError: The directory cannot be written to, or another user made it.
    """
    path = Path(local_path)
    _make_private(path.parent)
    with client.reader(f"oss://{bucket}/{key}") as reader, _alone(path):
        version = {"etag": reader.etag, "size": reader.size}
        if not _is_copy_of(path, version):
            _download(reader, path, version)


def _download(reader: "OssReader", path: Path, version: dict[str, object]) -> None:
    note = _note_of(path)
    try:
        # Without its note a copy counts as none, whenever this process is killed.
        note.unlink(missing_ok=True)
        buffer = memoryview(bytearray(min(_BUFFER, reader.size + 1)))
        with writing(str(path), None, durable=False) as file:
            while count := reader.readinto(buffer):
                file.write(buffer[:count])
        with writing(str(note), None, durable=False) as file:
            file.write(json.dumps(version).encode())
    except OssError:
        raise
    except OSError as error:
        raise OssConfigError(
            f"the copy {path} of {reader.uri} cannot be written ({error.strerror}): give ann_cache_dir a directory "
            "with free space that this user can write to"
        ) from error


def _is_copy_of(path: Path, version: dict[str, object]) -> bool:
    try:
        noted = json.loads(_note_of(path).read_bytes())
        return bool(noted == version and path.stat().st_size == version["size"])
    except (FileNotFoundError, ValueError):
        return False


def _note_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.version")


@contextmanager
def _alone(path: Path) -> Generator[None]:
    """Let one process at a time make a copy."""
    with path.with_name(f"{path.name}.lock").open("w") as lock:
        # Some file systems have no locks: then each process downloads, and the last one's copy stays.
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            # A process that is forked meanwhile has the file too, so closing it would not release the lock.
            with suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_UN)


def _make_private(directory: Path) -> None:
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            directory.mkdir(mode=0o700)
    except OSError as error:
        raise OssConfigError(
            f"the directory {directory} cannot be made ({error.strerror}): give ann_cache_dir a directory that this "
            "user can write to"
        ) from error
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise OssConfigError(f"{directory} is not a private directory of this user: remove it, or give ann_cache_dir")
