"""Commands that delete or overwrite: nothing is lost that was not named."""

import os
import subprocess
from pathlib import Path

import pytest

from osstorchconnector import OssClient
from osstorchconnector.testing import Emulator

from .conftest import Osst, Start


def fill(client: OssClient, bucket: str, *keys: str) -> str:
    """Store objects whose content is their key."""
    for key in keys:
        client.put(f"oss://{bucket}/{key}", key.encode())
    return f"oss://{bucket}"


def stored(client: OssClient, bucket: str) -> dict[str, str]:
    return {
        item.uri.removeprefix(f"oss://{bucket}/"): bytes(item.read()).decode()
        for item in client.list(f"oss://{bucket}")
    }


@pytest.mark.parametrize(
    ("keys", "arguments", "expected"),
    [
        # Two files of one name.
        (["1/x", "2/x"], ["{b}/1/x", "{b}/2/x", "{b}/to/"], {"to/x": "1/x", "2/x": "2/x"}),
        (["1/x", "2/x"], ["{b}/1/*", "{b}/2/*", "{b}/to/"], {"to/x": "1/x", "2/x": "2/x"}),
        (
            ["1/t/x", "2/t/x", "2/t/"],
            ["-r", "{b}/1/t", "{b}/2/t", "{b}/to"],
            {"to/t/x": "1/t/x", "2/t/x": "2/t/x", "to/t/": "2/t/"},
        ),
        # An object and a directory of one name.
        (["a", "a/a", "a/b"], ["-r", "{b}/a", "{b}/to"], {"to/a": "a", "to/b": "a/b", "a/a": "a/a"}),
        # A copy would overwrite a source that is moved later.
        (["a/b/b/x", "a/b/x"], ["-r", "{b}/a/b", "{b}/a"], {"a/b/b/x": "a/b/b/x", "a/x": "a/b/x"}),
        (["a/b/b/x", "a/b/x"], ["-r", "{b}/a/b/*", "{b}/a"], {"a/b/b/x": "a/b/b/x", "a/x": "a/b/x"}),
        (["1/x", "x"], ["{b}/1/x", "{b}/x", "{b}/"], {"1/x": "1/x", "x": "x"}),
    ],
)
def test_no_move_overwrites_what_the_same_command_moves(
    osst: Osst, client: OssClient, bucket: str, keys: list[str], arguments: list[str], expected: dict[str, str]
) -> None:
    uri = fill(client, bucket, *keys)
    ended = osst("mv", *[argument.format(b=uri) for argument in arguments])
    assert ended.status == 1
    assert "its copy would overwrite" in ended.err
    assert stored(client, bucket) == expected


def test_a_refused_copy_is_a_line_of_json(osst: Osst, client: OssClient, bucket: str) -> None:
    uri = fill(client, bucket, "1/x", "2/x")
    done, refused = osst("cp", "--json", f"{uri}/1/x", f"{uri}/2/x", f"{uri}/to/").documents
    assert (done["status"], refused["status"]) == ("done", "failed")
    assert refused["target"] == f"{uri}/to/x"
    assert "would overwrite that of" in refused["error"]


def test_directories_of_one_name_are_merged(osst: Osst, client: OssClient, bucket: str, tmp_path: Path) -> None:
    client.put(f"oss://{bucket}/1/t/", b"")
    client.put(f"oss://{bucket}/2/t/", b"")
    uri = fill(client, bucket, "1/t/x", "2/t/y")
    assert osst("cp", "-r", f"{uri}/1/t", f"{uri}/2/t", tmp_path).status == 0
    assert sorted(path.name for path in (tmp_path / "t").iterdir()) == ["x", "y"]


def test_a_key_with_a_slash_at_its_end_and_content_is_no_file(
    osst: Osst, client: OssClient, bucket: str, tmp_path: Path
) -> None:
    uri = fill(client, bucket, "a", "a/")
    for arguments in (["mv", "-r"], ["sync", "--delete", "--yes"], ["sync", "--delete", "--yes"]):
        ended = osst(*arguments, uri, tmp_path)
        assert ended.status == 1
        assert "its key ends with a slash: no file can be named so" in ended.err
    assert stored(client, bucket) == {"a/": "a/"}
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"a"]


@pytest.mark.parametrize("options", [["--exclude", "*.pt"], ["--include", "*.tmp"], ["--newer", "2999-01-01"]])
def test_force_deletes_only_what_the_options_take(
    osst: Osst, client: OssClient, bucket: str, options: list[str]
) -> None:
    uri = fill(client, bucket, "a.pt")
    assert osst("rm", "-f", *options, f"{uri}/a.pt", f"{uri}/absent.pt").status == 0
    assert stored(client, bucket) == {"a.pt": "a.pt"}


