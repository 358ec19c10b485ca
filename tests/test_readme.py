"""The code in the README works as written, except for endpoint, port and paths."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from osstorchconnector import OssClient
from osstorchconnector.testing import Emulator

README = Path(__file__).parents[1] / "README.md"


def code_block(containing: str) -> str:
    blocks: list[str] = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    (block,) = [block for block in blocks if containing in block]
    return block


def test_every_python_block_is_run_here() -> None:
    assert README.read_text().count("```python") == 3


def test_the_first_example_reads_a_prefix(
    emulator: Emulator,
    client: OssClient,
    bucket: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for index in range(3):
        client.put(f"oss://{bucket}/images/{index}.png", b"x" * (10 + index))
    config = tmp_path / "config.json"
    config.write_text('{"logLevel": 1, "datasetConfig": {"prefetchConcurrency": 24}}')
    values = {
        "ENDPOINT": emulator.endpoint,
        "CONFIG_PATH": str(config),
        "CRED_PATH": emulator.cred_path,
        "OSS_URI": f"oss://{bucket}/images/",
    }
    code = code_block("# 1) from_prefix")
    for name, value in values.items():
        code, count = re.subn(rf'^{name} = ".*"$', f"{name} = {value!r}", code, flags=re.MULTILINE)
        assert count == 1, name
    # The documented endpoint names its region, but a server on this machine does not.
    monkeypatch.setenv("OSS_REGION", emulator.region)
    exec(compile(code, str(README), "exec"), {})
    lines = capsys.readouterr().out.split()
    expected = [(f"/{bucket}/images/{index}.png", str(10 + index), str(10 + index)) for index in range(3)]
    assert lines == [line for item in expected for line in item]


@pytest.mark.slow(60)
def test_the_example_without_an_account_works_when_pasted(tmp_path: Path) -> None:
    section = README.read_text().partition("## Without an account\n")[2].partition("\n## ")[0]
    shell, python, *_ = re.findall(r"```(?:sh|python)\n(.*?)```", section, flags=re.DOTALL)
    # As written, except for the port, which may be taken.
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    assert "9400" in shell
    assert "9400" in python
    script = f"set -m\n{shell}python - <<'END'\n{python}END\nstatus=$?\nkill %1\nexit $status\n".replace("9400", port)
    # Like a new shell, without settings of this process.
    environment = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    result = subprocess.run(
        ["bash", "-s"], input=script, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == [
        f"http://127.0.0.1:{port}",
        "/images/a.txt b'hello\\n'",
        "/images/b.txt b'world\\n'",
    ]


@pytest.mark.slow(60)
def test_the_pytest_example_passes(tmp_path: Path) -> None:
    (tmp_path / "test_example.py").write_text(code_block("oss_emulator"))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null", "test_example.py"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "1 passed" in result.stdout
