"""What the integration of Ultralytics reads before a training. Ultralytics is not needed here."""

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from osstorchconnector import OssClient, OssConfigError, OssError, OssFormatError, OssNotFoundError
from osstorchconnector.integrations.ultralytics import label_cache
from osstorchconnector.integrations.ultralytics.class_folders import find_samples, read_class_folders
from osstorchconnector.integrations.ultralytics.data_yaml import read_data_yaml
from osstorchconnector.integrations.ultralytics.fetching import heads
from osstorchconnector.integrations.ultralytics.images import StoredObject, find_images
from osstorchconnector.integrations.ultralytics.label_cache import LabelCache
from osstorchconnector.integrations.ultralytics.labels import LabelRules, label_key, parse_label
from osstorchconnector.integrations.ultralytics.scan import scan_images
from osstorchconnector.integrations.ultralytics.shapes import MORE_BYTES, image_shape
from osstorchconnector.testing import Emulator
from tests.integrations.pictures import box_dataset, picture, upload

RULES = LabelRules(3)


def undecodable(_name: str, _content: bytes) -> None:
    return None


# The description.


def description(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "data.yaml"
    file.write_text(text)
    return file


def test_a_description_becomes_paths_and_names(client: OssClient, tmp_path: Path) -> None:
    file = description(
        tmp_path,
        "path: oss://bucket/base/\ntrain: images/train\nval: [images/val, ./list.txt, oss://other/x]\n"
        "names: [cat, dog]\nkpt_shape: [17, 3]\n",
    )
    assert read_data_yaml(file, client) == {
        "path": "oss://bucket/base/",
        "train": "/bucket/base/images/train",
        "val": ["/bucket/base/images/val", "/bucket/base/list.txt", "/other/x"],
        "names": {0: "cat", 1: "dog"},
        "nc": 2,
        "channels": 3,
        "kpt_shape": [17, 3],
        "yaml_file": str(file),
    }


def test_a_description_may_be_an_object(client: OssClient, bucket: str) -> None:
    uri = f"oss://{bucket}/data.yaml"
    client.put(uri, f"path: oss://{bucket}\ntrain: a\nvalidation: b\nnc: 2\n".encode())
    data = read_data_yaml(uri, client)
    assert (data["train"], data["val"]) == (f"/{bucket}/a", f"/{bucket}/b")
    assert data["names"] == {0: "class_0", 1: "class_1"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("path: /local/coco\ntrain: a\nval: b\nnc: 2", r"path must be the place .* not '/local/coco'"),
        ("train: a\nval: b\nnc: 2", "path must be the place .* not None"),
        ("path: oss://bucket/x\nval: b\nnc: 2", "'train' is missing"),
        ("path: oss://bucket/x\ntrain: a\nnc: 2", "'val' is missing"),
        ("path: oss://bucket/x\ntrain: 3\nval: b\nnc: 2", "train must be a prefix or a manifest .* not 3"),
        ("path: oss://bucket/x\ntrain: ../../y\nval: b\nnc: 2", "leaves the bucket"),
        ("path: oss://bucket/x\ntrain: a\nval: b", "one of the keys 'names' and 'nc'"),
        ("path: oss://bucket/x\ntrain: a\nval: b\nnc: two", "nc must be the number of classes, not 'two'"),
        ("path: oss://bucket/x\ntrain: a\nval: b\nnc: 3\nnames: [a]", "nc is 3, but there are 1 names"),
        ("path: oss://bucket/x\ntrain: a\nval: b\nnames: {1: a, 2: b}", r"must be 0 to 1, not \[1, 2\]"),
        ("path: oss://bucket/x\ntrain: a\nval: b\nnames: {a: b}", "must be numbers from 0"),
        ("path: oss://bucket/x\ntrain: a\nval: b\nnames: cat", "names must be a list"),
        ("- path", "it is no mapping"),
        ("path: [", "data.yaml is not YAML"),
    ],
)
def test_a_wrong_description_is_refused(client: OssClient, tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(OssConfigError, match=reason):
        read_data_yaml(description(tmp_path, text), client)


def test_a_missing_description_is_named(client: OssClient, tmp_path: Path) -> None:
    with pytest.raises(OssConfigError, match=r"none\.yaml cannot be read: No such file"):
        read_data_yaml(tmp_path / "none.yaml", client)


# The images.


def test_images_below_a_prefix_are_sorted(client: OssClient, bucket: str) -> None:
    upload(
        client,
        f"oss://{bucket}/d",
        {"images/b.JPG": b"1", "images/a/c.png": b"22", "images/x.txt": b"", "images2/y.png": b""},
    )
    found = find_images(client, f"/{bucket}/d/images")
    assert [(image.path, image.size) for image in found] == [
        (f"/{bucket}/d/images/a/c.png", 2),
        (f"/{bucket}/d/images/b.JPG", 1),
    ]
    assert all(image.etag for image in found)


def test_a_prefix_without_images_is_named(client: OssClient, bucket: str) -> None:
    client.put(f"oss://{bucket}/d/images/x.txt", b"")
    with pytest.raises(OssNotFoundError, match=rf"no image is below oss://{bucket}/d/images/: of the 1 objects there"):
        find_images(client, f"/{bucket}/d/images")


def test_a_manifest_names_images(client: OssClient, bucket: str) -> None:
    upload(client, f"oss://{bucket}/d", {"images/a.png": b"1", "images/b.png": b"2", "other/c.png": b"3"})
    lines = f"\ufeff/{bucket}/d/other/c.png\n\n./images/b.png\r\nimages/a.png\noss://{bucket}/d/images/b.png\n"
    client.put(f"oss://{bucket}/d/train.txt", lines.encode())
    found = [image.path for image in find_images(client, f"/{bucket}/d/train.txt")]
    assert found == [f"/{bucket}/d/{name}.png" for name in ("images/a", "images/b", "images/b", "other/c")]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("images/none.png", "the image oss://.*/d/images/none.png does not exist"),
        ("images/a.gif", "does not end like an image"),
        ("/UPPER/a.png", "names no image"),
        ("../../../a.png", "names no image"),
    ],
)
def test_a_wrong_line_of_a_manifest_is_named(client: OssClient, bucket: str, line: str, reason: str) -> None:
    client.put(f"oss://{bucket}/d/images/a.png", b"1")
    client.put(f"oss://{bucket}/d/train.txt", f"images/a.png\n{line}\n".encode())
    with pytest.raises(OssError, match=f"oss://{bucket}/d/train.txt:2: .*{reason}"):
        find_images(client, f"/{bucket}/d/train.txt")


