"""Libraries that take any OSError for the sign of another format: the class of the cause stays."""

import bz2
import csv
import gzip
import io
import lzma
import pickle
import tarfile
import wave
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from osstorchconnector import (
    OssClient,
    OssConfig,
    OssConnectionError,
    OssError,
    OssIterableDataset,
    OssNotFoundError,
    OssPermissionError,
    OssTimeoutError,
)
from osstorchconnector.testing import Emulator

URI = "oss://bucket/file"
# Small, so that the libraries fail at their first bytes and in the middle.
CONFIG = OssConfig(
    part_size=100 * 1024,
    max_attempts=1,
    read_timeout=0.3,
    total_timeout=4,
    reader_window=1 << 20,
    prefetch_bytes=1 << 20,
)
FAULTS: dict[str, tuple[dict[str, Any], type[OssError]]] = {
    "refused": ({"error": "AccessDenied"}, OssPermissionError),
    "missing": ({"error": "NoSuchKey"}, OssNotFoundError),
    "broken": ({"reset": "before"}, OssConnectionError),
    "silent": ({"stall": "before"}, OssTimeoutError),
}
NUMBERS = np.random.default_rng(1).integers(0, 255, 3_000_000, dtype=np.uint8)


def written(write: Callable[[io.BytesIO], Any]) -> bytes:
    file = io.BytesIO()
    write(file)
    return file.getvalue()


def write_tar(file: io.BytesIO, mode: Any = "w") -> None:
    with tarfile.open(fileobj=file, mode=mode) as archive:
        for name in "abc":
            member = tarfile.TarInfo(name)
            member.size = 1_000_000
            archive.addfile(member, io.BytesIO(NUMBERS.tobytes()))


def read_tar(mode: Any) -> Callable[[Any], Any]:
    def read(stream: Any) -> Any:
        with tarfile.open(fileobj=stream, mode=mode) as archive:
            return [opened.read() for member in archive if (opened := archive.extractfile(member))]

    return read


def write_zip(file: io.BytesIO) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        for name in "abc":
            archive.writestr(name, NUMBERS[:1_000_000].tobytes())


def read_zip(stream: Any) -> Any:
    with zipfile.ZipFile(stream) as archive:
        return [archive.read(name) for name in archive.namelist()]


def write_wave(file: io.BytesIO) -> None:
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(NUMBERS.tobytes())


def read_wave(stream: Any) -> Any:
    with wave.open(stream, "rb") as sound:
        return sound.readframes(sound.getnframes())


def write_image(kind: str) -> Callable[[io.BytesIO], Any]:
    return lambda file: Image.fromarray(NUMBERS.reshape(1000, 1000, 3)).save(file, kind, quality=100)


def read_image(stream: Any) -> Any:
    return Image.open(stream).load()


def read_xz(stream: Any) -> Any:
    with lzma.open(stream) as file:
        return file.read()


def read_pandas(stream: Any) -> Any:
    return pytest.importorskip("pandas").read_csv(stream)


LIBRARIES: dict[str, tuple[Callable[[], bytes], Callable[[Any], Any]]] = {
    "tar": (lambda: written(write_tar), read_tar("r")),
    "tar of gzip": (lambda: written(lambda file: write_tar(file, "w:gz")), read_tar("r:gz")),
    "tar of bzip2": (lambda: written(lambda file: write_tar(file, "w:bz2")), read_tar("r:bz2")),
    "tar of xz": (lambda: written(lambda file: write_tar(file, "w:xz")), read_tar("r:xz")),
    "tar of any": (lambda: written(lambda file: write_tar(file, "w:gz")), read_tar("r:*")),
    "stream of tar": (lambda: written(lambda file: write_tar(file, "w:gz")), read_tar("r|*")),
    "zip": (lambda: written(write_zip), read_zip),
    "gzip": (lambda: gzip.compress(NUMBERS.tobytes(), 1), lambda stream: gzip.GzipFile(fileobj=stream).read()),
    "bzip2": (lambda: bz2.compress(NUMBERS.tobytes(), 1), lambda stream: bz2.BZ2File(stream).read()),
    "xz": (lambda: lzma.compress(NUMBERS.tobytes(), preset=0), read_xz),
    "numpy": (lambda: written(lambda file: np.save(file, NUMBERS)), np.load),
    "numpy's zip": (
        lambda: written(lambda file: np.savez(file, numbers=NUMBERS)),
        lambda stream: np.load(stream)["numbers"],
    ),
    "PNG": (lambda: written(write_image("PNG")), read_image),
    "JPEG": (lambda: written(write_image("JPEG")), read_image),
    "TIFF": (lambda: written(write_image("TIFF")), read_image),
    "safetensors": (
        lambda: safetensors.torch.save({"numbers": torch.from_numpy(NUMBERS)}),
        lambda stream: safetensors.torch.load(stream.read()),
    ),
    "pickle": (lambda: pickle.dumps([NUMBERS, NUMBERS]), pickle.load),
    "wave": (lambda: written(write_wave), read_wave),
    "text": (lambda: b"a,b\n" * 700_000, lambda stream: list(csv.reader(io.TextIOWrapper(stream)))),
    "pandas": (lambda: b"a,b\n" * 700_000, read_pandas),
}


