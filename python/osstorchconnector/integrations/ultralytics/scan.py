"""The scan before a training: shapes of all images from their first bytes, and all labels, checked."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from osstorchconnector.connection.client import OssClient
from osstorchconnector.exceptions import OssFormatError
from osstorchconnector.integrations.ultralytics.fetching import contents, heads
from osstorchconnector.integrations.ultralytics.images import StoredObject, listed
from osstorchconnector.integrations.ultralytics.label_cache import LabelCache, Scan, Scanned, listing_key
from osstorchconnector.integrations.ultralytics.labels import Label, LabelRules, label_of, no_label, parse_label
from osstorchconnector.integrations.ultralytics.shapes import FIRST_BYTES, MORE_BYTES, image_shape

# Ultralytics takes no smaller image.
_SMALLEST: Final = 10

#: Makes an array of pixels, the height first, of the name and the bytes of an image; None if it cannot.
Decoder = Callable[[str, bytes], Any]


def scan_images(
    client: OssClient,
    images: Sequence[StoredObject],
    rules: LabelRules | None,
    cache: LabelCache | None,
    decode: Decoder,
) -> tuple[Scan, bool]:
    """Read the shapes and the labels of images, or return what an earlier scan of the same listing found.

    Args:
        client: Reads them.
        images: The images.
        rules: What labels may say; None: the images have no labels.
        cache: Keeps what is found.
        decode: Decodes images whose first bytes do not say their shape.

    Returns:
        The scan, and whether it comes from the cache.

    Raises:
        OssError: An image or a label cannot be fetched. A label that does not exist is none.
    """
    labels = _stored_labels(client, images) if rules else [None] * len(images)
    key = listing_key(images, labels, rules)
    if cache and key and (known := cache.load(key)):
        return known, True
    shapes = _shapes(client, images, decode)
    parsed = _labels(client, labels, rules) if rules else [None] * len(images)
    scan = _combined(images, shapes, parsed, rules or LabelRules(0))
    if cache and key:
        cache.save(key, scan)
    return scan, False


def _stored_labels(client: OssClient, images: Sequence[StoredObject]) -> list[StoredObject | None]:
    """Return the label of each image: None if it does not exist."""
    names = [label_of(image) for image in images]
    known = listed(client, names)
    if known is None:
        # Programs that may not list must find out by asking.
        return [StoredObject(*name) for name in names]
    return [known.get(name) for name in names]


def _shapes(client: OssClient, images: Sequence[StoredObject], decode: Decoder) -> list[tuple[int, int] | str]:
    """Return the shape of each image, or what is wrong with it."""
    found: dict[int, tuple[int, int]] = {}
    for count in (FIRST_BYTES, MORE_BYTES):
        left = [index for index in range(len(images)) if index not in found]
        for place, head in heads(client, [images[index] for index in left], count):
            shape = image_shape(head)
            if shape is not None:
                found[left[place]] = shape
    results: list[tuple[int, int] | str] = [found.get(index, "") for index in range(len(images))]
    left = [index for index, shape in enumerate(results) if not shape]
    for index, content in zip(left, contents(client, [images[index] for index in left]), strict=True):
        pixels = None if content is None else decode(images[index].uri, content)
        results[index] = f"{images[index].uri} is no image that can be read" if pixels is None else pixels.shape[:2]
    return [_large_enough(image, shape) for image, shape in zip(images, results, strict=True)]


def _large_enough(image: StoredObject, shape: tuple[int, int] | str) -> tuple[int, int] | str:
    if isinstance(shape, str) or min(shape) >= _SMALLEST:
        return shape
    return f"{image.uri} has {shape[1]} x {shape[0]} pixels: an image needs {_SMALLEST} in each direction"


def _labels(client: OssClient, labels: Sequence[StoredObject | None], rules: LabelRules) -> list[Label | str | None]:
    """Return the label of each image, or what is wrong with it. None: it has no label."""
    fetched = contents(client, [label for label in labels if label is not None])
    results: list[Label | str | None] = []
    for label in labels:
        content = None if label is None else next(fetched)
        if label is None or content is None:
            results.append(None)
            continue
        try:
            results.append(parse_label(content, label.uri, rules))
        except OssFormatError as error:
            results.append(str(error))
    return results


def _combined(
    images: Sequence[StoredObject],
    shapes: Sequence[tuple[int, int] | str],
    labels: Sequence[Label | str | None],
    rules: LabelRules,
) -> Scan:
    good, corrupt, missing, empty = [], [], 0, 0
    for image, shape, label in zip(images, shapes, labels, strict=True):
        if isinstance(shape, str):
            corrupt.append(shape)
        elif isinstance(label, str):
            corrupt.append(label)
        else:
            good.append(Scanned(image.path, shape, label or no_label(rules)))
            missing += label is None
            empty += label is not None and not len(label.rows)
    return Scan(good, corrupt, missing, empty)