def test_an_empty_manifest_and_a_missing_one_are_named(client: OssClient, bucket: str) -> None:
    client.put(f"oss://{bucket}/empty.txt", b"\n")
    with pytest.raises(OssNotFoundError, match=f"the manifest oss://{bucket}/empty.txt names no image"):
        find_images(client, f"/{bucket}/empty.txt")
    with pytest.raises(OssNotFoundError, match=rf"the manifest oss://{bucket}/none\.txt does not exist"):
        find_images(client, f"/{bucket}/none.txt")


def test_a_manifest_of_many_directories_costs_one_listing(emulator: Emulator, client: OssClient, bucket: str) -> None:
    names = [f"images/{index:03}/a.png" for index in range(150)]
    upload(client, f"oss://{bucket}", dict.fromkeys(names, b"1"))
    client.put(f"oss://{bucket}/train.txt", "\n".join(names).encode())
    emulator.clear_requests()
    assert len(find_images(client, f"/{bucket}/train.txt")) == 150
    assert len(emulator.requests(operation="ListObjectsV2")) <= 2


@pytest.mark.parametrize(
    ("key", "label"),
    [
        ("d/images/train/a.jpg", "d/labels/train/a.txt"),
        ("images/images/a.b.jpg", "images/labels/a.b.txt"),
        ("images/a.jpg", "labels/a.txt"),
        ("my-images/a.jpg", "my-images/a.txt"),
    ],
)
def test_labels_lie_beside_images(key: str, label: str) -> None:
    assert label_key(key) == label


# The labels.


def test_boxes() -> None:
    label = parse_label(b"\xef\xbb\xbf2 0.5 0.5 0.25 0.5\n\n 0 0 0 1 1 \n", "u", RULES)
    assert label.rows.tolist() == [[2, 0.5, 0.5, 0.25, 0.5], [0, 0, 0, 1, 1]]
    assert (label.rows.dtype, label.segments, label.keypoints) == (np.float32, [], None)


