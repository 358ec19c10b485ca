"""The published wheel of the original: where it is installed, and how a program runs with it."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / ".venv" / "original-1.2.3"
# The packages that it imports, except torch, which is installed already.
REQUIREMENTS = {"osstorchconnector": "osstorchconnector==1.2.3", "safetensors": "safetensors>=0.3,<1"}
INSTALL_SECONDS = 120


def unavailable(reason: str) -> None:
    """Skip; or fail, if the environment demands that no test is skipped."""
    if os.environ.get("OSSTORCHCONNECTOR_REQUIRE_CONTRACT") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def installed() -> Path:
    """Return the folder of the installed wheel; the first call installs it."""
    if all((FOLDER / name).is_dir() for name in REQUIREMENTS):
        return FOLDER
    FOLDER.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="original-", dir=FOLDER.parent) as unfinished:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:"]
        command += ["--target", f"{unfinished}/site", *REQUIREMENTS.values()]
        try:
            done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=INSTALL_SECONDS)
        except subprocess.TimeoutExpired:
            unavailable(f"pip did not install {REQUIREMENTS['osstorchconnector']} within {INSTALL_SECONDS} seconds")
        if done.returncode != 0:
            unavailable(f"pip cannot install {REQUIREMENTS['osstorchconnector']}: {done.stderr.strip()}")
        # Renamed at the end, so that the folder is always complete.
        shutil.rmtree(FOLDER, ignore_errors=True)
        Path(unfinished, "site").rename(FOLDER)
    return FOLDER


def named_endpoint(endpoint: str) -> str:
    """Return an endpoint of the loopback interface as the original needs it: it puts the bucket into the host name."""
    try:
        socket.getaddrinfo("bucket.localhost", 80)
    except OSError as error:
        unavailable(f"bucket.localhost does not resolve ({error}); on Debian the package libnss-myhostname makes it")
    return f"http://localhost:{urlsplit(endpoint).port}"


def run(package: Path, program: str, *arguments: str, seconds: float = 100) -> None:
    """Run a program with the package of a folder."""
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env={**os.environ, "PYTHONPATH": str(package)},
        check=False,
        capture_output=True,
        text=True,
        timeout=seconds,
    )
    assert done.returncode == 0, done.stdout + done.stderr
