"""The bytes of a dataset's images and labels, many at a time."""

import contextlib
from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import Final

from osstorchconnector._native import ObjectStream, ObjectTable
from osstorchconnector.connection.client import OssClient
from osstorchconnector.dataset.rows import quoted
from osstorchconnector.dataset.sources import ObjectsSource
from osstorchconnector.exceptions import OssNotFoundError
from osstorchconnector.integrations.ultralytics.images import StoredObject

# Headers are small, so only many requests at once fill a connection. The core lowers it if the service slows down.
_CONCURRENCY: Final = 64
_BUDGET: Final = 64 << 20


def contents(client: OssClient, objects: Sequence[StoredObject]) -> Generator[bytes | None]:
    """Yield the bytes of objects in their order, and fetch ahead. None: no listing names it, and it does not exist.

    Raises:
        OssError: An object cannot be fetched, or was deleted since it was listed.
    """
    stream = client._native_client.stream_at(_table(objects), range(len(objects)))  # noqa: SLF001 - its own part
    with contextlib.closing(stream):
        for stored in objects:
            try:
                yield next(stream).read()
            except OssNotFoundError:
                if stored.etag is not None:
                    raise
                yield None


def heads(client: OssClient, objects: Sequence[StoredObject], count: int) -> Iterator[tuple[int, bytes]]:
    """Yield the number and the first bytes of each object, in the order of their arrival.

    Raises:
        OssError: An object cannot be fetched.
    """
    lengths = [count if image.size is None else min(count, image.size) for image in objects]
    ranges = (
        [(index, image.bucket, image.key, image.size, 0, lengths[index], None, None)]
        for index, image in enumerate(objects)
    )
    with client._native_client.range_fetcher(  # noqa: SLF001 - as above
        ranges, allocate=bytearray, gap=0, run_limit=count, concurrency=_CONCURRENCY, budget=_BUDGET
    ) as fetcher:
        for fetched in fetcher:
            if fetched.error is not None:
                raise fetched.error
            if fetched.intact:
                # The memory may be larger than the object.
                start = fetched.offset
                yield fetched.tag, bytes(memoryview(fetched.memory)[start : start + lengths[fetched.tag]])
            else:
                # It is smaller, and its size was not known.
                image = objects[fetched.tag]
                yield fetched.tag, client.get(image.uri)


class ImageReader:
    """Reads the images of a dataset by their paths. It goes to workers as one table."""

    def __init__(self, client: OssClient, images: Iterable[StoredObject]) -> None:
        """Hold the names of the images. The network is not used."""
        images = list(images)
        self._client = client
        self._source = ObjectsSource(_table(images))
        self._rows = {image.path: row for row, image in enumerate(images)}

    def read(self, path: str) -> bytes:
        """Return an image.

        Raises:
            OssError: It cannot be fetched.
        """
        (item,) = self._client._native_client.fetch(self._source.table, [self._rows[path]])  # noqa: SLF001 - as above
        return item.read()

    def ahead(self, paths: Iterable[str]) -> "ImagesAhead":
        """Begin to fetch images that will be needed in this order."""
        wanted = list(dict.fromkeys(paths))
        rows = [self._rows[path] for path in wanted]
        return ImagesAhead(wanted, self._client._native_client.stream_at(self._source.table, rows))  # noqa: SLF001


class ImagesAhead:
    """Images that are on their way."""

    def __init__(self, paths: Sequence[str], stream: ObjectStream) -> None:
        """Take the paths in the order in which the stream brings the images."""
        self._coming = dict.fromkeys(paths)
        self._stream = stream
        self._arrived: dict[str, bytes] = {}

    def take(self, path: str) -> bytes | None:
        """Return an image once it has arrived; None if it is not among them, or was taken.

        Raises:
            OssError: It, or an image before it, cannot be fetched.
        """
        if path not in self._arrived and path not in self._coming:
            return None
        while path not in self._arrived:
            coming = next(iter(self._coming))
            del self._coming[coming]
            self._arrived[coming] = next(self._stream).read()
        return self._arrived.pop(path)

    def close(self) -> None:
        """Stop fetching."""
        self._stream.close()


def _table(objects: Iterable[StoredObject]) -> ObjectTable:
    return ObjectTable.from_objects(
        (stored.bucket, stored.key, stored.size, quoted(stored.etag or ""), "", None) for stored in objects
    )