def test_polygons_have_boxes() -> None:
    label = parse_label(b"1 0 0 0.5 0 0.5 1\n2 0.25 0.25 0.75 0.25 0.5 0.5 0.25 0.5", "u", RULES)
    assert label.rows.tolist() == [[1, 0.25, 0.5, 0.5, 1], [2, 0.5, 0.375, 0.5, 0.25]]
    assert [segment.shape for segment in label.segments] == [(3, 2), (4, 2)]


@pytest.mark.parametrize(("dimensions", "fields"), [(2, "0.1 0.2 -0.005 0.4"), (3, "0.1 0.2 2 0 0.4 0")])
def test_key_points_have_a_visibility(dimensions: int, fields: str) -> None:
    rules = LabelRules(3, keypoints=True, kpt_shape=(2, dimensions))
    text = f"1 0.5 0.5 0.25 0.5 {fields.replace(' 2 ', ' 1 ')}".encode()
    label = parse_label(text, "u", rules)
    assert label.keypoints.shape == (1, 2, 3)
    assert label.keypoints[0, :, 2].tolist() == [1, 0]
    assert label.rows.shape == (1, 5)


def test_a_task_of_boxes_takes_the_boxes_of_key_points() -> None:
    label = parse_label(b"1 0.5 0.5 0.25 0.5 0.1 0.2 1", "u", LabelRules(3, kpt_shape=(1, 3)))
    assert label.rows.tolist() == [[1, 0.5, 0.5, 0.25, 0.5]]
    assert label.segments == []


def test_repeated_lines_count_once() -> None:
    label = parse_label(b"1 0.5 0.5 0.25 0.5\n0 0.5 0.5 0.25 0.5\n1 0.5 0.5 0.25 0.5\n", "u", RULES)
    assert label.rows[:, 0].tolist() == [0, 1]


def test_different_polygons_with_one_box_stay() -> None:
    label = parse_label(b"1 0 0 1 0 1 1\n1 0 0 0 1 1 1\n1 0 0 1 0 1 1\n", "u", RULES)
    assert len(label.rows) == len(label.segments) == 2


def test_with_a_single_class_every_class_counts() -> None:
    assert parse_label(b"79 0.5 0.5 0.25 0.5", "u", LabelRules(1, single_cls=True)).rows[0, 0] == 79


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("3 0.5 0.5 0.2 0.2", "the dataset has the classes 0 to 2: '3 0.5 0.5 0.2 0.2'"),
        ("-1 0.5 0.5 0.2 0.2", "no number may be negative"),
        ("0.5 0.5 0.5 0.2 0.2", "the class must be a whole number"),
        ("0 0.5 0.5 0.2", "5 fields are needed, not 4"),
        ("0 0.5 0.5 0.2 0.2 0.1", "5 fields are needed, not 6"),
        ("0 0.5 x 0.2 0.2", "not all fields are numbers"),
        ("0 50 50 20 20", "coordinates must be parts of the image, from 0 to 1"),
        ("0 nan 0.5 0.2 0.2", "coordinates must be parts of the image"),
        ("0 0.5 0.5 -0.001 0.2", "no width and no height may be negative"),
        ("0 0.1 0.1 0.2 0.2 0.3 0.3 0.4", "5 fields|points of a polygon"),
        ("0 0.1 0.1 0.2 0.2 0.3 0.3", "points of a polygon"),
    ],
)
def test_a_wrong_line_of_a_label_is_named(line: str, reason: str) -> None:
    with pytest.raises(OssFormatError, match=f"^oss://b/labels/x.txt:[12]: .*({reason})"):
        parse_label(f"1 0.5 0.5 0.2 0.2\n{line}\n".encode(), "oss://b/labels/x.txt", RULES)


def test_a_label_that_is_no_text_is_named() -> None:
    with pytest.raises(OssFormatError, match=r"x\.txt is no label: it is not UTF-8"):
        parse_label(b"\xff\xfe0", "x.txt", RULES)


# The shapes.


