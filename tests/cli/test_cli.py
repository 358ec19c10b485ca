import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from osstorchconnector import OssClient, OssConfig, __version__
from osstorchconnector.cli.__main__ import main

OSST = [sys.executable, "-m", "osstorchconnector.cli"]


@contextmanager
def running(
    *arguments: str, environment: dict[str, str] | None = None
) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    with subprocess.Popen(
        [*OSST, "emulator", "--port", "0", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(environment or {})},
    ) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline()
        finally:
            process.kill()


def client_of(line: str, access_key_id: str = "emulator", access_key_secret: str = "emulator-secret") -> OssClient:
    config = OssConfig(access_key_id=access_key_id, access_key_secret=access_key_secret)
    return OssClient(line.strip(), region="cn-hangzhou", config=config)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_prints_one_line_and_stops_cleanly(number: signal.Signals) -> None:
    with running("--bucket", "one-bucket", "--bucket", "another") as (process, line):
        client = client_of(line)
        client.put("oss://one-bucket/a", b"content")
        assert client.get("oss://one-bucket/a") == b"content"
        assert list(client.list("oss://another/")) == []
        process.send_signal(number)
        output, errors = process.communicate()
        assert (process.returncode, output, errors) == (0, "", "")


def test_it_stops_cleanly_while_connections_are_open() -> None:
    with running("--bucket", "bucket") as (process, line):
        host, _, port = line.strip().removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port))):
            client_of(line).put("oss://bucket/a", b"")
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate()
        assert (process.returncode, errors) == (0, "")


def test_a_taken_port_is_one_clear_line() -> None:
    with running() as (_, line):
        port = line.strip().rpartition(":")[2]
        result = subprocess.run([*OSST, "emulator", "--port", port], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.startswith("osst emulator: ")
    assert port in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_the_access_key_comes_from_arguments_or_the_environment() -> None:
    with running("--access-key-id", "id", "--access-key-secret", "secret", "--bucket", "bucket") as (_, line):
        client_of(line, "id", "secret").put("oss://bucket/a", b"")
    environment = {"OSS_ACCESS_KEY_ID": "from-env", "OSS_ACCESS_KEY_SECRET": "env-secret"}
    with running("--bucket", "bucket", environment=environment) as (_, line):
        client_of(line, "from-env", "env-secret").put("oss://bucket/a", b"")


def test_more_access_keys_come_from_files(tmp_path: Path) -> None:
    permanent, temporary = tmp_path / "permanent.json", tmp_path / "temporary.json"
    permanent.write_text('{"AccessKeyId": "other-id", "AccessKeySecret": "other-secret"}')
    temporary.write_text(
        '{"AccessKeyId": "STS.id", "AccessKeySecret": "sts-secret", "SecurityToken": "token",'
        ' "Expiration": "2099-01-01T00:00:00Z"}'
    )
    files = ["--credentials", str(permanent), "--credentials", str(temporary)]
    with running("--bucket", "bucket", *files) as (_, line):
        client_of(line).put("oss://bucket/a", b"content")
        for path in (permanent, temporary):
            client = OssClient(line.strip(), str(path), region="cn-hangzhou")
            assert client.get("oss://bucket/a") == b"content"
    missing = subprocess.run(
        [*OSST, "emulator", "--credentials", str(tmp_path / "missing")], capture_output=True, text=True, check=False
    )
    assert (missing.returncode, missing.stdout) == (1, "")
    assert "missing' cannot be read" in missing.stderr


def test_tls_writes_the_certificates_to_trust(tmp_path: Path) -> None:
    ca_bundle = tmp_path / "ca.pem"
    with running("--tls", "--write-ca-bundle", str(ca_bundle), "--bucket", "bucket") as (_, line):
        assert line.startswith("https://127.0.0.1:")
        config = OssConfig(access_key_id="emulator", access_key_secret="emulator-secret", ca_bundle=str(ca_bundle))
        client = OssClient(line.strip(), region="cn-hangzhou", config=config)
        client.put("oss://bucket/a", b"content")
        assert client.get("oss://bucket/a") == b"content"


def test_no_verify_accepts_any_signature() -> None:
    with running("--no-verify", "--bucket", "bucket") as (_, line):
        client_of(line, "anyone", "anything").put("oss://bucket/a", b"")


def test_fast_etags_still_store(tmp_path: Path) -> None:
    with running("--etag", "fast", "--root", str(tmp_path), "--fsync", "--bucket", "bucket") as (_, line):
        etag = client_of(line).put("oss://bucket/a", b"content")
        assert client_of(line).get("oss://bucket/a") == b"content"
    assert etag != "9A0364B9E99BB480DD25E1F0284C8555"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "required: COMMAND"),
        (["emulator", "--port", "65536"], "'65536' is no port"),
        (["emulator", "--port", "-1"], "--port"),
        (["emulator", "--access-key-id", "id"], "needs an ID and a secret"),
        (["emulator", "--etag", "sha"], "--etag"),
        (["emulator", "--tls-key", "key.pem"], "--tls-certificate and --tls-key together"),
        (["emulator", "--restore-seconds", "-1"], "'-1' is no number of seconds"),
        (["nothing"], "nothing"),
    ],
)
def test_wrong_arguments_are_reported(capsys: pytest.CaptureFixture[str], arguments: list[str], complaint: str) -> None:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with pytest.raises(SystemExit) as caught:
            main(arguments)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert caught.value.code == 2
    assert complaint in capsys.readouterr().err


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["emulator", "--help"])
    text = capsys.readouterr().out
    assert "emulator-secret" in text
    assert "until-stdin-closes" not in text
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"osst {__version__}\n"
