"""A writer that seeks: a temporary file without a name, published by the rules of every writer."""

# ruff: noqa: PT012, PT031 - blocks that raise are what is tested

import gc
import io
import os
import resource
import signal
import stat
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from osstorchconnector import OssCheckpoint, OssClient, OssConfig, OssConfigError, OssError, OssPermissionError
from osstorchconnector._native import crc64
from osstorchconnector.testing import Emulator

PREVIOUS = b"the whole one before"


@pytest.fixture
def uri(client: OssClient, bucket: str) -> str:
    uri = f"oss://{bucket}/object"
    client.put(uri, PREVIOUS)
    return uri


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Let no file of this process become larger, as on a disk that is full; without the signal that ends it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


STEP = st.one_of(
    st.tuples(st.just("write"), st.binary(max_size=50)),
    st.tuples(st.just("seek"), st.integers(0, 100)),
    st.tuples(st.just("read"), st.integers(-1, 60)),
    st.tuples(st.just("readline"), st.integers(-1, 60)),
    st.tuples(st.just("truncate"), st.integers(0, 100)),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEP, max_size=12))
def test_any_sequence_of_calls_is_what_a_file_would_hold(
    client: OssClient, uri: str, tmp_path: Path, steps: list[tuple[str, Any]]
) -> None:
    path = tmp_path / "model"
    with path.open("wb+") as model, client.writer(uri, seekable=True) as writer:
        for name, argument in steps:
            assert getattr(writer, name)(argument) == getattr(model, name)(argument), name
            assert writer.tell() == model.tell(), name
    assert client.get(uri) == path.read_bytes()
    assert (writer.etag, writer.crc64) == (client.head(uri).etag, crc64(path.read_bytes()))


def test_many_parts_and_holes_are_uploaded(emulator: Emulator, uri: str) -> None:
    client = OssClient(**emulator.connection, config=OssConfig(part_size=100 * 1024))
    with client.writer(uri, seekable=True) as writer:
        writer.seek(40 << 20)
        writer.write(b"end")
        writer.seek(3)
        writer.write(b"start")
    content = client.get(uri)
    assert content == b"\0\0\0start" + bytes((40 << 20) - 8) + b"end"


def test_the_file_has_no_name_and_is_for_this_user_alone(client: OssClient, uri: str, tmp_path: Path) -> None:
    writer = client.writer(uri, seekable=True, spool_directory=tmp_path)
    writer.write(b"whole")
    status = os.fstat(writer._file.fileno())
    assert (status.st_nlink, stat.S_IMODE(status.st_mode), status.st_size) == (0, 0o600, 5)
    assert list(tmp_path.iterdir()) == []
    writer.close()
    assert client.get(uri) == b"whole"


def test_the_file_is_gone_after_every_ending(client: OssClient, uri: str, tmp_path: Path) -> None:
    def opened() -> Any:
        writer = client.writer(uri, seekable=True, spool_directory=tmp_path)
        writer.write(b"whole")
        return writer

    ended = [opened() for _ in range(5)]
    ended[0].close()
    ended[1].abort()
    ended[2].publish()
    with ended[3]:
        pass
    with pytest.raises(KeyError), ended[4]:
        raise KeyError
    assert all(writer._file.closed for writer in ended)
    lost = opened()
    file = lost._file
    with pytest.warns(ResourceWarning, match="unclosed writer of .*; nothing is published"):
        del lost
        gc.collect()
    assert file.closed
    assert client.get(uri) == b"whole"


def test_a_full_disk_is_named_and_publishes_nothing(client: OssClient, uri: str, tmp_path: Path) -> None:
    expected = rf"{uri}: the temporary file .* in {tmp_path} cannot be used: .*; make room"
    writer = client.writer(uri, seekable=True, spool_directory=tmp_path)
    with pytest.raises(OssConfigError, match=expected), file_size_limit(1000), writer:
        writer.write(bytes(2000))
    assert (writer.aborted, writer._file.closed) == (True, True)
    writer = client.writer(uri, seekable=True, spool_directory=tmp_path)
    with file_size_limit(1000), pytest.raises(OssConfigError):
        writer.write(bytes(2000))
    for use in (lambda: writer.write(b"more"), writer.tell, writer.close, writer.publish):
        with pytest.raises((OssConfigError, ValueError)):
            use()
    assert client.get(uri) == PREVIOUS


def test_a_full_disk_is_named_through_torch_too(client: OssClient, uri: str) -> None:
    writer = client.writer(uri, seekable=True)
    with pytest.raises(OssConfigError, match="make room there"), file_size_limit(1000), writer:
        torch.save({"w": torch.ones(10_000)}, writer)  # type: ignore[arg-type]
    assert client.get(uri) == PREVIOUS


