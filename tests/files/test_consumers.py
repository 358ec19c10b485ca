"""Libraries that read and write binary streams do so with objects, readers and writers."""

# ruff: noqa: PT012, PT031 - blocks that raise and warn are what is tested

import contextlib
import gzip
import io
import pickle
import tarfile
import wave
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from fsspec.registry import _registry

from osstorchconnector import OssClient
from osstorchconnector._native import data_object_from_bytes
from osstorchconnector.fsspec import FsspecFileSystem, use_client

PREVIOUS = b"the whole one before"
SAMPLES = np.arange(1000, dtype=np.int16)
PIXELS = np.arange(64 * 64 * 3, dtype=np.uint8).reshape(64, 64, 3)


@pytest.fixture
def uri(client: OssClient, bucket: str) -> str:
    uri = f"oss://{bucket}/object"
    client.put(uri, PREVIOUS)
    return uri


class Format:
    """How a library writes a value to a stream and reads it."""

    def __init__(self, *, seekable: bool = False, needs: str = "") -> None:
        self.seekable = seekable
        self.needs = needs

    def library(self) -> Any:
        return pytest.importorskip(self.needs)

    def write(self, stream: Any) -> None:
        raise NotImplementedError

    def read(self, stream: Any) -> None:
        raise NotImplementedError


class Wave(Format):
    # Without `seekable`, wave cannot correct the number of frames in its head, so it is given first.
    def write(self, stream: Any) -> None:
        with wave.open(stream, "wb") as file:
            file.setparams((1, 2, 8000, 1000 if not self.seekable else 0, "NONE", "not compressed"))
            file.writeframes(SAMPLES.tobytes())

    def read(self, stream: Any) -> None:
        with wave.open(stream, "rb") as file:
            assert file.readframes(2000) == SAMPLES.tobytes()


class Gzip(Format):
    def write(self, stream: Any) -> None:
        with gzip.open(stream, "wt") as file:
            file.write("text" * 1000)

    def read(self, stream: Any) -> None:
        with gzip.open(stream, "rt") as file:
            assert file.read() == "text" * 1000


class Zip(Format):
    def write(self, stream: Any) -> None:
        with zipfile.ZipFile(stream, "w") as archive:
            archive.writestr("a", b"content")
            archive.writestr("b", bytes(10_000))

    def read(self, stream: Any) -> None:
        with zipfile.ZipFile(stream) as archive:
            assert archive.testzip() is None
            assert archive.read("a") == b"content"


class Tar(Format):
    def write(self, stream: Any) -> None:
        with tarfile.open(fileobj=stream, mode="w|gz") as archive:
            member = tarfile.TarInfo("a")
            member.size = 7
            archive.addfile(member, io.BytesIO(b"content"))

    def read(self, stream: Any) -> None:
        with tarfile.open(fileobj=stream) as archive:
            extracted = archive.extractfile("a")
            assert extracted is not None
            assert extracted.read() == b"content"


class Pickle(Format):
    def write(self, stream: Any) -> None:
        pickle.dump({"samples": SAMPLES}, stream)

    def read(self, stream: Any) -> None:
        assert (pickle.load(stream)["samples"] == SAMPLES).all()


class Numpy(Format):
    def write(self, stream: Any) -> None:
        np.savez(stream, samples=SAMPLES)

    def read(self, stream: Any) -> None:
        assert (np.load(stream)["samples"] == SAMPLES).all()


class Torch(Format):
    def write(self, stream: Any) -> None:
        torch.save({"samples": torch.from_numpy(SAMPLES)}, stream)

    def read(self, stream: Any) -> None:
        assert (torch.load(stream)["samples"].numpy() == SAMPLES).all()


class Pillow(Format):
    def __init__(self, suffix: str, *, seekable: bool = False) -> None:
        super().__init__(seekable=seekable, needs="PIL.Image")
        self.suffix = suffix

    def write(self, stream: Any) -> None:
        self.library().fromarray(PIXELS).save(stream, self.suffix)

    def read(self, stream: Any) -> None:
        with self.library().open(stream) as image:
            assert (np.asarray(image) == PIXELS).all()


class Scipy(Format):
    def write(self, stream: Any) -> None:
        self.library().write(stream, 8000, SAMPLES)

    def read(self, stream: Any) -> None:
        rate, samples = self.library().read(stream)
        assert rate == 8000
        assert (samples == SAMPLES).all()


class Soundfile(Format):
    def write(self, stream: Any) -> None:
        self.library().write(stream, SAMPLES, 8000, format="WAV")

    def read(self, stream: Any) -> None:
        # The name of a stream need not say the format to read it, and must not mislead.
        samples, rate = self.library().read(stream, dtype="int16")
        assert rate == 8000
        assert (samples == SAMPLES).all()


class Hdf5(Format):
    def write(self, stream: Any) -> None:
        with self.library().File(stream, "w") as file:
            file["samples"] = SAMPLES
            file.create_dataset("pixels", data=PIXELS, compression="gzip", chunks=(8, 8, 3))

    def read(self, stream: Any) -> None:
        with self.library().File(stream, "r") as file:
            assert (file["samples"][:] == SAMPLES).all()
            assert (file["pixels"][:] == PIXELS).all()


