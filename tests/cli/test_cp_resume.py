"""`osst cp` of a large file or object that was killed, and continues where it was."""

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from osstorchconnector import OssClient
from osstorchconnector.connection.unfinished_uploads import find_unfinished
from osstorchconnector.files import resumable
from osstorchconnector.files.record import Record
from osstorchconnector.testing import Emulator
from tests.cli.conftest import Osst, Start

MIB = 1 << 20
# Above what is worth continuing. No two parts of it are the same.
CONTENT = random.Random(7).randbytes(8 * MIB) * 8 + os.urandom(8 * MIB)
PATIENCE = 60.0


@pytest.fixture(autouse=True)
def state(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of the records of uploads."""
    directory = tmp_path_factory.mktemp("state")
    monkeypatch.setenv("XDG_STATE_HOME", str(directory))
    return directory / "osst" / "uploads"


def hidden(directory: Path) -> list[str]:
    return sorted(path.name.rpartition(".")[2] for path in directory.iterdir() if path.name.startswith("."))


def wait_until(is_reached: Callable[[], Any], process: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + PATIENCE
    while not is_reached():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.01)


def end(process: "subprocess.Popen[bytes]", number: signal.Signals) -> None:
    process.send_signal(number)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == (130 if number == signal.SIGINT else -number)


def partial_size(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.iterdir() if path.name.endswith(".osst-part"))


@pytest.mark.slow(60)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.parametrize("reached", [0, 1, 40 * MIB])
def test_a_download_continues(
    start: Start,
    osst: Osst,
    client: OssClient,
    bucket: str,
    tmp_path: Path,
    emulator: Emulator,
    number: signal.Signals,
    reached: int,
) -> None:
    client.put(f"oss://{bucket}/large", CONTENT)
    (tmp_path / "large").write_bytes(b"previous")
    with emulator.fault(bucket=bucket, operation="GetObject", shared_bandwidth=40 * MIB):
        process = start("cp", "--bandwidth", "20M", f"oss://{bucket}/large", tmp_path / "large")
        wait_until(
            lambda: hidden(tmp_path) == ["osst-part", "osst-record"] and partial_size(tmp_path) >= reached, process
        )
        end(process, number)
    assert (tmp_path / "large").read_bytes() == b"previous"
    kept = partial_size(tmp_path)
    assert kept >= reached
    emulator.clear_requests()
    ended = osst("cp", f"oss://{bucket}/large", tmp_path / "large")
    assert ended.status == 0
    assert (tmp_path / "large").read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["large"]
    assert ("is continued after" in ended.err) == (kept > 0)
    fetched = sum(request.response_bytes for request in emulator.requests(operation="GetObject"))
    assert fetched == len(CONTENT) - kept


def kill_a_download(start: Start, bucket: str, folder: Path, emulator: Emulator) -> int:
    with emulator.fault(bucket=bucket, operation="GetObject", shared_bandwidth=40 * MIB):
        process = start("cp", "--bandwidth", "40M", f"oss://{bucket}/large", folder / "large")
        wait_until(lambda: partial_size(folder) >= 16 * MIB, process)
        end(process, signal.SIGKILL)
    return partial_size(folder)


@pytest.mark.slow(60)
def test_what_a_killed_download_left_is_no_file_of_the_directory(
    start: Start, osst: Osst, client: OssClient, bucket: str, tmp_path: Path, emulator: Emulator
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    client.put(f"oss://{bucket}/train/large", CONTENT)
    with emulator.fault(bucket=bucket, operation="GetObject", shared_bandwidth=40 * MIB):
        process = start("sync", "--bandwidth", "40M", f"oss://{bucket}/train", folder)
        wait_until(lambda: partial_size(folder) >= 16 * MIB, process)
        end(process, signal.SIGKILL)
    assert osst("cp", "-r", folder, f"oss://{bucket}/copy").status == 1
    assert list(client.list(f"oss://{bucket}/copy")) == []
    # It is not one of the files that are deleted, either.
    ended = osst("sync", "--delete", "--yes", f"oss://{bucket}/train", folder)
    assert (ended.status, "is continued after" in ended.err) == (0, True)
    assert [(path.name, path.read_bytes()) for path in folder.iterdir()] == [("large", CONTENT)]


@pytest.mark.slow(60)
def test_a_download_of_another_version_begins_again(
    start: Start, osst: Osst, client: OssClient, bucket: str, tmp_path: Path, emulator: Emulator
) -> None:
    client.put(f"oss://{bucket}/large", CONTENT)
    kill_a_download(start, bucket, tmp_path, emulator)
    client.put(f"oss://{bucket}/large", CONTENT[::-1])
    ended = osst("cp", f"oss://{bucket}/large", tmp_path / "large")
    assert "is continued" not in ended.err
    assert (tmp_path / "large").read_bytes() == CONTENT[::-1]


@pytest.mark.slow(60)
def test_bytes_that_were_changed_on_the_disk_are_found(
    start: Start, osst: Osst, client: OssClient, bucket: str, tmp_path: Path, emulator: Emulator
) -> None:
    client.put(f"oss://{bucket}/large", CONTENT)
    kill_a_download(start, bucket, tmp_path, emulator)
    (partial,) = tmp_path.glob(".*.osst-part")
    with partial.open("r+b") as file:
        # As after a crash of the machine, which may lose what was not forced to the disk.
        file.seek(MIB)
        file.write(bytes(4096))
    ended = osst("cp", f"oss://{bucket}/large", tmp_path / "large")
    assert ended.status == 0
    assert (tmp_path / "large").read_bytes() == CONTENT


@pytest.mark.parametrize("kind", ["symbolic", "hard", "record", "another user"])
def test_files_of_others_under_the_hidden_names_are_not_written_to(
    osst: Osst,
    client: OssClient,
    bucket: str,
    tmp_path: Path,
    kind: str,
) -> None:
    client.put(f"oss://{bucket}/large", CONTENT)
    target, mine = tmp_path / "large", tmp_path / "mine"
    mine.write_bytes(b"mine")
    hidden_name = resumable._hidden(target, ".osst-record" if kind == "record" else ".osst-part")
    if kind == "hard":
        hidden_name.hardlink_to(mine)
    elif kind == "another user":
        if os.geteuid():
            pytest.skip("only root can give a file away")
        hidden_name.write_bytes(b"theirs")
        os.chown(hidden_name, 12345, 12345)
    else:
        hidden_name.symlink_to(mine)
    assert osst("cp", f"oss://{bucket}/large", target).status == 0
    assert mine.read_bytes() == b"mine"
    assert target.read_bytes() == CONTENT
    assert (target.stat().st_uid, target.stat().st_nlink) == (os.geteuid(), 1)


def test_a_record_stays_with_its_process_until_the_end(tmp_path: Path) -> None:
    # A download whose bytes were damaged begins again, and no other one may begin meanwhile.
    path = tmp_path / "record"
    first = Record.open(path)
    assert first is not None
    first.write({"size": 1})
    first.remove()
    assert first.read() == {}
    assert Record.open(path) is None
    first.write({"size": 2})
    first.close()
    second = Record.open(path)
    assert second is not None
    assert second.read() == {"size": 2}
    second.remove()
    second.close()
    assert not path.exists()


@pytest.mark.parametrize("changed", [False, True])
def test_a_key_that_may_upload_alone_uploads_again(
    osst: Osst, client: OssClient, bucket: str, tmp_path: Path, emulator: Emulator, state: Path, changed: Any
) -> None:
    target, large = f"oss://{bucket}/large", tmp_path / "large"
    large.write_bytes(CONTENT)
    with emulator.fault(bucket=bucket, operation="UploadPart", error="AccessDenied", nth=list(range(6, 100))):
        assert osst("cp", large, target).status == 1
    if changed:
        os.utime(large, (1, 1))
    with (
        emulator.fault(bucket=bucket, operation="ListParts", error="AccessDenied"),
        emulator.fault(bucket=bucket, operation="AbortMultipartUpload", error="AccessDenied"),
    ):
        ended = osst("cp", large, target)
    assert (ended.status, ended.err) == (0, "")
    assert client.get(target) == CONTENT
    assert list(state.iterdir()) == []


@pytest.mark.slow(60)
def test_a_download_without_resume_begins_again_and_leaves_nothing(
    start: Start, osst: Osst, client: OssClient, bucket: str, tmp_path: Path, emulator: Emulator
) -> None:
    client.put(f"oss://{bucket}/large", CONTENT)
    with emulator.fault(bucket=bucket, operation="GetObject", shared_bandwidth=40 * MIB) as slow:
        process = start("cp", "--no-resume", f"oss://{bucket}/large", tmp_path / "large")
        wait_until(lambda: slow.acted, process)
        end(process, signal.SIGINT)
    assert list(tmp_path.iterdir()) == []
    assert osst("cp", "--no-resume", f"oss://{bucket}/large", tmp_path / "large").err == ""


@pytest.mark.slow(60)
def test_two_downloads_to_the_same_file_do_not_mix(
    start: Start, osst: Osst, client: OssClient, bucket: str, tmp_path: Path, emulator: Emulator
) -> None:
    client.put(f"oss://{bucket}/large", CONTENT)
    with emulator.fault(bucket=bucket, operation="GetObject", shared_bandwidth=60 * MIB):
        process = start("cp", f"oss://{bucket}/large", tmp_path / "large")
        wait_until(lambda: hidden(tmp_path), process)
        assert osst("cp", f"oss://{bucket}/large", tmp_path / "large").status == 0
        assert (tmp_path / "large").read_bytes() == CONTENT
        process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert (tmp_path / "large").read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["large"]


# After so many parts that arrived, when the next operation fails and is repeated.
STAGES = [(0, "InitiateMultipartUpload"), (0, "UploadPart"), (4, "UploadPart"), (9, "CompleteMultipartUpload")]


@pytest.mark.slow(60)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.parametrize(("parts", "held"), STAGES)
def test_an_upload_continues(
    start: Start,
    osst: Osst,
    client: OssClient,
    bucket: str,
    tmp_path: Path,
    emulator: Emulator,
    state: Path,
    number: signal.Signals,
    parts: int,
    held: str,
) -> None:
    target = f"oss://{bucket}/large"
    (tmp_path / "large").write_bytes(CONTENT)
    client.put(target, b"previous")
    emulator.clear_requests()
    nth = list(range(parts + 1, 1000)) if held == "UploadPart" else list(range(1, 1000))
    with emulator.fault(bucket=bucket, operation=held, error="InternalError", nth=nth) as fault:
        process = start("cp", tmp_path / "large", target)
        wait_until(
            lambda: (
                fault.acted
                and sum(request.status == 200 for request in emulator.requests(operation="UploadPart")) >= parts
            ),
            process,
        )
        end(process, number)
    assert client.get(target) == b"previous"
    emulator.clear_requests()
    ended = osst("cp", tmp_path / "large", target)
    assert (ended.status, "is continued after" in ended.err) == (0, parts > 0), ended.err
    assert client.get(target) == CONTENT
    assert len(emulator.requests(operation="UploadPart")) <= 9 - (parts if parts == 9 else parts // 2)
    assert list(state.iterdir()) == []
    assert list(find_unfinished(client, target)) == []


@pytest.mark.slow(60)
def test_an_upload_that_was_published_before_its_end_is_known_begins_again(
    start: Start, osst: Osst, client: OssClient, bucket: str, tmp_path: Path, emulator: Emulator, state: Path
) -> None:
    target = f"oss://{bucket}/large"
    (tmp_path / "large").write_bytes(CONTENT)
    with emulator.fault(bucket=bucket, operation="CompleteMultipartUpload", delay=60) as fault:
        process = start("cp", tmp_path / "large", target)
        wait_until(lambda: fault.acted, process)
        end(process, signal.SIGKILL)
    assert client.get(target) == CONTENT
    ended = osst("cp", tmp_path / "large", target)
    assert (ended.status, ended.err) == (0, "")
    assert client.get(target) == CONTENT
    assert list(state.iterdir()) == []


@pytest.mark.slow(60)
@pytest.mark.parametrize("change", ["content", "time", "upload"])
def test_an_upload_of_a_changed_file_begins_again(
    start: Start,
    osst: Osst,
    client: OssClient,
    bucket: str,
    tmp_path: Path,
    emulator: Emulator,
    change: str,
) -> None:
    target, large = f"oss://{bucket}/large", tmp_path / "large"
    large.write_bytes(CONTENT)
    with emulator.fault(bucket=bucket, operation="UploadPart", delay=60, nth=list(range(5, 100))) as fault:
        process = start("cp", large, target)
        wait_until(lambda: fault.acted, process)
        end(process, signal.SIGKILL)
    status, expected = large.stat(), CONTENT
    if change == "content":
        # With the old size and time: the checksums of the parts tell.
        expected = CONTENT[::-1]
        large.write_bytes(expected)
        os.utime(large, ns=(status.st_atime_ns, status.st_mtime_ns))
    elif change == "time":
        os.utime(large, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    else:
        for upload in find_unfinished(client, target):
            client._native_client.abort_upload(bucket, "large", upload.upload_id)
    ended = osst("cp", large, target)
    assert (ended.status, ended.err) == (0, "")
    assert client.get(target) == expected
    assert list(find_unfinished(client, target)) == []


@pytest.mark.slow(60)
def test_an_upload_that_fails_is_continued(
    osst: Osst, client: OssClient, bucket: str, tmp_path: Path, emulator: Emulator, state: Path
) -> None:
    target, large = f"oss://{bucket}/large", tmp_path / "large"
    large.write_bytes(CONTENT)
    with emulator.fault(bucket=bucket, operation="UploadPart", error="AccessDenied", nth=list(range(6, 100))):
        assert osst("cp", large, target).status == 1
    (record,) = state.iterdir()
    assert json.loads(record.read_text())["target"] == target
    assert "is continued after" in osst("cp", large, target).err
    assert client.get(target) == CONTENT


@pytest.mark.slow(60)
@pytest.mark.parametrize("place", ["no directory", "no home"])
def test_an_upload_works_without_a_place_for_its_record(
    start: Start, client: OssClient, bucket: str, tmp_path: Path, place: str
) -> None:
    (tmp_path / "large").write_bytes(CONTENT)
    environment = {name: value for name, value in os.environ.items() if name != "XDG_STATE_HOME"}
    environment["HOME" if place == "no home" else "XDG_STATE_HOME"] = str(tmp_path / "large")
    process = start("cp", tmp_path / "large", f"oss://{bucket}/large", env=environment)
    _, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, errors) == (0, b"")
    assert client.get(f"oss://{bucket}/large") == CONTENT
