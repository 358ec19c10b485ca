"""No command writes control characters of keys or of a server's messages to a terminal."""

import contextlib
import io
import os
import pickle
import pty
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from osstorchconnector import OssCheckpoint, OssClient, OssConfig, OssPermissionError
from osstorchconnector.cli.__main__ import main
from osstorchconnector.testing import Emulator

# Clears the screen, in two forms, and turns the direction of the text.
HOSTILE = "a\x1b[2J\x9b2J\u202eb"
SHOWN = r"a\x1b[2J\x9b2J\u202eb"
PART = 100 * 1024

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(emulator: Emulator, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: object) -> tuple[int, str]:
        connection = ["--endpoint", emulator.endpoint, "--region", emulator.region, "--cred-path", emulator.cred_path]
        capsys.readouterr()
        status = main([*map(str, arguments), *connection])
        captured = capsys.readouterr()
        printed = captured.out + captured.err
        assert all(character.isprintable() or character == "\n" for character in printed), ascii(printed)
        return status, printed

    return run


def test_uploads(run: Run, emulator: Emulator, bucket: str) -> None:
    client = OssClient(**emulator.connection, config=OssConfig(part_size=PART))
    with emulator.fault(operation="AbortMultipartUpload", error="AccessDenied"):
        writer = client.writer(f"oss://{bucket}/{HOSTILE}")
        writer.write(bytes(3 * PART))
        with contextlib.suppress(OssPermissionError):
            writer.abort()
    assert SHOWN in run("uploads", "ls", f"oss://{bucket}")[1]
    with emulator.fault(operation="AbortMultipartUpload", error="AccessDenied"):
        assert run("uploads", "sweep", f"oss://{bucket}", "--older-than", "0s")[0] == 1
    assert SHOWN in run("uploads", "sweep", f"oss://{bucket}", "--older-than", "0s")[1]


def test_checkpoint(run: Run, emulator: Emulator, client: OssClient, bucket: str) -> None:
    prefix = f"oss://{bucket}/run"
    OssCheckpoint(**emulator.connection).save({"a": torch.zeros(1)}, f"{prefix}/{HOSTILE}-1.pt")
    client.put(f"{prefix}/{HOSTILE}-2/.metadata", pickle.dumps({HOSTILE: 1}))
    client.put(f"{prefix}/{HOSTILE}-3/__0_0.distcp", b"")
    for action in (["ls"], ["verify"], ["rm", "--leftovers", "--dry-run"], ["rm", "--leftovers"]):
        assert SHOWN in run("checkpoint", *action, prefix)[1]


def test_cp(run: Run, client: OssClient, bucket: str, tmp_path: Path) -> None:
    client.put(f"oss://{bucket}/run/{HOSTILE}//a", b"x")
    status, printed = run("cp", "-r", f"oss://{bucket}/run/", tmp_path / "target")
    assert status == 1
    assert SHOWN in printed
    assert run("cp", f"oss://{bucket}/run/{HOSTILE}/missing", tmp_path / "a")[0] == 1


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.TextIOWrapper]:
    """Standard output as a terminal, and the other end of it."""
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "r", newline="") as screen, os.fdopen(theirs, "w") as output:
        monkeypatch.setattr("sys.stdout", output)
        yield screen


@pytest.mark.parametrize("options", [[], ["--snapshot"]])
def test_a_manifest_is_shown_without_controls_and_stored_with_them(
    run: Run, client: OssClient, bucket: str, tmp_path: Path, options: list[str], request: pytest.FixtureRequest
) -> None:
    client.put(f"oss://{bucket}/{HOSTILE}", b"x")
    assert run("manifest", f"oss://{bucket}/", "--output", tmp_path / "manifest", *options)[0] == 0
    assert HOSTILE.encode() in (tmp_path / "manifest").read_bytes()
    screen: io.TextIOWrapper = request.getfixturevalue("terminal")
    assert run("manifest", f"oss://{bucket}/", *options)[0] == 0
    line = next(line for line in iter(screen.readline, "") if "a" in line and "format" not in line)
    assert SHOWN in line
