"""The images of the batch that a thread makes, fetched ahead."""

import contextlib
from collections.abc import Generator, Iterable, Sequence
from contextvars import ContextVar
from typing import Any, Final

import cv2

from osstorchconnector.connection.client import OssClient
from osstorchconnector.exceptions import OssFormatError
from osstorchconnector.integrations.ultralytics.decoding import decode
from osstorchconnector.integrations.ultralytics.fetching import ImageReader, ImagesAhead
from osstorchconnector.integrations.ultralytics.images import StoredObject

# Threads that fill a cache read images at the same time, and none of them may take what another one's batch brings.
_ahead: Final[ContextVar[ImagesAhead | None]] = ContextVar("ahead", default=None)


class BatchImages:
    """Reads images one at a time, or those of a batch ahead."""

    def __init__(self, client: OssClient, images: Iterable[StoredObject]) -> None:
        """Hold the names of the images. The network is not used."""
        self._reader = ImageReader(client, images)

    @contextlib.contextmanager
    def ahead(self, paths: Sequence[str]) -> Generator[None]:
        """Fetch images that the block will need in this order."""
        if not paths:
            yield
            return
        with contextlib.closing(self._reader.ahead(paths)) as ahead:
            token = _ahead.set(ahead)
            try:
                yield
            finally:
                _ahead.reset(token)

    def pixels(self, path: str, flags: int = cv2.IMREAD_COLOR) -> Any:  # noqa: ANN401 - an array
        """Return an image, decoded.

        Raises:
            OssFormatError: It cannot be decoded.
            OssError: It cannot be fetched.
        """
        ahead = _ahead.get()
        content = None if ahead is None else ahead.take(path)
        if content is None:
            content = self._reader.read(path)
        pixels = decode(path, content, flags)
        if pixels is None:
            raise OssFormatError(f"oss:/{path} is no image that can be decoded; its first bytes looked like one")
        return pixels
