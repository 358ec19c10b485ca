"""Height and width of an image from its first bytes."""

import io
import struct
from collections.abc import Callable
from typing import Any, Final

#: Enough for the headers of images without a preview.
FIRST_BYTES: Final = 8 << 10
#: Enough for a preview too.
MORE_BYTES: Final = 256 << 10

_ORIENTATION: Final = 0x0112
_LYING: Final = frozenset({5, 6, 7, 8})
_EXIF_FLAG: Final = 0x08
_WEBP_HEADER: Final = 30


def image_shape(head: bytes) -> tuple[int, int] | None:
    """Return height and width of an image as it is shown, which its orientation may exchange.

    Args:
        head: The first bytes of the image, or all.

    Returns:
        None if these bytes do not say it: more are needed, or it is another format than JPEG, PNG, WebP and BMP.
    """
    for signature, shape in _FORMATS.items():
        if head.startswith(signature):
            try:
                return shape(head)
            except (SyntaxError, OSError, ValueError, LookupError, EOFError, struct.error, TypeError):
                # What Pillow raises for bytes that end in the middle of a header.
                return None
    return None


def _of_jpeg(head: bytes) -> tuple[int, int]:
    from PIL.JpegImagePlugin import JpegImageFile  # noqa: PLC0415 - Ultralytics brings it

    image = JpegImageFile(io.BytesIO(head))
    return _turned(image, image.getexif().get(_ORIENTATION))


def _of_png(head: bytes) -> tuple[int, int]:
    from PIL.PngImagePlugin import PngImageFile  # noqa: PLC0415 - as above

    image = PngImageFile(io.BytesIO(head))
    # Without it, getexif would decode the picture.
    return _turned(image, image.getexif().get(_ORIENTATION) if "exif" in image.info else None)


def _of_bmp(head: bytes) -> tuple[int, int]:
    from PIL.BmpImagePlugin import BmpImageFile  # noqa: PLC0415 - as above

    return _turned(BmpImageFile(io.BytesIO(head)), None)


def _of_webp(head: bytes) -> tuple[int, int] | None:
    # https://developers.google.com/speed/webp/docs/riff_container - Pillow needs the whole file.
    if len(head) < _WEBP_HEADER or head[8:12] != b"WEBP":
        return None
    match head[12:16]:
        case b"VP8X":
            if head[20] & _EXIF_FLAG:
                # The orientation is at the end of the file.
                return None
            width, height = (int.from_bytes(head[at : at + 3], "little") + 1 for at in (24, 27))
        case b"VP8L":
            bits = int.from_bytes(head[21:25], "little")
            width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8 ":
            width, height = (size & 0x3FFF for size in struct.unpack("<HH", head[26:30]))
        case _:
            return None
    return height, width


def _turned(image: Any, orientation: object) -> tuple[int, int]:  # noqa: ANN401 - an image of Pillow
    width, height = image.size
    return (width, height) if orientation in _LYING else (height, width)


_FORMATS: Final[dict[bytes, Callable[[bytes], tuple[int, int] | None]]] = {
    b"\xff\xd8": _of_jpeg,
    b"\x89PNG": _of_png,
    b"BM": _of_bmp,
    b"RIFF": _of_webp,
}
