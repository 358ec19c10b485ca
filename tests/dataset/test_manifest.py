"""Datasets from manifest files, local and in OSS."""

import io
import pickle
import threading
from collections.abc import Iterable, Iterator
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import DataLoader

from osstorchconnector import (
    DataObject,
    OssClient,
    OssConfigError,
    OssIterableDataset,
    OssMapDataset,
    OssNotFoundError,
    imagenet_manifest_parser,
    line_manifest_parser,
)
from osstorchconnector.testing import Emulator

DATASETS = [OssIterableDataset, OssMapDataset]
COUNT = 2345


def documented_parser(reader: io.IOBase) -> Iterable[tuple[str, str]]:
    """The parser in the documentation, which reads the whole manifest at once."""
    lines = reader.read().decode("utf-8").strip().split("\n")
    for line in lines:
        items = line.strip().split(" ")
        yield (items[0], items[1]) if len(items) >= 2 else (items[0], "")


def described(item: DataObject) -> tuple[str, str, bytes]:
    return item.name, item.label, item.read()


@pytest.fixture(scope="module")
def images(client: OssClient) -> Iterator[str]:
    """A bucket with numbered objects, and a manifest of them with labels."""
    bucket = "test-manifests"
    client.create_bucket(bucket)
    for number in range(COUNT):
        client.put(f"oss://{bucket}/base/img/{number:05}.png", f"content {number}".encode())
    client.put(f"oss://{bucket}/manifest", manifest_text().encode())
    yield bucket
    client.delete_many(item.uri for item in client.list(f"oss://{bucket}/"))


def manifest_text(separator: str = " ") -> str:
    return "".join(f"img/{number:05}.png{separator}label{number % 7}\n" for number in range(COUNT))


def expected() -> list[tuple[str, str, bytes]]:
    return [
        (f"base/img/{number:05}.png", f"label{number % 7}", f"content {number}".encode()) for number in range(COUNT)
    ]


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("parser", [documented_parser, line_manifest_parser])
@pytest.mark.parametrize("place", ["local", "oss"])
def test_objects_come_in_the_manifests_order_with_their_labels(
    emulator: Emulator, images: str, tmp_path: Path, dataset: Any, parser: Any, place: str
) -> None:
    manifest = f"oss://{images}/manifest"
    if place == "local":
        manifest = str(tmp_path / "manifest")
        Path(manifest).write_text(manifest_text())
    read = dataset.from_manifest_file(
        manifest, parser, f"oss://{images}/base/", transform=described, **emulator.connection
    )
    assert list(read) == expected()
    assert list(read) == expected()


def test_the_imagenet_form_has_tabs_and_keys_with_spaces() -> None:
    lines = b"a b.png\tn01440764\r\n\nc.png\n"
    assert list(imagenet_manifest_parser(io.BytesIO(lines))) == [("a b.png", "n01440764"), ("c.png", "")]


def test_parsers_read_only_as_far_as_needed() -> None:
    reader = io.BytesIO(b"a 1\n" * 1000)
    next(iter(line_manifest_parser(reader)))
    assert reader.tell() == 4


MALFORMED = pytest.mark.parametrize(
    ("line", "reason"), [(b"a b c\n", "line 3 of the manifest has 3 fields"), (b"\xff\n", r"line 3 .* not UTF-8")]
)


@MALFORMED
def test_a_malformed_line_is_reported_by_its_number(
    emulator: Emulator, tmp_path: Path, line: bytes, reason: str
) -> None:
    manifest = tmp_path / "manifest"
    manifest.write_bytes(b"a 1\nb 2\n" + line + b"d 4\n")
    read = OssMapDataset.from_manifest_file(
        str(manifest), line_manifest_parser, "oss://test-manifests/", **emulator.connection
    )
    with pytest.raises(OssConfigError, match=reason):
        len(read)


@MALFORMED
def test_a_stream_reports_a_malformed_line_after_the_objects_before_it(
    emulator: Emulator, images: str, tmp_path: Path, line: bytes, reason: str
) -> None:
    manifest = tmp_path / "manifest"
    manifest.write_bytes(b"img/00001.png 1\nimg/00002.png 2\n" + line + b"img/00003.png 3\n")
    read = OssIterableDataset.from_manifest_file(
        str(manifest), line_manifest_parser, f"oss://{images}/base/", **emulator.connection
    )
    iterator = iter(read)
    assert [next(iterator).label for _ in range(2)] == ["1", "2"]
    with pytest.raises(OssConfigError, match=reason):
        next(iterator)


@pytest.mark.parametrize("dataset", DATASETS)
def test_the_error_of_a_parser_comes_after_the_objects_that_it_yielded(
    emulator: Emulator, images: str, tmp_path: Path, dataset: Any
) -> None:
    def broken(_: Any) -> Iterator[tuple[str, str]]:
        yield "img/00000.png", "first"
        raise ZeroDivisionError("in the parser")

    manifest = tmp_path / "manifest"
    manifest.touch()
    read = dataset.from_manifest_file(str(manifest), broken, f"oss://{images}/base/", **emulator.connection)
    with pytest.raises(ZeroDivisionError, match="in the parser"):
        list(read)