class Csv(Format):
    def write(self, stream: Any) -> None:
        self.library().DataFrame({"a": [1, 2], "b": ["x", "y"]}).to_csv(stream, index=False)

    def read(self, stream: Any) -> None:
        assert self.library().read_csv(stream)["a"].tolist() == [1, 2]


class Parquet(Format):
    def write(self, stream: Any) -> None:
        arrow = pytest.importorskip("pyarrow")
        self.library().write_table(arrow.table({"a": [1, 2]}), stream)

    def read(self, stream: Any) -> None:
        assert self.library().read_table(stream)["a"].to_pylist() == [1, 2]


class Tiff(Format):
    def write(self, stream: Any) -> None:
        self.library().imwrite(stream, PIXELS)

    def read(self, stream: Any) -> None:
        assert (self.library().imread(stream) == PIXELS).all()


FORMATS = {
    "wave": Wave(),
    "wave, seeking": Wave(seekable=True),
    "gzip": Gzip(),
    "zip": Zip(),
    "zip, seeking": Zip(seekable=True),
    "tar": Tar(),
    "pickle": Pickle(),
    "numpy": Numpy(),
    "torch": Torch(),
    "png": Pillow("PNG"),
    "tiff": Pillow("TIFF", seekable=True),
    "scipy": Scipy(seekable=True, needs="scipy.io.wavfile"),
    "soundfile": Soundfile(seekable=True, needs="soundfile"),
    "hdf5": Hdf5(seekable=True, needs="h5py"),
    "csv": Csv(needs="pandas"),
    "parquet": Parquet(needs="pyarrow.parquet"),
    "tifffile": Tiff(seekable=True, needs="tifffile"),
}


@pytest.fixture(params=FORMATS)
def form(request: pytest.FixtureRequest) -> Format:
    found = FORMATS[request.param]
    if found.needs:
        found.library()
    return found


def test_what_a_library_writes_it_reads_from_every_stream(client: OssClient, uri: str, form: Format) -> None:
    with client.writer(uri, seekable=form.seekable) as writer:
        form.write(writer)
    content = client.get(uri)
    form.read(io.BytesIO(content))
    streams: list[Callable[[], Any]] = [
        lambda: client.reader(uri),
        lambda: client.open(uri),
        lambda: next(client.list(uri)),
        lambda: data_object_from_bytes(uri, content),
        lambda: io.BufferedReader(client.reader(uri)),
    ]
    for stream in streams:
        form.read(stream())


def test_what_a_library_has_begun_is_not_published_if_it_fails(client: OssClient, uri: str, form: Format) -> None:
    with pytest.raises(KeyError), client.writer(uri, seekable=form.seekable) as writer:
        form.write(writer)
        raise KeyError
    assert client.get(uri) == PREVIOUS


class Broken:
    def __str__(self) -> str:
        raise KeyError


@pytest.fixture
def registered(client: OssClient, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # Another test may use ossfs in this process.
    monkeypatch.setitem(_registry, "oss", FsspecFileSystem)
    use_client(client)
    yield
    use_client(None)


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("compression", [None, "gzip", "zip"])
def test_pandas_publishes_a_table_whole_or_not_at_all(client: OssClient, uri: str, compression: Any) -> None:
    pandas = pytest.importorskip("pandas")
    broken = pandas.DataFrame({"a": [1, 2, Broken()]})
    with pytest.raises(KeyError), pytest.warns(RuntimeWarning, match="not published"):
        broken.to_csv(uri, compression=compression, chunksize=1)
    assert client.get(uri) == PREVIOUS
    with pytest.raises(KeyError), client.writer(uri) as writer:
        broken.to_csv(writer, compression=compression, chunksize=1)
    assert client.get(uri) == PREVIOUS
    with (
        pytest.raises(KeyError),
        pytest.warns(RuntimeWarning, match="not published"),
        contextlib.closing(client.writer(uri)) as closed,
    ):
        broken.to_csv(closed, compression=compression, chunksize=1)
    assert client.get(uri) == PREVIOUS
    pandas.DataFrame({"a": [1, 2]}).to_csv(uri, index=False, compression=compression)
    assert pandas.read_csv(uri, compression=compression)["a"].tolist() == [1, 2]


def test_pyarrow_publishes_a_table_whole_or_not_at_all(client: OssClient, uri: str) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = arrow.table({"a": [1, 2]})
    with (
        pytest.raises(KeyError),
        pytest.warns(RuntimeWarning, match="not published"),
        arrow.output_stream(client.writer(uri)) as stream,
    ):
        stream.write(b"part")
        raise KeyError
    assert client.get(uri) == PREVIOUS
    with (
        pytest.raises(KeyError),
        client.writer(uri) as writer,
        arrow.output_stream(writer) as stream,
        parquet.ParquetWriter(stream, table.schema) as rows,
    ):
        rows.write_table(table)
        raise KeyError
    assert client.get(uri) == PREVIOUS
    with client.writer(uri) as writer, parquet.ParquetWriter(writer, table.schema) as rows:
        rows.write_table(table)
    assert parquet.read_table(client.reader(uri))["a"].to_pylist() == [1, 2]