def turned(form: str) -> bytes:
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save(buffer, form, exif=exif)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "shape"),
    [
        pytest.param(picture(30, 50, "PNG"), (30, 50), id="png"),
        pytest.param(picture(30, 50, "JPEG"), (30, 50), id="jpeg"),
        pytest.param(picture(30, 50, "JPEG", progressive=True), (30, 50), id="progressive"),
        pytest.param(picture(30, 50, "BMP"), (30, 50), id="bmp"),
        pytest.param(picture(30, 50, "WEBP"), (30, 50), id="webp"),
        pytest.param(picture(30, 50, "WEBP", lossless=True), (30, 50), id="webp-lossless"),
        pytest.param(turned("JPEG"), (40, 20), id="jpeg-turned"),
        pytest.param(turned("PNG"), (40, 20), id="png-turned"),
        # The orientation is behind the picture, so the first bytes do not say the shape.
        pytest.param(turned("WEBP"), None, id="webp-turned"),
        pytest.param(picture(30, 50, "TIFF"), None, id="tiff"),
        pytest.param(b"no image", None, id="none"),
        pytest.param(b"", None, id="empty"),
    ],
)
def test_the_first_bytes_say_the_shape(content: bytes, shape: tuple[int, int] | None) -> None:
    assert image_shape(content[:1024]) == shape


@pytest.mark.parametrize("form", ["PNG", "JPEG", "BMP", "WEBP"])
def test_a_header_that_is_cut_short_needs_more(form: str) -> None:
    content = picture(30, 50, form)
    for end in range(12):
        assert image_shape(content[:end]) is None
    assert all(image_shape(content[:end]) in {None, (30, 50)} for end in range(len(content)))


# The scan and its cache.


def scanned(client: OssClient, bucket: str, cache: LabelCache | None, rules: LabelRules | None = RULES) -> Any:
    return scan_images(client, find_images(client, f"/{bucket}/d/images/train"), rules, cache, undecodable)


def test_first_bytes_are_those_of_the_object_alone(client: OssClient, bucket: str) -> None:
    contents = [b"", b"1", b"x" * 99, b"y" * 100, b"z" * 300]
    for number, content in enumerate(contents):
        client.put(f"oss://{bucket}/d/{number}.jpg", content)
    found = find_images(client, f"/{bucket}/d")
    # Without a listing, no size is known.
    for images in (found, [StoredObject(image.bucket, image.key) for image in found]):
        assert dict(heads(client, images, 100)) == {number: content[:100] for number, content in enumerate(contents)}


def test_a_scan_finds_shapes_and_labels(client: OssClient, bucket: str) -> None:
    files = box_dataset(10, 0)
    files["labels/train/003.txt"] = b"\n"
    files["labels/train/007.txt"] = b"0 0.5 0.5 0.2 0.2\n9 0.5 0.5 0.2 0.2\n"
    files["images/train/008.jpg"] = b"\xff\xd8 no image"
    files["images/train/small.png"] = picture(5, 90)
    preview = picture(30, 50, "JPEG", exif=b"Exif\0\0" + b"x" * 20_000)
    files["images/train/preview.jpg"] = preview
    upload(client, f"oss://{bucket}/d", files)
    scan, cached = scanned(client, bucket, None)
    assert not cached
    assert [image.path.rpartition("/")[2] for image in scan.images] == [
        *("000.jpg", "001.png", "002.webp", "003.bmp", "004.jpg", "005.png", "006.webp", "009.png", "preview.jpg")
    ]
    for image in scan.images:
        with Image.open(io.BytesIO(client.get(f"oss:/{image.path}"))) as opened:
            assert image.shape == (opened.height, opened.width)
    assert scan.corrupt == [
        f"oss://{bucket}/d/labels/train/007.txt:2: the dataset has the classes 0 to 2: '9 0.5 0.5 0.2 0.2'",
        f"oss://{bucket}/d/images/train/008.jpg is no image that can be read",
        f"oss://{bucket}/d/images/train/small.png has 90 x 5 pixels: an image needs 10 in each direction",
    ]
    assert (scan.missing, scan.empty) == (3, 1)


def test_a_scan_reads_only_the_first_bytes_of_large_images(emulator: Emulator, client: OssClient, bucket: str) -> None:
    content = picture(400, 400)
    assert len(content) > MORE_BYTES
    upload(client, f"oss://{bucket}/d", {f"images/train/{index}.png": content for index in range(5)})
    emulator.clear_requests()
    scan, _ = scanned(client, bucket, None)
    assert [image.shape for image in scan.images] == [(400, 400)] * 5
    assert len(emulator.requests(operation="GetObject")) == 5


