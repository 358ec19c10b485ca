"""Servers that cost less than the clients under test: nginx over files, a sink of uploads, and the emulator."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.suite.contenders import BUCKET, REGION, Site
from osstorchconnector import OssClient
from osstorchconnector._native import crc64
from osstorchconnector.testing import Emulator

_HOST = "127.0.0.1"
# The second keys of the files begin with this.
AGAIN = "again"
# The last processor is for the servers; the client under test may use all.
_CORE = str((os.cpu_count() or 1) - 1)


def free_port() -> int:
    """Return a free port."""
    with socket.create_server((_HOST, 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@dataclass(frozen=True)
class Place:
    """The place at which a server listens.

    Attributes:
        addresses: Its addresses, as in a URL.
        named_host: The name that clients put a bucket before.
        prefix: The command that its command follows, such as that of a network namespace.
    """

    addresses: tuple[str, ...] = (_HOST, "[::1]")
    named_host: str = "localhost"
    prefix: tuple[str, ...] = ()


LOCAL = Place()


@contextmanager
def running(command: list[str], port: int, place: Place = LOCAL) -> Iterator[None]:
    """Run a server on its processor until the block ends."""
    whole = [*place.prefix, "taskset", "--cpu-list", _CORE, *command]
    process = subprocess.Popen(whole, stdout=subprocess.DEVNULL)
    probe = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2]))).close()"
    address = place.addresses[0].strip("[]")
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                if place.prefix:
                    probing = [*place.prefix, sys.executable, "-c", probe, address, str(port)]
                    subprocess.run(probing, check=True, stderr=subprocess.DEVNULL)
                else:
                    socket.create_connection((address, port)).close()
                break
            except (OSError, subprocess.CalledProcessError):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def write_objects(folder: Path, objects: Iterable[tuple[str, bytes]]) -> dict[str, int]:
    """Write objects as files for `nginx`, and return their checksums."""
    sums = {}
    for key, body in objects:
        path = folder / "files" / BUCKET / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
        sums[key] = crc64(body)
    return sums


#: How nginx sends files if nothing else is said: the pages of its cache cost the receiver more.
COPY = "sendfile off; output_buffers 2 512k;"


@contextmanager
def nginx(
    folder: Path,
    sums: Mapping[str, int],
    *,
    sending: str = COPY,
    tls: str = "",
    place: Place = LOCAL,
    behind: Mapping[int, str] | None = None,
) -> Iterator[Site]:
    """Serve the files of a folder as OSS does, each with its true checksum, by path and by host name.

    Each file has a second key, below `AGAIN`. So half as many files serve the objects, and the server can keep all of
    them open, also if a process may open only 20,000.

    Args:
        folder: Its configuration is written here.
        sums: The CRC-64 of each object.
        sending: Directives that say how files are sent.
        tls: Directives of TLS, with a certificate. Empty: no TLS.
        place: The place at which it listens.
        behind: Further ports of it, and the URL of the server behind each.
    """
    port = free_port()
    user = "user root;" if os.geteuid() == 0 else ""
    files = f"{folder}/files/{BUCKET}"
    checksums = "\n".join(f'"{files}/{key}" {value};' for key, value in sums.items())
    headers = """add_header x-oss-hash-crc64ecma $checksum; add_header x-oss-request-id 0123456789ABCDEF01234567;
            add_header x-oss-object-type Normal;"""

    def listen(number: int) -> str:
        return " ".join(f"listen {address}:{number}{' ssl' if tls else ''};" for address in place.addresses)

    fronts = "\n".join(
        f"""server {{ {listen(number)} client_max_body_size 0; location / {{ proxy_pass {url}; proxy_http_version 1.1;
            proxy_request_buffering off; proxy_buffering off; proxy_set_header Connection "";
            proxy_set_header Host $http_host; }} }}"""
        for number, url in (behind or {}).items()
    )
    (folder / "nginx.conf").write_text(f"""
        {user} daemon off; master_process off; worker_processes 1; worker_rlimit_nofile 65536;
        pid {folder}/nginx.pid; error_log {folder}/error.log;
        events {{ worker_connections 4096; }}
        http {{
          {sending} {tls} open_file_cache max=15000; access_log off; keepalive_requests 100000000;
          client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
          uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
          map_hash_max_size 262144; map_hash_bucket_size 256;
          map $request_filename $checksum {{ default ""; {checksums} }}
          server {{
            {listen(port)} root {folder}/files; {headers}
            location /{BUCKET}/{AGAIN}/ {{ alias {files}/; }}
          }}
          server {{
            {listen(port)} server_name {BUCKET}.{place.named_host}; root {files}; {headers}
            location /{AGAIN}/ {{ alias {files}/; }}
          }}
          {fronts}
        }}""")
    with running(["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")], port, place):
        host = place.addresses[0]
        yield Site(port, folder, host=host, named_host=place.named_host, scheme="https" if tls else "http")


@contextmanager
def sink(folder: Path, place: Place = LOCAL) -> Iterator[Site]:
    """Take uploads and forget them."""
    port = free_port()
    addresses = [address.strip("[]") for address in place.addresses]
    with running([sys.executable, str(Path(__file__).with_name("sink.py")), str(port), *addresses], port, place):
        yield Site(port, folder, host=place.addresses[0], named_host=place.named_host)


@contextmanager
def emulator(
    folder: Path, host: str = "::1", *, public: bool = False, imported: Path | None = None
) -> Iterator[tuple[Emulator, Site]]:
    """Run the emulator on the processor of the servers, with ETags that are not MD5, by path and by host name.

    The name that the original needs resolves to ``::1`` first. If that is refused, the original waits 100 ms.

    Args:
        folder: It may write here.
        host: The address that it listens on.
        public: Whether a client may read and write without a signature: the minimal ones do.
        imported: A folder whose files are its objects.
    """
    with Emulator(
        host=host, buckets=[BUCKET], region=REGION, etag="fast", allow_public_access=public, import_directory=imported
    ) as server:
        if public:
            open_to_all(server.client())
        port = urlsplit(server.endpoint).port or 80
        subprocess.run(
            ["taskset", "--all-tasks", "--cpu-list", "--pid", _CORE, str(_child())],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        address = f"[{host}]" if ":" in host else host
        yield server, Site(port, folder, server.access_key_id, server.access_key_secret, address)


def open_to_all(client: OssClient) -> None:
    """Let everybody read and write the bucket."""
    headers = [("x-oss-acl", "public-read-write")]
    client._native_client.request("PUT", BUCKET, None, query=[("acl", "")], headers=headers, body=b"")  # noqa: SLF001


@contextmanager
def remote_emulator(folder: Path, imported: Path, place: Place) -> Iterator[Site]:
    """Run the emulator in another place, without faults, with the files of a folder as objects."""
    port = free_port()
    command = [sys.executable, "-m", "osstorchconnector.cli", "emulator", "--port", str(port), "--bucket", BUCKET]
    command += ["--host", place.addresses[0], "--region", REGION, "--etag", "fast", "--import", str(imported)]
    site = Site(port, folder, host=place.addresses[0], named_host=place.named_host)
    keys = {"OSS_ACCESS_KEY_ID": site.access_key_id, "OSS_ACCESS_KEY_SECRET": site.access_key_secret}
    known = (*place.prefix, "env", *(f"{name}={value}" for name, value in keys.items()))
    with running(command, port, replace(place, prefix=known)):
        yield site


def _child() -> int:
    """Return the child process that was started last."""
    return int(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()[-1])
