"""Labels in the YOLO format: a text file for each image, with a line for each thing on it."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from osstorchconnector.exceptions import OssFormatError
from osstorchconnector.integrations.ultralytics.images import StoredObject

#: A class, and the centre, the width and the height of a box.
BOX_FIELDS: Final = 5
# The number, and a box by two numbers more than a box has.
_POLYGON_FIELDS: Final = 7
_FIRST_SIZE: Final = 3
_PLANE: Final = 2

# Annotators round, so Ultralytics lets coordinates leave the image by this much.
_TOLERANCE: Final = 0.01


@dataclass(frozen=True)
class LabelRules:
    """What a label may say.

    Attributes:
        classes: How many classes there are.
        keypoints: Whether the task is about key points.
        kpt_shape: How many key points a thing has, and whether they have a visibility: (17, 3). (0, 0): none.
        single_cls: All classes count as the first one.
    """

    classes: int
    keypoints: bool = False
    kpt_shape: tuple[int, int] = (0, 0)
    single_cls: bool = False


@dataclass(frozen=True)
class Label:
    """What is on an image; all numbers are parts of its width and its height.

    Attributes:
        rows: A class and a box for each thing, as float32.
        segments: A polygon for each thing, or none at all.
        keypoints: Key points with a visibility for each thing, if the task is about them.
    """

    rows: Any
    segments: list[Any]
    keypoints: Any = None


def label_key(key: str) -> str:
    """Return the key of an image's label: the last ``images/`` becomes ``labels/``, and the ending ``.txt``."""
    before, found, after = f"/{key}".rpartition("/images/")
    path = f"{before}/labels/{after}" if found else f"/{key}"
    return f"{path[1:].rpartition('.')[0]}.txt"


def label_of(image: StoredObject) -> tuple[str, str]:
    """Return bucket and key of an image's label."""
    return image.bucket, label_key(image.key)


def no_label(rules: LabelRules) -> Label:
    """Return the label of an image that shows nothing."""
    points = np.zeros((0, rules.kpt_shape[0], 3), np.float32) if rules.keypoints else None
    return Label(np.zeros((0, BOX_FIELDS), np.float32), [], points)


def parse_label(content: bytes, uri: str, rules: LabelRules) -> Label:
    """Read a label and check it, as Ultralytics checks local ones.

    Args:
        content: The file.
        uri: Its name, for messages.
        rules: What it may say.

    Raises:
        OssFormatError: A line is wrong; the message begins with the name of the file and the number of the line.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise OssFormatError(f"{uri} is no label: it is not UTF-8 text ({error})") from error
    lines = [(number, line.split()) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    if not lines:
        return no_label(rules)
    points, dimensions = rules.kpt_shape
    width = BOX_FIELDS + points * dimensions
    if points and not rules.keypoints:
        # A task without key points takes the box of their labels.
        lines = [(number, fields[:BOX_FIELDS] if len(fields) == width else fields) for number, fields in lines]
    if not rules.keypoints and any(len(fields) >= _POLYGON_FIELDS for _, fields in lines):
        rows, segments = _polygons(uri, lines)
    else:
        rows, segments = _boxes(uri, lines, width if rules.keypoints else BOX_FIELDS), []
    _check(uri, lines, rows, rules)
    kept = _first_of_each(rows, segments)
    rows, segments = rows[kept], [segments[index] for index in kept] if segments else []
    keypoints = None
    if rules.keypoints:
        keypoints = rows[:, BOX_FIELDS:].reshape(-1, points, dimensions)
        if dimensions == _PLANE:
            visible = (keypoints >= 0).all(axis=-1, keepdims=True).astype(np.float32)
            keypoints = np.concatenate([keypoints, visible], axis=-1)
    return Label(rows[:, :BOX_FIELDS], segments, keypoints)


def _numbers(uri: str, number: int, fields: list[str]) -> Any:  # noqa: ANN401 - an array
    try:
        return np.array(fields, dtype=np.float32)
    except ValueError:
        raise OssFormatError(f"{uri}:{number}: not all fields are numbers: {' '.join(fields)!r}") from None


def _boxes(uri: str, lines: list[tuple[int, list[str]]], width: int) -> Any:  # noqa: ANN401 - an array
    for number, fields in lines:
        if len(fields) != width:
            raise OssFormatError(f"{uri}:{number}: {width} fields are needed, not {len(fields)}: {' '.join(fields)!r}")
    return np.stack([_numbers(uri, number, fields) for number, fields in lines])


def _polygons(uri: str, lines: list[tuple[int, list[str]]]) -> tuple[Any, list[Any]]:
    rows, segments = [], []
    for number, fields in lines:
        if len(fields) == BOX_FIELDS or len(fields) < _FIRST_SIZE or len(fields) % 2 == 0:
            raise OssFormatError(
                f"{uri}:{number}: a class and the points of a polygon are needed, since other lines have polygons, not "
                f"{len(fields)} fields: {' '.join(fields)!r}"
            )
        values = _numbers(uri, number, fields)
        polygon = values[1:].reshape(-1, 2)
        low, high = polygon.min(axis=0), polygon.max(axis=0)
        rows.append([values[0], *((low + high) / 2), *(high - low)])
        segments.append(polygon)
    return np.array(rows, dtype=np.float32), segments


def _check(uri: str, lines: list[tuple[int, list[str]]], rows: Any, rules: LabelRules) -> None:  # noqa: ANN401
    """Raise for the first line that is wrong."""
    points, dimensions = rules.kpt_shape
    places = rows[:, 1:BOX_FIELDS]
    if rules.keypoints:
        places = rows[:, BOX_FIELDS:].reshape(len(rows), points, dimensions)[..., :_PLANE].reshape(len(rows), -1)
    classes = rows[:, 0]
    for wrong, reason in (
        (~(places <= 1 + _TOLERANCE).all(axis=1), "coordinates must be parts of the image, from 0 to 1"),
        (~(rows >= -_TOLERANCE).all(axis=1), "no number may be negative"),
        (~(rows[:, 3:BOX_FIELDS] >= 0).all(axis=1), "no width and no height may be negative"),
        (classes % 1 != 0, "the class must be a whole number"),
        (
            (classes >= rules.classes) & (not rules.single_cls),
            f"the dataset has the classes 0 to {rules.classes - 1}",
        ),
    ):
        if wrong.any():
            number, fields = lines[int(wrong.argmax())]
            raise OssFormatError(f"{uri}:{number}: {reason}: {' '.join(fields)!r}")


def _first_of_each(rows: Any, segments: list[Any]) -> list[int]:  # noqa: ANN401 - an array
    """Return which lines to keep: all, or without repetitions in the order in which Ultralytics has them then."""
    _, unique = np.unique(rows, axis=0, return_index=True)
    kept = [int(index) for index in unique]
    if len(kept) < len(rows) and segments:
        # Different polygons may have one box.
        first: dict[bytes, int] = {}
        for index, segment in enumerate(segments):
            first.setdefault(rows[index, 0].tobytes() + segment.tobytes(), index)
        kept = [index for _, index in sorted(first.items())]
    return kept if len(kept) < len(rows) else list(range(len(rows)))