def same(first: Any, second: Any) -> bool:
    return bool(
        [image.path for image in first.images] == [image.path for image in second.images]
        and [image.shape for image in first.images] == [image.shape for image in second.images]
        and all(
            np.array_equal(one.label.rows, other.label.rows)
            and all(map(np.array_equal, one.label.segments, other.label.segments))
            and len(one.label.segments) == len(other.label.segments)
            and (one.label.keypoints is None) == (other.label.keypoints is None)
            and (one.label.keypoints is None or np.array_equal(one.label.keypoints, other.label.keypoints))
            for one, other in zip(first.images, second.images, strict=True)
        )
        and (first.corrupt, first.missing, first.empty) == (second.corrupt, second.missing, second.empty)
    )


@pytest.mark.parametrize("place", ["directory", "oss"])
@pytest.mark.parametrize("kind", ["boxes", "polygons", "key points", "none"])
def test_a_second_scan_reads_nothing(
    emulator: Emulator, client: OssClient, bucket: str, tmp_path: Path, place: str, kind: str
) -> None:
    files = box_dataset(6, 0)
    rules: LabelRules | None = RULES
    if kind == "polygons":
        files["labels/train/001.txt"] = b"1 0 0 1 0 1 1\n0 0 0 1 0 1 1 0 1\n"
    elif kind == "key points":
        rules = LabelRules(3, keypoints=True, kpt_shape=(1, 2))
        files["labels/train/001.txt"] = b"1 0.5 0.5 0.1 0.1 0.5 0.5\n"
    elif kind == "none":
        rules = None
    upload(client, f"oss://{bucket}/d", files)
    cache = LabelCache(f"oss://{bucket}/cache" if place == "oss" else tmp_path / "cache", client, "train")
    first, cached = scanned(client, bucket, cache, rules)
    assert not cached
    emulator.clear_requests()
    second, cached = scanned(client, bucket, cache, rules)
    assert cached
    assert same(first, second)
    read = [request.key for request in emulator.requests(operation="GetObject")]
    assert read == ([cache.name.removeprefix(f"oss://{bucket}/")] if place == "oss" else [])


def test_a_cache_is_private(client: OssClient, bucket: str, tmp_path: Path) -> None:
    upload(client, f"oss://{bucket}/d", box_dataset(2, 0))
    cache = LabelCache(tmp_path / "cache", client, "train")
    scanned(client, bucket, cache)
    assert Path(cache.name).parent.stat().st_mode & 0o777 == 0o700
    assert Path(cache.name).stat().st_mode & 0o777 == 0o600
    (tmp_path / "cache").chmod(0o777)
    Path(cache.name).write_bytes(b"cut short")
    with pytest.raises(OssConfigError, match="nobody else may write to it"):
        scanned(client, bucket, cache)


