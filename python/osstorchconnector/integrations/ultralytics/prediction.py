"""Images in OSS as a source of predictions."""

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any, Self

import cv2
from ultralytics.data.loaders import LoadImagesAndVideos, SourceTypes
from ultralytics.utils import LOGGER

from osstorchconnector.connection.client import OssClient
from osstorchconnector.connection.config import OssConfig
from osstorchconnector.credentials.shield import guards_methods
from osstorchconnector.exceptions import OssConfigError
from osstorchconnector.integrations.ultralytics.decoding import decode
from osstorchconnector.integrations.ultralytics.fetching import ImageReader
from osstorchconnector.integrations.ultralytics.images import find_images

_FLAGS = {1: cv2.IMREAD_GRAYSCALE, 3: cv2.IMREAD_COLOR}

#: Paths, pixels and texts for the log.
Batch = tuple[list[str], list[Any], list[str]]


@guards_methods
class OssImages(LoadImagesAndVideos):  # type: ignore[misc]
    """The images below a prefix, or those that a manifest names, for ``YOLO(...).predict(source=...)``.

    The next images are fetched while the model works on a batch.
    """

    def __init__(
        self,
        source: str | list[str],
        endpoint: str,
        cred_path: str = "",
        config_path: str = "",
        cred_provider: object = None,
        region: str = "",
        *,
        config: OssConfig | None = None,
        batch: int = 1,
        channels: int = 3,
    ) -> None:
        """List the images.

        Args:
            source: One or several prefixes like ``oss://bucket/images``, and manifests like ``oss://bucket/list.txt``.
            endpoint: As for :class:`OssClient`, and so are the next arguments.
            cred_path: See there.
            config_path: See there.
            cred_provider: See there.
            region: See there.
            config: See there.
            batch: How many images the model gets at once. The argument of ``predict`` does not count.
            channels: The channels of the model: 1 for grey images.

        Raises:
            OssNotFoundError: There is no image.
            OssError: OSS cannot be read.
        """
        if batch < 1:
            raise OssConfigError(f"batch must be a number of images from 1, not {batch}")
        client = OssClient(endpoint, cred_path, config_path, cred_provider=cred_provider, region=region, config=config)
        found = find_images(client, source)
        self._images = ImageReader(client, found)
        self.files: Sequence[str] = list(dict.fromkeys(image.path for image in found))
        self.nf = self.ni = len(self.files)
        self.bs = batch
        self.cv2_flag = _FLAGS.get(channels, cv2.IMREAD_UNCHANGED)
        # What Ultralytics asks of a source.
        self.mode = "image"
        self.video_flag = [False] * self.nf
        self.source_type = SourceTypes()
        self.cap = None
        self.count = 0
        self._batches: Iterator[Batch] = iter(())

    def __iter__(self) -> Self:
        """Begin with the first image."""
        self._batches = self._read()
        return self

    def __next__(self) -> Batch:
        """Return the next batch.

        Raises:
            OssError: An image cannot be fetched.
        """
        return next(self._batches)

    def __len__(self) -> int:
        """Return the number of batches."""
        return math.ceil(self.nf / self.bs)

    def _read(self) -> Iterator[Batch]:
        batch: Batch = ([], [], [])
        self.count = 0
        with contextlib.closing(self._images.ahead(self.files)) as ahead:
            for path in self.files:
                content = ahead.take(path)
                pixels = None if content is None else decode(path, content, self.cv2_flag)
                self.count += 1
                if pixels is None:
                    LOGGER.warning(f"oss:/{path} is no image that can be decoded: it is left out")
                else:
                    for values, value in zip(
                        batch, (f"oss:/{path}", pixels, f"image {self.count}/{self.nf} oss:/{path}: "), strict=True
                    ):
                        values.append(value)
                if len(batch[0]) == self.bs:
                    yield batch
                    batch = ([], [], [])
        if batch[0]:
            yield batch