def test_the_limit_is_kept(client: OssClient, uri: str) -> None:
    uses = [lambda writer: writer.write(bytes(101)), lambda writer: writer.truncate(101), _write_behind]
    for use in uses:
        writer = client.writer(uri, seekable=True, spool_limit=100)
        with pytest.raises(OssConfigError, match="may have 100 bytes, but 101 are needed; give a larger"), writer:
            writer.write(bytes(50))
            writer.seek(0)
            use(writer)
    assert client.get(uri) == PREVIOUS
    with client.writer(uri, seekable=True, spool_limit=100) as writer:
        writer.write(bytes(100))
        writer.seek(1000)
        writer.write(b"")
    assert client.get(uri) == bytes(100)


def _write_behind(writer: Any) -> None:
    writer.seek(100)
    writer.write(b"x")


def test_wrong_options_are_refused(client: OssClient, uri: str, tmp_path: Path) -> None:
    with pytest.raises(OssConfigError, match=r"no temporary file can be made in .*; give another spool_directory"):
        client.writer(uri, seekable=True, spool_directory=tmp_path / "absent")
    with pytest.raises(OssConfigError, match="spool_limit must be a number of bytes, not -1"):
        client.writer(uri, seekable=True, spool_limit=-1)
    for options in ({"spool_directory": tmp_path}, {"spool_limit": 1}):
        with pytest.raises(OssConfigError, match="give seekable=True"):
            client.writer(uri, **options)


def test_an_upload_that_fails_is_reported_and_publishes_nothing() -> None:
    with Emulator(buckets=["bucket"]) as emulator:
        client = emulator.client()
        client.put("oss://bucket/a", PREVIOUS)
        emulator.fault(operation="PutObject", error="AccessDenied")
        with pytest.raises(OssPermissionError), client.writer("oss://bucket/a", seekable=True) as writer:
            writer.write(b"whole")
        assert writer._file.closed
        writer = client.writer("oss://bucket/a", seekable=True)
        with pytest.raises(OssPermissionError):
            writer.close()
        with pytest.raises(OssError):
            writer.publish()
        assert client.get("oss://bucket/a") == PREVIOUS


def test_a_forked_child_cannot_use_it_and_changes_nothing(emulator: Emulator, uri: str, client: OssClient) -> None:
    program = """
import os, sys
from osstorchconnector import OssClient, OssError
client = OssClient(sys.argv[1], region=sys.argv[2])
writer = client.writer(sys.argv[3], seekable=True)
writer.write(b"parent")
child = os.fork()
if child == 0:
    for use in (lambda: writer.write(b"child"), lambda: writer.seek(0), lambda: writer.read(), writer.publish):
        try:
            use()
        except OssError as error:
            assert "belongs to process" in str(error)
        else:
            os._exit(1)
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
writer.write(b" again")
writer.close()
"""
    keys = {"OSS_ACCESS_KEY_ID": emulator.access_key_id, "OSS_ACCESS_KEY_SECRET": emulator.access_key_secret}
    environment = {**os.environ, **keys, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", program, emulator.endpoint, emulator.region, uri]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert client.get(uri) == b"parent again"


def test_torch_saves_without_data(emulator: Emulator, uri: str, client: OssClient) -> None:
    checkpoint = OssCheckpoint(**emulator.connection)
    state = {"w": torch.ones(1000)}
    expected = io.BytesIO()
    with torch.serialization.skip_data():
        torch.save(state, expected)
        checkpoint.save(state, uri)
        assert client.get(uri) == expected.getvalue()
        with checkpoint.writer(uri, seekable=True) as writer:
            torch.save(state, writer)  # type: ignore[arg-type]
        with pytest.raises(RuntimeError) as caught, checkpoint.writer(uri) as plain:
            torch.save(state, plain)  # type: ignore[arg-type]
    (note,) = caught.value.__notes__
    assert note.startswith("seek: ")
    # An error that says so itself needs no note.
    with pytest.raises(io.UnsupportedOperation) as refused, checkpoint.writer(uri) as plain:
        try:
            plain.fileno()
        except io.UnsupportedOperation:
            plain.seek(0)
    assert not hasattr(refused.value, "__notes__")
    assert "open it with writer(uri, seekable=True)" in note
    assert client.get(uri) == expected.getvalue()
    checkpoint.save(state, uri)
    # The newest checkpoint is known by what its writer published.
    assert checkpoint._writers[uri].etag == client.head(uri).etag


def test_torch_export_saves(uri: str, client: OssClient) -> None:
    program = torch.export.export(torch.nn.Linear(2, 2), (torch.ones(1, 2),))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with client.writer(uri, seekable=True) as writer:
            torch.export.save(program, writer)  # type: ignore[arg-type]
        loaded = torch.export.load(io.BytesIO(client.get(uri)))
    assert loaded.module()(torch.ones(1, 2)).shape == (1, 2)