def test_a_cache_in_the_place_of_another_users_link_is_not_followed(
    client: OssClient, bucket: str, tmp_path: Path
) -> None:
    upload(client, f"oss://{bucket}/d", box_dataset(2, 0))
    cache = LabelCache(tmp_path, client, "train")
    Path(cache.name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        scanned(client, bucket, cache)


def test_a_damaged_cache_is_no_cache(client: OssClient, bucket: str) -> None:
    upload(client, f"oss://{bucket}/d", box_dataset(2, 0))
    scan, _ = scanned(client, bucket, None)
    content = label_cache._packed("key", scan)
    assert same(label_cache._unpacked(content, "key"), scan)
    # The headers and the directory of the archive, and what is between.
    for place in range(len(content)):
        for bit in (1, 32):
            damaged = bytearray(content)
            damaged[place] ^= bit
            found = label_cache._unpacked(bytes(damaged), "key")
            assert found is None or same(found, scan)


@pytest.mark.parametrize("change", ["label", "new label", "image", "rules", "cut short", "no archive"])
def test_a_cache_of_another_listing_is_not_used(client: OssClient, bucket: str, tmp_path: Path, change: str) -> None:
    upload(client, f"oss://{bucket}/d", box_dataset(5, 0))
    cache = LabelCache(tmp_path / "cache", client, "train")
    first, _ = scanned(client, bucket, cache)
    rules = RULES
    match change:
        case "label":
            client.put(f"oss://{bucket}/d/labels/train/000.txt", b"2 0.5 0.5 0.5 0.5")
        case "new label":
            client.put(f"oss://{bucket}/d/labels/train/004.txt", b"2 0.5 0.5 0.5 0.5")
        case "image":
            client.put(f"oss://{bucket}/d/images/train/000.jpg", picture(77, 66, "JPEG"))
        case "rules":
            rules = LabelRules(4)
        case "cut short":
            content = Path(cache.name).read_bytes()
            Path(cache.name).write_bytes(content[: len(content) // 2])
        case _:
            Path(cache.name).write_bytes(b"something else")
    second, cached = scanned(client, bucket, cache, rules)
    assert not cached
    assert same(first, second) == (change in {"rules", "cut short", "no archive"})
    assert scanned(client, bucket, cache, rules)[1]


def test_a_label_that_cannot_be_fetched_is_no_missing_one(emulator: Emulator, client: OssClient, bucket: str) -> None:
    upload(client, f"oss://{bucket}/d", box_dataset(3, 0))
    fault = emulator.fault(operation="GetObject", key="d/labels/train/001.txt", error="AccessDenied")
    with fault, pytest.raises(OssError, match=r"labels/train/001\.txt"):
        scanned(client, bucket, None)


def test_without_the_right_to_list_a_manifest_is_enough(
    emulator: Emulator, client: OssClient, bucket: str, tmp_path: Path
) -> None:
    files = box_dataset(6, 0)
    upload(client, f"oss://{bucket}/d", files)
    names = [name for name in files if name.startswith("images/")]
    client.put(f"oss://{bucket}/d/train.txt", "\n".join(names).encode())
    expected, _ = scanned(client, bucket, None)
    cache = LabelCache(tmp_path / "cache", client, "train")
    with emulator.fault(operation="ListObjectsV2", error="AccessDenied"):
        images = find_images(client, f"/{bucket}/d/train.txt")
        scan, _ = scan_images(client, images, RULES, cache, undecodable)
    assert same(scan, expected)
    # Without ETags nobody knows whether it is still true.
    assert not Path(cache.name).exists()


# Directories of classes.


def class_dataset() -> dict[str, bytes]:
    return {
        f"{split}/{name}/{index}.png": picture(20, 20)
        for split in ("train", "val")
        for name in ("b", "a")
        for index in (1, 0)
    }


def test_directories_are_classes(client: OssClient, bucket: str) -> None:
    upload(client, f"oss://{bucket}/d", class_dataset())
    assert read_class_folders(f"oss://{bucket}/d/", client) == {
        "train": f"/{bucket}/d/train",
        "val": f"/{bucket}/d/val",
        "names": {0: "a", 1: "b"},
        "nc": 2,
        "channels": 3,
    }
    samples = find_samples(client, f"/{bucket}/d/train")
    assert [(image.key, name) for image, name in samples] == [
        (f"d/train/{name}/{index}.png", name) for name in ("a", "b") for index in (0, 1)
    ]


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["val/a/0.png"], "/d/train/ does not exist"),
        (["train/a/0.png"], "/d/val/ does not exist"),
        (["train/0.png", "val/a/0.png"], "no directory is below .*/d/train/"),
    ],
)
def test_missing_directories_of_classes_are_named(
    client: OssClient, bucket: str, names: list[str], reason: str
) -> None:
    upload(client, f"oss://{bucket}/d", dict.fromkeys(names, b"x"))
    with pytest.raises(OssNotFoundError, match=reason):
        read_class_folders(f"oss://{bucket}/d", client)


def test_an_image_in_no_directory_is_named(client: OssClient, bucket: str) -> None:
    upload(client, f"oss://{bucket}/d", {"train/a/0.png": b"x", "train/1.png": b"x"})
    with pytest.raises(OssConfigError, match=r"/d/train/1\.png is in no directory"):
        find_samples(client, f"/{bucket}/d/train")


# Without Ultralytics.

WITHOUT_ULTRALYTICS = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name == "ultralytics":
            raise ModuleNotFoundError("No module named 'ultralytics'", name="ultralytics")
sys.meta_path.insert(0, Missing())
"""


@pytest.mark.slow(90)
def test_what_needs_ultralytics_reports_that_it_is_missing() -> None:
    program = f"""{WITHOUT_ULTRALYTICS}
for package in ("osstorchconnector", "osstorchconnector.integrations", "osstorchconnector.integrations.ultralytics"):
    for name in ("make_oss_trainer", "OSSYOLODataset"):
        try:
            exec(f"from {{package}} import {{name}}")
        except ModuleNotFoundError as error:
            print(error.name, error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        f"ultralytics osstorchconnector.integrations.ultralytics.{name} needs ultralytics, which is not installed; "
        "run: pip install ultralytics"
        for _ in range(3)
        for name in ("make_oss_trainer", "OSSYOLODataset")
    ]
