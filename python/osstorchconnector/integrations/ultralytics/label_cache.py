"""What a scan of a dataset found, kept for the next training: shapes of images and their labels.

The file holds arrays and JSON, and reading it runs no code. It is used only if the listing of images and labels is the
same as when it was written.
"""

import hashlib
import io
import json
import os
import stat
import tempfile
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from osstorchconnector.connection.client import OssClient
from osstorchconnector.exceptions import OssConfigError, OssNotFoundError
from osstorchconnector.integrations.ultralytics.images import StoredObject
from osstorchconnector.integrations.ultralytics.labels import Label, LabelRules

# A new number makes all older files be written again.
_VERSION: Final = 1


@dataclass(frozen=True)
class Scanned:
    """An image that can be trained on.

    Attributes:
        path: Its path.
        shape: Height and width.
        label: What is on it.
    """

    path: str
    shape: tuple[int, int]
    label: Label


@dataclass(frozen=True)
class Scan:
    """What is known of the images of a split.

    Attributes:
        images: Those that can be trained on, in the order of their paths.
        corrupt: What is wrong with the others, one sentence for each.
        missing: How many of the first have no label.
        empty: How many have a label that names nothing.
    """

    images: list[Scanned]
    corrupt: list[str]
    missing: int
    empty: int


def listing_key(
    images: Iterable[StoredObject], labels: Iterable[StoredObject | None], rules: LabelRules | None
) -> str | None:
    """Return a hash over everything that a scan depends on; None if an ETag is not known."""
    found = hashlib.sha256(json.dumps([_VERSION, astuple(rules) if rules else None]).encode())
    for image, label in zip(images, labels, strict=True):
        if image.etag is None or (label is not None and label.etag is None):
            return None
        # Keys cannot contain a line break and a quotation mark in JSON.
        line = [image.path, image.size, image.etag, label.etag if label else None]
        found.update(json.dumps(line).encode() + b"\n")
    return found.hexdigest()


class LabelCache:
    """Keeps one scan of each split in a private directory, or below a prefix in OSS."""

    def __init__(self, place: str | os.PathLike[str] | None, client: OssClient, split: str) -> None:
        """Choose the place.

        Args:
            place: A directory, or a prefix like ``oss://bucket/cache``. None: ``osstorchconnector/ultralytics`` in the
                user's directory for caches.
            client: Reads and writes objects.
            split: What is scanned; each split has its own file.
        """
        name = f"{hashlib.sha256(split.encode()).hexdigest()[:32]}.npz"
        self._client = client
        self._uri = self._file = None
        if isinstance(place, str) and place.startswith("oss://"):
            self._uri = f"{place.rstrip('/')}/{name}"
        else:
            self._file = (_default_directory() if place is None else Path(place)) / name

    @property
    def name(self) -> str:
        """The name of the file or of the object."""
        return self._uri or str(self._file)

    def load(self, key: str) -> Scan | None:
        """Return the scan if it is of this listing; None if there is none, or if it cannot be read."""
        try:
            content = self._client.get(self._uri) if self._uri else _read_private(Path(self.name))
        except (FileNotFoundError, OssNotFoundError):
            return None
        return _unpacked(content, key)

    def save(self, key: str, scan: Scan) -> None:
        """Write the scan of a listing in place of the one before.

        Raises:
            OssConfigError: The directory cannot be written to, or belongs to somebody else.
            OssError: The object cannot be written.
        """
        content = _packed(key, scan)
        if self._uri:
            self._client.put(self._uri, content, content_type="application/octet-stream")
        else:
            _write_private(Path(self.name), content)


def _default_directory() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "osstorchconnector" / "ultralytics"


def _read_private(file: Path) -> bytes:
    descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as opened:
        if os.fstat(descriptor).st_uid != os.getuid():
            raise OssConfigError(f"the label cache {file} belongs to another user: remove it, or give label_cache")
        return opened.read()


def _write_private(file: Path, content: bytes) -> None:
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = file.parent.stat()
        if status.st_uid != os.getuid() or stat.S_IMODE(status.st_mode) & 0o022:
            raise OssConfigError(
                f"the directory {file.parent} of the label cache must belong to this user, and nobody else may write "
                "to it: give label_cache another directory"
            )
        descriptor, temporary = tempfile.mkstemp(dir=file.parent, suffix=".part")
        try:
            with os.fdopen(descriptor, "wb") as opened:
                opened.write(content)
            Path(temporary).replace(file)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OssConfigError(
            f"the label cache {file} cannot be written ({error.strerror}): give label_cache another directory, an "
            "oss:// prefix, or False for none"
        ) from error


def _packed(key: str, scan: Scan) -> bytes:
    """Return arrays: rows, polygons and key points of all images, one after the other, with the number of each."""
    labels = [image.label for image in scan.images]
    segments = [segment for label in labels for segment in label.segments]
    head = {
        "key": key,
        "paths": [image.path for image in scan.images],
        "corrupt": scan.corrupt,
        "missing": scan.missing,
        "empty": scan.empty,
        "keypoints": bool(labels) and labels[0].keypoints is not None,
    }
    arrays = {
        "head": np.frombuffer(json.dumps(head).encode(), np.uint8),
        "shapes": np.array([image.shape for image in scan.images], np.int64).reshape(-1, 2),
        "row_counts": _counts(label.rows for label in labels),
        "rows": _joined([label.rows for label in labels], 5),
        "segment_counts": _counts(label.segments for label in labels),
        "point_counts": _counts(segments),
        "points": _joined(segments, 2),
    }
    if head["keypoints"]:
        arrays["keypoints"] = np.concatenate([label.keypoints for label in labels])
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def _counts(parts: Iterable[Sequence[Any]]) -> Any:  # noqa: ANN401 - an array
    return np.array([len(part) for part in parts], np.int64)


def _joined(parts: list[Any], width: int) -> Any:  # noqa: ANN401 - an array
    return np.concatenate(parts) if parts else np.zeros((0, width), np.float32)


def _unpacked(content: bytes, key: str) -> Scan | None:
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            head = json.loads(arrays["head"].tobytes())
            if head["key"] != key:
                return None
            rows = _split(arrays["rows"], arrays["row_counts"])
            polygons = iter(_split(arrays["points"], arrays["point_counts"]))
            keypoints = _split(arrays["keypoints"], arrays["row_counts"]) if head["keypoints"] else [None] * len(rows)
            images = [
                Scanned(
                    path, (int(shape[0]), int(shape[1])), Label(own, [next(polygons) for _ in range(count)], points)
                )
                for path, shape, own, count, points in zip(
                    head["paths"], arrays["shapes"], rows, arrays["segment_counts"].tolist(), keypoints, strict=True
                )
            ]
            return Scan(images, head["corrupt"], head["missing"], head["empty"])
    except (ValueError, KeyError, TypeError, EOFError, StopIteration, RuntimeError, zipfile.BadZipFile):
        # A file that is damaged or of another kind: the scan replaces it.
        return None


def _split(joined: Any, counts: Any) -> list[Any]:  # noqa: ANN401 - arrays
    # Copies, since Ultralytics changes the arrays of an image in place.
    return [part.copy() for part in np.split(joined, np.cumsum(counts)[:-1])] if len(counts) else []
