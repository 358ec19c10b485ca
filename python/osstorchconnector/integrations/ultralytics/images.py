"""The images of a dataset: those below a prefix, or those that a manifest names."""

import itertools
import posixpath
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from osstorchconnector.connection.client import OssClient, get_bounded
from osstorchconnector.connection.uri import split_object, split_prefix
from osstorchconnector.exceptions import OssConfigError, OssNotFoundError, OssPermissionError

#: How the names of images end, without the dot.
IMAGE_FORMATS: Final = frozenset(
    "avif bmp dng heic heif jp2 jpeg jpg mpo png tif tiff webp".split()  # noqa: SIM905 - a table
)

# A manifest of ten million images.
_LARGEST_MANIFEST: Final = 1 << 30
# More directories than this are listed by what their names begin with: each of them would cost a request.
_MOST_DIRECTORIES: Final = 100


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object, and what a listing says of it; without a listing, size and ETag are None."""

    bucket: str
    key: str
    size: int | None = None
    etag: str | None = None

    @property
    def path(self) -> str:
        """Its name as Ultralytics sees it: a path without a scheme."""
        return f"/{self.bucket}/{self.key}"

    @property
    def uri(self) -> str:
        """Its name in messages."""
        return f"oss:/{self.path}"


def find_images(client: OssClient, places: str | list[str]) -> list[StoredObject]:
    """Return the images of a split, sorted by their paths.

    Args:
        client: Lists and reads.
        places: One or several prefixes and manifests, like ``/bucket/base/images/train`` or ``oss://bucket/list.txt``.

    Raises:
        OssNotFoundError: There is no such manifest, no image below a prefix, or an image of a manifest does not exist.
        OssConfigError: A line of a manifest names no image.
        OssError: The images cannot be listed.
    """
    found: list[StoredObject] = []
    for place in [places] if isinstance(places, str) else places:
        found += _named(client, place) if place.lower().endswith(".txt") else _below(client, place)
    return sorted(found, key=lambda image: image.path)


def listed(client: OssClient, names: Iterable[tuple[str, str]]) -> dict[tuple[str, str], StoredObject] | None:
    """Return those objects that exist, by bucket and key; None if listing is not allowed.

    Args:
        client: Lists the directories of the objects.
        names: Buckets and keys.
    """
    wanted = set(names)
    directories = sorted({(bucket, key.rpartition("/")[0]) for bucket, key in wanted})
    by_bucket = itertools.groupby(directories, key=lambda directory: directory[0])
    found = {}
    try:
        for bucket, group in by_bucket:
            for prefix in _prefixes([directory for _, directory in group]):
                for stored in _objects(client, bucket, prefix):
                    if (bucket, stored.key) in wanted:
                        found[bucket, stored.key] = stored
    except OssPermissionError:
        return None
    return found


def _objects(client: OssClient, bucket: str, prefix: str) -> Iterator[StoredObject]:
    for objects, _ in client._native_client.list_pages(bucket, prefix, parallel=True):  # noqa: SLF001
        for key, size, etag, *_ in objects:
            yield StoredObject(bucket, key, size, etag)


def _prefixes(directories: list[str]) -> list[str]:
    """Return what to list for these directories: none lies below another one."""
    if len(directories) > _MOST_DIRECTORIES:
        shared = posixpath.commonprefix(directories)
        return [shared[: shared.rfind("/") + 1]]
    prefixes: list[str] = []
    for directory in sorted(f"{directory}/" if directory else "" for directory in directories):
        if not prefixes or not directory.startswith(prefixes[-1]):
            prefixes.append(directory)
    return prefixes


def _is_image(key: str) -> bool:
    return key.rpartition(".")[2].lower() in IMAGE_FORMATS


def _below(client: OssClient, place: str) -> list[StoredObject]:
    bucket, key = split_prefix(place)
    prefix = f"{key.rstrip('/')}/" if key else ""
    found, others = [], 0
    for stored in _objects(client, bucket, prefix):
        if _is_image(stored.key):
            found.append(stored)
        else:
            others += 1
    if not found:
        raise OssNotFoundError(
            f"no image is below oss://{bucket}/{prefix}: of the {others} objects there, none has a name that ends with "
            f".{', .'.join(sorted(IMAGE_FORMATS))}"
        )
    return found


def _named(client: OssClient, manifest: str) -> list[StoredObject]:
    bucket, key = split_object(manifest)
    uri = f"oss://{bucket}/{key}"
    try:
        content = get_bounded(client, uri, _LARGEST_MANIFEST)
    except OssNotFoundError as error:
        raise OssNotFoundError(f"the manifest {uri} does not exist: {error}") from error
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise OssConfigError(f"the manifest {uri} is not UTF-8: {error}") from error
    named = [
        (number, _resolved(uri, number, line.strip(), bucket, posixpath.dirname(key)))
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]
    if not named:
        raise OssNotFoundError(f"the manifest {uri} names no image")
    known = listed(client, (name for _, name in named))
    if known is None:
        return [StoredObject(*name) for _, name in named]
    for number, name in named:
        if name not in known:
            raise OssNotFoundError(f"{uri}:{number}: the image oss://{name[0]}/{name[1]} does not exist")
    return [known[name] for _, name in named]


def _resolved(uri: str, number: int, line: str, bucket: str, directory: str) -> tuple[str, str]:
    """Return bucket and key of the image that a line of a manifest names."""
    path = line if line.startswith(("/", "oss://")) else posixpath.normpath(f"/{bucket}/{directory}/{line}")
    try:
        name = split_object(path)
    except OssConfigError as error:
        raise OssConfigError(f"{uri}:{number}: {line!r} names no image: {error}") from error
    if not _is_image(name[1]):
        raise OssConfigError(
            f"{uri}:{number}: {line!r} does not end like an image, with .{', .'.join(sorted(IMAGE_FORMATS))}"
        )
    return name
