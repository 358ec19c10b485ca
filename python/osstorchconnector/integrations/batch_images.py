"""The images of a batch, which are fetched ahead while the first ones are decoded."""

from collections import Counter
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from osstorchconnector._native import DataObject
    from osstorchconnector.connection.client import OssClient


class Images:
    """Reads the images of a dataset."""

    def __init__(self, client: "OssClient") -> None:
        """Take the client."""
        self.client = client

    def read(self, uri: str) -> bytes:
        """Return the bytes of an image, which may have been fetched ahead.

        Raises:
            OssNotFoundError: There is no such object.
        """
        batch = _batch.get()
        item = None if batch is None or batch.images is not self else batch.take(uri)
        return self.client.get(uri) if item is None else item.read()

    @contextmanager
    def ahead(self, uris: Iterable[str]) -> Generator[None]:
        """Fetch images ahead, in this order, for what this thread reads in the block."""
        batch = _Batch(self, uris)
        token = _batch.set(batch)
        try:
            yield
        finally:
            _batch.reset(token)
            batch.close()

    def __deepcopy__(self, memo: dict[int, Any]) -> "Images":
        """Return this object: it does not change, and pipelines copy the samples that name it."""
        return self


class _Batch:
    """The images of one batch. Each is held as often as the batch has it."""

    def __init__(self, images: Images, uris: Iterable[str]) -> None:
        self.images = images
        self._wanted = Counter(uris)
        # The iterator has the order of the names.
        self._coming = iter(list(self._wanted))
        self._stream = images.client.list_objects_from_uris(list(self._wanted), prefetch=True, include_errors=True)
        self._arrived: dict[str, DataObject] = {}

    def take(self, uri: str) -> "DataObject | None":
        """Return an image, or None if the batch does not have it, or not as often. Reading it raises what failed."""
        if self._wanted[uri] == 0:
            return None
        while uri not in self._arrived:
            self._arrived[next(self._coming)] = next(self._stream)
        self._wanted[uri] -= 1
        return self._arrived[uri].copy() if self._wanted[uri] else self._arrived.pop(uri)

    def close(self) -> None:
        """Stop fetching."""
        self._stream.close()  # type: ignore[attr-defined] # the iterator of the package has it


_batch: Final[ContextVar[_Batch | None]] = ContextVar("osstorchconnector_batch_images", default=None)
