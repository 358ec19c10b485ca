"""Servers that cost less than the clients under test: nginx over files, a sink of uploads, and the emulator."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.suite.contenders import BUCKET, REGION, Site
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


@contextmanager
def _running(command: list[str], port: int) -> Iterator[None]:
    """Run a server on its processor until the block ends."""
    process = subprocess.Popen(["taskset", "--cpu-list", _CORE, *command], stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection((_HOST, port)).close()
                break
            except OSError:
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


@contextmanager
def nginx(folder: Path, sums: Mapping[str, int]) -> Iterator[Site]:
    """Serve the files of a folder as OSS does, each with its true checksum, by path and by host name.

    Each file has a second key, below `AGAIN`. So half as many files serve the objects, and the server can keep all of
    them open, also if a process may open only 20,000.
    """
    port = free_port()
    user = "user root;" if os.geteuid() == 0 else ""
    files = f"{folder}/files/{BUCKET}"
    checksums = "\n".join(f'"{files}/{key}" {value};' for key, value in sums.items())
    headers = """add_header x-oss-hash-crc64ecma $checksum; add_header x-oss-request-id 0123456789ABCDEF01234567;
            add_header x-oss-object-type Normal;"""
    (folder / "nginx.conf").write_text(f"""
        {user} daemon off; master_process off; worker_processes 1; worker_rlimit_nofile 65536;
        pid {folder}/nginx.pid; error_log {folder}/error.log;
        events {{ worker_connections 4096; }}
        http {{
          sendfile off; output_buffers 2 512k; open_file_cache max=15000; access_log off; keepalive_requests 100000000;
          client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
          uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
          map_hash_max_size 262144; map_hash_bucket_size 256;
          map $request_filename $checksum {{ default ""; {checksums} }}
          server {{
            listen {_HOST}:{port}; listen [::1]:{port}; root {folder}/files; {headers}
            location /{BUCKET}/{AGAIN}/ {{ alias {files}/; }}
          }}
          server {{
            listen {_HOST}:{port}; listen [::1]:{port}; server_name {BUCKET}.localhost; root {files}; {headers}
            location /{AGAIN}/ {{ alias {files}/; }}
          }}
        }}""")
    with _running(["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")], port):
        yield Site(port, folder)


@contextmanager
def sink(folder: Path) -> Iterator[Site]:
    """Take uploads and forget them."""
    port = free_port()
    with _running([sys.executable, str(Path(__file__).with_name("sink.py")), str(port)], port):
        yield Site(port, folder)


@contextmanager
def emulator(folder: Path, host: str = "::1") -> Iterator[tuple[Emulator, Site]]:
    """Run the emulator on the processor of the servers, with ETags that are not MD5, by path and by host name.

    The name that the original needs resolves to ``::1`` first. If that is refused, the original waits 100 ms.
    """
    with Emulator(host=host, buckets=[BUCKET], region=REGION, etag="fast") as server:
        port = urlsplit(server.endpoint).port or 80
        subprocess.run(
            ["taskset", "--all-tasks", "--cpu-list", "--pid", _CORE, str(_child())],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        address = f"[{host}]" if ":" in host else host
        yield server, Site(port, folder, server.access_key_id, server.access_key_secret, address)


def _child() -> int:
    """Return the child process that was started last."""
    return int(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()[-1])
