"""The archive to send holds what helps, and no secret."""

import json
import re
import zipfile
from pathlib import Path

import pytest

from osstorchconnector.cli.__main__ import main
from osstorchconnector.testing import Emulator
from tests.cli.doctor.conftest import Examine

SECRETS = {
    "OSS_ACCESS_KEY_SECRET": "secret-of-the-environment",
    "OSS_SESSION_TOKEN": "token-of-the-environment",
    "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "secret-of-another-tool",
    "WANDB_API_KEY": "key-of-another-service",
    "HF_TOKEN": "token-of-another-service",
    "DATABASE_URL": "postgres://user:password-of-a-database@host/name",
    "HTTPS_PROXY": "http://user:password-of-the-proxy@127.0.0.1:1",
}


def contents(path: Path) -> dict[str, str]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name).decode() for name in archive.namelist()}


@pytest.fixture
def _with_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("_with_secrets")
def test_it_holds_no_secret(
    examine: Examine, emulator: Emulator, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    path = tmp_path / "bundle.zip"
    examine(f"oss://{bucket}/", f"--bundle={path}")
    found = contents(path)
    assert set(found) == {
        *("README.txt", "report.json", "report.txt", "environment.json", "packages.txt", "system.json")
    }
    hidden = [re.sub(r"^.*user:|@.*$", "", value) for value in SECRETS.values()]
    assert "password-of-the-proxy" in hidden
    for secret in (*hidden, emulator.access_key_secret, emulator.access_key_id):
        assert secret.encode() not in path.read_bytes()
        assert [name for name, content in found.items() if secret in content] == []
    environment = json.loads(found["environment.json"])
    assert environment["OMP_NUM_THREADS"] == "7"
    assert environment["OSS_ACCESS_KEY_SECRET"] == environment["OSS_SESSION_TOKEN"] == "set"
    assert environment["HTTPS_PROXY"] == "http://***@127.0.0.1:1"
    assert not {"WANDB_API_KEY", "HF_TOKEN", "DATABASE_URL", "HOME", "PATH"} & environment.keys()
    report = json.loads(found["report.json"])
    assert {one["name"] for one in report["findings"]} > {"endpoint", "clock", "list", "descriptors"}
    assert "descriptors" in found["report.txt"]
    assert "torch " in found["packages.txt"]


@pytest.mark.parametrize(("key", "name"), [("logPath", "log.txt"), ("auditPath", "audit.txt")])
def test_a_secret_in_a_log_stops_it(
    examine: Examine, emulator: Emulator, tmp_path: Path, capsys: pytest.CaptureFixture[str], key: str, name: str
) -> None:
    log, config, path = tmp_path / "log", tmp_path / "config.json", tmp_path / "bundle.zip"
    config.write_text(json.dumps({key: str(log)}))
    log.write_text("a line\n")
    examine(f"--bundle={path}", config_path=str(config))
    assert contents(path)[name].startswith("a line\n")
    path.unlink()
    log.write_text(f"written by another program: {emulator.access_key_secret}\n")
    connection = ["--endpoint", emulator.endpoint, "--region", emulator.region, "--cred-path", emulator.cred_path]
    status = main(["doctor", "--config-path", str(config), "--bundle", str(path), *connection])
    captured = capsys.readouterr()
    assert status == 2
    assert f"{name} would contain a secret" in captured.err
    assert emulator.access_key_secret not in captured.out + captured.err
    assert not path.exists()
    assert list(tmp_path.glob(".osst-doctor-*")) == []


def test_a_place_that_cannot_be_written_is_named(examine: Examine, tmp_path: Path) -> None:
    assert examine(f"--bundle={tmp_path / 'missing' / 'bundle.zip'}").status == 2
