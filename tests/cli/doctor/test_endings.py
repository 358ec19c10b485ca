"""The doctor in a terminal, in a pipe, and interrupted: it leaves no object behind."""

import os
import pty
import select
import signal
import subprocess
import sys
import time

import pytest

from osstorchconnector import OssClient
from osstorchconnector.testing import Emulator

OSST = [sys.executable, "-m", "osstorchconnector.cli"]


def command(emulator: Emulator, *arguments: str) -> list[str]:
    connection = ["--endpoint", emulator.endpoint, "--region", emulator.region, "--cred-path", emulator.cred_path]
    return [*OSST, "doctor", *arguments, *connection]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_probe_object_is_deleted_after_a_signal(
    emulator: Emulator, client: OssClient, bucket: str, number: signal.Signals
) -> None:
    with (
        emulator.fault(operation="PutObject", bucket=bucket, delay=0.5) as slow,
        subprocess.Popen(
            command(emulator, f"oss://{bucket}/a/", "--write"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process,
    ):
        deadline = time.monotonic() + 20
        while slow.acted == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(number)
        # A second one does not get in the way of the deletion.
        process.send_signal(number)
        _, errors = process.communicate(timeout=20)
    assert slow.acted == 0
    assert (process.returncode, errors) == (130, b"")
    log = [request for request in emulator.requests() if request.bucket == bucket]
    assert [request.operation for request in log][-2:] == ["PutObject", "DeleteObject"]
    assert list(client.list(f"oss://{bucket}/")) == []


def test_the_probe_object_is_deleted_after_a_lost_answer(emulator: Emulator, client: OssClient, bucket: str) -> None:
    with (
        emulator.fault(operation="PutObject", bucket=bucket, lose_reply=True),
        emulator.fault(operation=["HeadObject", "GetObjectMeta"], bucket=bucket, error="InternalError"),
    ):
        result = subprocess.run(
            command(emulator, f"oss://{bucket}/", "--write"), capture_output=True, text=True, check=False
        )
    assert result.returncode == 2
    assert "failure  write" in result.stdout
    assert "ok       delete         allowed" in result.stdout
    methods = [request.method for request in emulator.requests() if request.bucket == bucket]
    assert methods.index("PUT") < methods.index("DELETE")
    assert list(client.list(f"oss://{bucket}/")) == []


def in_terminal(arguments: list[str], **environment: str) -> tuple[int, str]:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        arguments, stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, **environment}
    ) as process:
        os.close(theirs)
        text = b""
        while select.select([ours], [], [], 20)[0]:
            try:
                text += os.read(ours, 4096)
            except OSError:
                # The other end is closed.
                break
    os.close(ours)
    return process.returncode, text.decode()


def test_colours_are_for_terminals_only(emulator: Emulator, bucket: str) -> None:
    arguments = command(emulator, f"oss://{bucket}/")
    assert "\x1b[32mok" in in_terminal(arguments)[1]
    assert "\x1b" not in in_terminal(arguments, NO_COLOR="1")[1]
    assert "\x1b" not in subprocess.run(arguments, capture_output=True, text=True, check=False).stdout


def test_no_control_character_reaches_a_terminal(emulator: Emulator, bucket: str) -> None:
    hostile = "a\x1b[2J\u202eb"
    status, text = in_terminal(command(emulator, f"oss://{bucket}/{hostile}/", "--write"), NO_COLOR="1")
    assert status in {0, 1}
    assert r"a\x1b[2J\u202eb" in text
    assert all(character.isprintable() or character in "\r\n" for character in text)


def test_a_pipe_that_ends_early_ends_it_quietly(emulator: Emulator, bucket: str) -> None:
    with subprocess.Popen(
        command(emulator, f"oss://{bucket}/"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