@pytest.fixture(scope="module")
def own_emulator() -> Iterator[Emulator]:
    with Emulator(buckets=["bucket"]) as server:
        yield server


@pytest.fixture
def own_client(own_emulator: Emulator) -> OssClient:
    return OssClient(**own_emulator.connection, config=CONFIG)


@pytest.mark.parametrize("kind", ["reader", "open"])
@pytest.mark.parametrize("name", LIBRARIES)
def test_the_end_of_the_block_raises_the_cause(
    own_emulator: Emulator, own_client: OssClient, name: str, kind: str
) -> None:
    write, read = LIBRARIES[name]
    own_client.put(URI, write())
    for rule, expected in FAULTS.values():
        for nth in (1, 2, 5):
            with (
                own_emulator.fault(operation="GetObject", nth=[*range(nth, 400)], **rule),
                pytest.raises(expected) as caught,
                getattr(own_client, kind)(URI) as stream,
            ):
                read(stream)
            assert caught.value.key == "file"


@pytest.mark.parametrize("nth", [1, 2])
@pytest.mark.parametrize("name", ["tar of bzip2", "zip", "PNG"])
def test_the_transform_of_a_dataset_raises_the_cause(
    own_emulator: Emulator, own_client: OssClient, name: str, nth: int
) -> None:
    write, read = LIBRARIES[name]
    own_client.put(URI, write())
    transform: Any = read
    dataset = OssIterableDataset.from_objects([URI], **own_emulator.connection, config=CONFIG, transform=transform)
    for workers in (0, 1):
        iterator: Any = iter(torch.utils.data.DataLoader(dataset, batch_size=None, num_workers=workers))
        with (
            own_emulator.fault(operation="GetObject", nth=[*range(nth, 400)], error="AccessDenied"),
            pytest.raises(OssPermissionError) as caught,
        ):
            list(iterator)
        assert caught.value.key == "file"
        if workers:
            # The traceback holds it. The garbage collector would wait five seconds for its worker.
            iterator._shutdown_workers()


@pytest.mark.parametrize("kind", ["reader", "open"])
def test_the_failure_of_a_stream_tells_what_a_library_swallowed(
    own_emulator: Emulator, own_client: OssClient, kind: str
) -> None:
    own_client.put(URI, written(write_zip))
    with getattr(own_client, kind)(URI) as stream:
        with own_emulator.fault(operation="GetObject", error="AccessDenied"):
            assert not zipfile.is_zipfile(stream)
        assert isinstance(stream.failure, OssPermissionError)
        assert zipfile.is_zipfile(stream)
        assert stream.failure is None


@pytest.mark.parametrize("method", ["read", "read1", "readinto", "readinto1", "readline", "readlines", "__next__"])
@pytest.mark.parametrize("kind", ["reader", "open"])
def test_each_method_that_reads_notes_its_failure(
    own_emulator: Emulator, own_client: OssClient, method: str, kind: str
) -> None:
    own_client.put(URI, b"line\n" * 600_000)
    given = [bytearray(10)] if method.startswith("readinto") else []
    with getattr(own_client, kind)(URI) as stream:
        with (
            own_emulator.fault(operation="GetObject", error="AccessDenied"),
            pytest.raises(OssPermissionError) as caught,
        ):
            getattr(stream, method)(*given)
        assert str(stream.failure) == str(caught.value)
        assert getattr(stream, method)(*given)
        assert stream.failure is None


class OwnError(Exception):
    pass


def test_an_exception_of_the_programs_own_stays(own_emulator: Emulator, own_client: OssClient) -> None:
    own_client.put(URI, bytes(3_000_000))

    def read() -> None:
        with own_client.reader(URI) as stream:
            try:
                stream.read(1)
            except OssError as error:
                raise OwnError from error

    with own_emulator.fault(operation="GetObject", error="AccessDenied"), pytest.raises(OwnError):
        read()


def test_a_file_of_another_format_is_still_reported_as_one(own_client: OssClient) -> None:
    own_client.put(URI, bytes(3_000_000))
    with pytest.raises(zipfile.BadZipFile), own_client.reader(URI) as stream:
        read_zip(stream)
    with pytest.raises(tarfile.ReadError), own_client.reader(URI) as stream:
        read_tar("r:gz")(stream)