@pytest.mark.parametrize("second", ["{b}/p*", "{b}/p/", "p"])
def test_all_arguments_are_checked_before_anything_is_deleted(
    osst: Osst, client: OssClient, bucket: str, second: str
) -> None:
    uri = fill(client, bucket, "a", "p/1")
    assert osst("rm", f"{uri}/a", second.format(b=uri)).status != 0
    assert set(stored(client, bucket)) == {"a", "p/1"}


@pytest.mark.parametrize("pattern", ["cache", "cache/", "c*", "cache/*", "cache/**", "**/cache"])
def test_an_excluded_directory_is_kept_with_all_that_is_below(
    osst: Osst, client: OssClient, bucket: str, tmp_path: Path, pattern: str
) -> None:
    uri = fill(client, bucket, "t/f", "t/cache/x", "t/cache/y/z", "t/old")
    (tmp_path / "f").write_bytes(b"t/f")
    assert osst("sync", "--delete", "--yes", "--exclude", pattern, tmp_path, f"{uri}/t").status == 0
    assert set(stored(client, bucket)) == {"t/f", "t/cache/x", "t/cache/y/z"}


def test_a_slash_at_the_end_of_a_pattern_means_a_directory(osst: Osst, client: OssClient, bucket: str) -> None:
    uri = fill(client, bucket, "cache", "x/cache/1", "cached/1")
    assert osst("rm", "-r", "--yes", "--exclude", "cache/", uri).status == 0
    assert set(stored(client, bucket)) == {"x/cache/1"}


def test_a_pipe_in_a_directory_is_no_file_to_wait_for(
    start: Start, client: OssClient, bucket: str, tmp_path: Path
) -> None:
    uri = fill(client, bucket, "t/gone")
    client.put(f"{uri}/t/pipe", b"")
    (tmp_path / "f").write_bytes(b"x")
    os.mkfifo(tmp_path / "pipe")
    for arguments in (["cp", "-r"], ["sync", "--delete", "--yes"], ["sync", "--checksum", "--delete", "--yes"]):
        process = start(*arguments, tmp_path, f"{uri}/t")
        try:
            _, errors = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        assert process.returncode == 1
        assert b"is a pipe, a socket or a device, not a file: leave it out with --exclude" in errors
    assert set(stored(client, bucket)) == {"t/f", "t/gone", "t/pipe"}


def test_a_name_that_is_not_utf8_is_a_sentence(osst: Osst, client: OssClient, bucket: str, tmp_path: Path) -> None:
    uri = fill(client, bucket, "t/gone")
    (tmp_path / "f").write_bytes(b"x")
    (tmp_path / os.fsdecode(b"\xff\xfe")).write_bytes(b"y")
    ended = osst("sync", "--delete", "--yes", tmp_path, f"{uri}/t")
    assert ended.status == 1
    assert "is not UTF-8, and names of OSS are: use another name" in ended.err
    assert set(stored(client, bucket)) == {"t/f", "t/gone"}


def test_a_file_that_changes_while_it_is_moved_stays(
    start: Start, bucket: str, tmp_path: Path, emulator: Emulator
) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"begin")
    with emulator.fault(bucket=bucket, operation="PutObject", delay=2) as slow:
        process = start("mv", log, f"oss://{bucket}/log")
        try:
            while not slow.acted:
                assert process.poll() is None
            with log.open("ab") as file:
                file.write(b" end")
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 1
    assert b"changed while it was copied, and was not removed: move it again" in errors
    assert log.read_bytes() == b"begin end"


@pytest.mark.parametrize("arguments", [["{b}/p/log", "{t}/log"], ["{b}/p/log", "{b}/new"], ["-r", "{b}/p", "{t}"]])
def test_an_object_that_is_overwritten_while_it_is_moved_stays(
    start: Start, client: OssClient, bucket: str, tmp_path: Path, emulator: Emulator, arguments: list[str]
) -> None:
    uri = fill(client, bucket, "p/log")
    places = {"b": uri, "t": tmp_path}
    with emulator.fault(bucket=bucket, operation=["GetObject", "CopyObject"], delay=2) as slow:
        process = start("mv", *[argument.format(**places) for argument in arguments])
        try:
            while not slow.acted:
                assert process.poll() is None
            client.put(f"{uri}/p/log", b"newer")
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 1
    assert b"was overwritten while it was copied, and was not deleted: move it again" in errors
    assert stored(client, bucket)["p/log"] == "newer"


def test_an_object_that_somebody_else_deletes_is_moved(
    start: Start, client: OssClient, bucket: str, tmp_path: Path, emulator: Emulator
) -> None:
    uri = fill(client, bucket, "log")
    with emulator.fault(bucket=bucket, operation="HeadObject", delay=2, nth=2) as slow:
        process = start("mv", f"{uri}/log", tmp_path / "log")
        while not slow.acted:
            assert process.poll() is None
        client.delete(f"{uri}/log")
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, b"")
    assert (tmp_path / "log").read_bytes() == b"log"