def test_objects_before_a_fault_are_delivered(emulator: Emulator, images: str, tmp_path: Path) -> None:
    manifest = tmp_path / "manifest"
    manifest.write_text("img/00000.png\nimg/00001.png\n" + 1000 * "img/00002.png\n" + "a b c\n")
    read = OssIterableDataset.from_manifest_file(
        str(manifest), line_manifest_parser, f"oss://{images}/base/", **emulator.connection
    )
    iterator = iter(read)
    assert [next(iterator).read() for _ in range(1000)][:2] == [b"content 0", b"content 1"]
    with pytest.raises(OssConfigError, match="line 1003"):
        list(iterator)


@pytest.mark.parametrize("entry", ["one text", ("key", 3), ("only",), None])
def test_a_parser_that_yields_something_else_is_reported(emulator: Emulator, tmp_path: Path, entry: Any) -> None:
    manifest = tmp_path / "manifest"
    manifest.touch()
    read = OssIterableDataset.from_manifest_file(
        str(manifest), lambda _: [entry], "oss://test-manifests/", **emulator.connection
    )
    with pytest.raises(OssConfigError, match=r"entry 1 of .*must yield"):
        list(read)


def test_a_key_that_is_a_uri_needs_no_base(emulator: Emulator, images: str, tmp_path: Path) -> None:
    manifest = tmp_path / "manifest"
    manifest.write_text(f"oss://{images}/base/img/00003.png three\n")
    read = OssMapDataset.from_manifest_file(
        str(manifest), line_manifest_parser, "", transform=described, **emulator.connection
    )
    assert read[0] == ("base/img/00003.png", "three", b"content 3")


@pytest.mark.parametrize("dataset", DATASETS)
def test_wrong_arguments_are_reported_at_construction(emulator: Emulator, tmp_path: Path, dataset: Any) -> None:
    manifest = tmp_path / "manifest"
    manifest.touch()
    for path, parser, base, reason in [
        ("", line_manifest_parser, "oss://bucket/", "manifest_file_path"),
        (manifest, line_manifest_parser, "oss://bucket/", "manifest_file_path"),
        (str(tmp_path), line_manifest_parser, "oss://bucket/", "is not a file"),
        ("oss://bucket", line_manifest_parser, "oss://bucket/", "an object is needed"),
        (str(manifest), "text", "oss://bucket/", "manifest_parser"),
        (str(manifest), line_manifest_parser, "bucket/", "names no bucket"),
    ]:
        with pytest.raises(OssConfigError, match=reason):
            dataset.from_manifest_file(path, parser, base, **emulator.connection)
    with pytest.raises(OssNotFoundError, match=r"the manifest .*absent does not exist"):
        dataset.from_manifest_file(
            str(tmp_path / "absent"), line_manifest_parser, "oss://bucket/", **emulator.connection
        )


def test_a_missing_manifest_in_oss_is_reported(emulator: Emulator, images: str) -> None:
    read = OssIterableDataset.from_manifest_file(
        f"oss://{images}/absent", line_manifest_parser, f"oss://{images}/", **emulator.connection
    )
    with pytest.raises(OssNotFoundError) as caught:
        list(read)
    assert caught.value.key == "absent"


def test_a_reader_that_leaves_early_ends_the_parsing_thread(emulator: Emulator, images: str, tmp_path: Path) -> None:
    manifest = tmp_path / "manifest"
    manifest.touch()
    before = set(threading.enumerate())
    read = OssIterableDataset.from_manifest_file(
        str(manifest), lambda _: repeat(("img/00000.png", "")), f"oss://{images}/base/", **emulator.connection
    )
    iterator = iter(read)
    assert next(iterator).read() == b"content 0"
    (thread,) = set(threading.enumerate()) - before
    iterator.close()
    thread.join(10)
    assert not thread.is_alive()


def test_a_pickle_reads_the_manifest_again(emulator: Emulator, images: str) -> None:
    read = OssMapDataset.from_manifest_file(
        f"oss://{images}/manifest",
        line_manifest_parser,
        f"oss://{images}/base/",
        transform=described,
        **emulator.connection,
    )
    assert len(read) == COUNT
    assert pickle.loads(pickle.dumps(read))[-1] == expected()[-1]


@pytest.mark.slow(90)
@pytest.mark.parametrize("start_method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("dataset", DATASETS)
def test_a_loader_delivers_every_object_once(emulator: Emulator, images: str, dataset: Any, start_method: str) -> None:
    read = dataset.from_manifest_file(
        f"oss://{images}/manifest",
        line_manifest_parser,
        f"oss://{images}/base/",
        transform=described,
        **emulator.connection,
    )
    loader = DataLoader(read, batch_size=None, num_workers=2, multiprocessing_context=start_method)
    assert sorted(tuple(item) for item in loader) == expected()
