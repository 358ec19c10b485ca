"""The certificate authorities to trust: from the configuration, the environment, or the system."""

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from osstorchconnector.testing import Emulator

PROGRAM = """
import sys
from osstorchconnector import OssClient, OssConfig
client = OssClient(sys.argv[1], cred_path=sys.argv[2], region="cn-hangzhou", config=OssConfig(connect_timeout=1))
print(client.list_buckets())
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Emulator]:
    with Emulator(tls=True, buckets=["bucket"]) as server:
        yield server


def run(server: Emulator, environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    # A process of its own: the variables are read when its first connection is made.
    command = [sys.executable, "-c", PROGRAM, server.endpoint, server.cred_path]
    environment = {"PYTHONPATH": ":".join(sys.path), **environment}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_the_variables_of_openssl_name_certificates(server: Emulator, tmp_path: Path) -> None:
    assert "not trusted" in run(server, {}).stderr
    assert run(server, {"SSL_CERT_FILE": server.ca_bundle}).stdout == "['bucket']\n"
    directory = tmp_path / "certificates"
    directory.mkdir()
    # A name as `openssl rehash` gives it: eight hexadecimal digits of the subject's hash, and a number.
    name = hashlib.sha256(b"subject").hexdigest()[:8]
    (directory / f"{name}.0").write_bytes(Path(server.ca_bundle).read_bytes())
    assert run(server, {"SSL_CERT_DIR": str(directory)}).stdout == "['bucket']\n"


def test_a_variable_that_names_nothing_leaves_nothing_trusted(server: Emulator, tmp_path: Path) -> None:
    assert "not trusted" in run(server, {"SSL_CERT_FILE": str(tmp_path / "missing.pem")}).stderr
