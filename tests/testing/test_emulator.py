import json
import os
import signal
import socket
import ssl
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from osstorchconnector import OssClient, OssConnectionError, OssNotFoundError
from osstorchconnector.testing import Emulator


def test_it_is_ready_inside_the_block() -> None:
    with Emulator(buckets=["first", "second"]) as emulator:
        client = emulator.client()
        client.put("oss://first/a", b"content")
        assert client.get("oss://first/a") == b"content"
        assert list(client.list("oss://second/")) == []
        emulator.create_bucket("third")
        assert list(client.list("oss://third/")) == []
        endpoint = emulator.endpoint
    assert endpoint.startswith("http://127.0.0.1:")


def test_its_end_leaves_nothing() -> None:
    emulator = Emulator()
    with emulator:
        cred_path = Path(emulator.cred_path)
        assert cred_path.exists()
    assert not cred_path.parent.exists()
    emulator.stop()
    with emulator:
        emulator.create_bucket("again")


def test_the_credential_file_is_private_and_in_the_documented_form(emulator: Emulator) -> None:
    path = Path(emulator.cred_path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert json.loads(path.read_text()) == {
        "AccessKeyId": emulator.access_key_id,
        "AccessKeySecret": emulator.access_key_secret,
    }


def test_the_secret_is_not_on_the_command_line() -> None:
    emulator = Emulator()
    assert emulator.access_key_secret not in emulator._arguments
    assert emulator.access_key_secret != Emulator().access_key_secret


def test_it_cannot_be_started_twice(emulator: Emulator) -> None:
    with pytest.raises(RuntimeError, match="already running"):
        emulator.start()


def test_a_taken_port_is_reported(emulator: Emulator) -> None:
    port = int(emulator.endpoint.rpartition(":")[2])
    with pytest.raises(OssConnectionError, match=rf"ended with status 1: osst emulator: .*{port}"):
        Emulator(port=port).start()


def test_a_wrong_bucket_name_is_reported() -> None:
    with pytest.raises(OssConnectionError, match="No_Bucket"):
        Emulator(buckets=["No_Bucket"]).start()


def test_a_directory_keeps_its_objects(tmp_path: Path) -> None:
    with Emulator(root=tmp_path, buckets=["kept"]) as emulator:
        emulator.client().put("oss://kept/a/b", b"content")
    with Emulator(root=tmp_path) as emulator:
        assert emulator.client().get("oss://kept/a/b") == b"content"


def test_the_fixture_is_an_empty_server_of_its_own(oss_emulator: Emulator, emulator: Emulator) -> None:
    assert oss_emulator.endpoint != emulator.endpoint
    with pytest.raises(OssNotFoundError):
        oss_emulator.client().get("oss://test-bucket/a")


def test_a_forked_child_does_not_stop_it() -> None:
    with Emulator(buckets=["bucket"]) as emulator:
        child = os.fork()
        if child == 0:
            emulator.stop()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        emulator.client().put("oss://bucket/a", b"still there")


def test_a_forked_child_that_ends_as_programs_do_leaves_its_files() -> None:
    program = """
import os, sys
from pathlib import Path
from osstorchconnector.testing import Emulator

with Emulator(buckets=["bucket"]) as emulator:
    child = os.fork()
    if child == 0:
        sys.exit()
    assert os.waitpid(child, 0)[1] == 0
    emulator.client().put("oss://bucket/a", b"the key is still there")
    directory = Path(emulator.cred_path).parent
assert not directory.exists()
abandoned = Emulator()
abandoned.start()
print(abandoned.cred_path)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not Path(ended.stdout.strip()).parent.exists()


def test_it_ends_when_its_parent_is_killed() -> None:
    program = (
        "import sys, time\n"
        "from osstorchconnector.testing import Emulator\n"
        "emulator = Emulator(buckets=['bucket'], verify_signatures=False)\n"
        "emulator.start()\n"
        "print(emulator.endpoint, emulator.cred_path, flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        endpoint, cred_path = parent.stdout.readline().split()
        client = OssClient(endpoint, cred_path, region="cn-hangzhou")
        client.put("oss://bucket/a", b"")
        # The server holds the other end of this pipe, so the pipe ends after both processes have ended.
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    refused = OssClient(endpoint, cred_path, region="cn-hangzhou")
    _wait_until_refused(refused)
    Path(cred_path).unlink()
    for path in Path(cred_path).parent.iterdir():
        path.unlink()
    Path(cred_path).parent.rmdir()


def _wait_until_refused(client: OssClient) -> None:
    # If the server lives on, the test's time limit ends this.
    while True:
        try:
            client.get("oss://bucket/a")
        except OssConnectionError:
            return


@pytest.mark.parametrize("domain", [None, "oss.test"])
def test_tls_is_trusted_with_its_own_certificates_only(domain: str | None) -> None:
    with Emulator(tls=True, buckets=["bucket"], domain=domain) as emulator:
        assert emulator.endpoint.startswith("https://127.0.0.1:")
        client = emulator.client()
        client.put("oss://bucket/a", b"x" * 1_000_000)
        assert client.get("oss://bucket/a") == b"x" * 1_000_000
        assert OssClient(emulator.endpoint, region=emulator.region, config=emulator.config).get("oss://bucket/a", 0, 3)
        stranger = OssClient(emulator.endpoint, emulator.cred_path, region=emulator.region)
        with pytest.raises(OssConnectionError, match="is not trusted"):
            stranger.get("oss://bucket/a")
        # As strict as Python's standard library can be.
        context = ssl.create_default_context(cafile=emulator.ca_bundle)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        name = "localhost" if domain is None else f"bucket.{domain}"
        port = int(emulator.endpoint.rpartition(":")[2])
        with (
            socket.create_connection(("127.0.0.1", port)) as plain,
            context.wrap_socket(plain, server_hostname=name) as secure,
        ):
            assert secure.version() == "TLSv1.3"
        ca_bundle = Path(emulator.ca_bundle)
    assert not ca_bundle.exists()


def test_tls_with_given_files(tmp_path: Path) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    with pytest.raises(OssConnectionError, match=r"certificate\.pem cannot be used for TLS"):
        Emulator(tls=(certificate, key)).start()
