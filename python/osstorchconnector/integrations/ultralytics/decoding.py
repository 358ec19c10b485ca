"""Pixels from the bytes of an image, as Ultralytics reads them from a file."""

import contextlib
import tempfile
from collections.abc import Callable, Generator
from contextvars import ContextVar
from typing import Any, Final

import cv2
import numpy as np
import ultralytics.data.base
from ultralytics.utils.patches import imread

# OpenCV decodes these from memory. Ultralytics has its own way for each other format, which needs a file.
_IN_MEMORY: Final = (".bmp", ".jpeg", ".jpg", ".png", ".webp")

# Reads the image that Ultralytics asks for by its path, while a dataset of this package loads images.
_reader: Final[ContextVar[Callable[[str, int], Any] | None]] = ContextVar("reader", default=None)


@contextlib.contextmanager
def reading_by(reader: Callable[[str, int], Any]) -> Generator[None]:
    """Let Ultralytics read images by a function in the block, in this thread alone.

    Args:
        reader: Returns the pixels of the image with a path, decoded with flags of OpenCV.
    """
    token = _reader.set(reader)
    try:
        yield
    finally:
        _reader.reset(token)


def decode(name: str, content: bytes, flags: int = cv2.IMREAD_COLOR) -> Any:  # noqa: ANN401 - an array
    """Return the pixels of an image, or None if it cannot be decoded.

    Args:
        name: Its path or its URI, which ends with its format.
        content: Its bytes.
        flags: Those of OpenCV.
    """
    suffix = "." + name.rpartition(".")[2].lower()
    if suffix not in _IN_MEMORY:
        with tempfile.NamedTemporaryFile(prefix="osstorchconnector-", suffix=suffix) as file:
            file.write(content)
            file.flush()
            return imread(file.name, flags=flags)
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), flags) if content else None
    if pixels is None:
        return None
    if pixels.dtype == np.uint16 and (flags == cv2.IMREAD_UNCHANGED or not flags & cv2.IMREAD_ANYDEPTH):
        # The high bytes, as Ultralytics takes them from a file.
        pixels = (pixels >> 8).astype(np.uint8)
    return pixels[..., None] if pixels.ndim == 2 else pixels  # noqa: PLR2004 - a grey image without channels


def _imread(filename: Any, flags: int = cv2.IMREAD_COLOR) -> Any:  # noqa: ANN401 - as Ultralytics has it
    reader = _reader.get()
    return imread(filename, flags=flags) if reader is None else reader(str(filename), flags)


# Its datasets have no other place to read from, and load_image does much more. Other datasets read as before.
ultralytics.data.base.imread = _imread
