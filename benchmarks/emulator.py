"""The emulator beside Debian's nginx serving the same bytes from the page cache.

Each server is pinned to one core and ``wrk`` to another. The servers take turns, so that a change of the machine's
speed affects all of them, and the medians are compared. The output also says how busy the server's core was: if it was
not busy, ``wrk`` was the limit.

Needs ``nginx`` and ``wrk``, on Debian ``apt-get install nginx-light wrk``.
"""

import argparse
import datetime as dt
import hashlib
import hmac
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

BUCKET = "bench"
REGION = "cn-hangzhou"
ACCESS_KEY_ID = "bench-id"
ACCESS_KEY_SECRET = "bench-secret"  # noqa: S105 - of a server that lives for a minute
HOST = "127.0.0.1"
# More bytes than a processor's cache holds, so that each server reads them from memory.
SMALL_OBJECTS = 1_000
SMALL_SIZE = 100_000
LARGE_SIZE = 1 << 30
# A part of the usual size.
UPLOAD_SIZE = 8 << 20
# The share of nginx's rate below which the emulator would be the bottleneck of a benchmark on the other core.
BARS = {"small": 0.70, "signed": 0.50, "large": 0.80, "upload": 1e9, "memory": 300.0, "pages": 1.5}

# The settings for files of Debian's nginx.conf, and the fastest settings found here. The faster one sets the target.
NGINX = {
    "nginx, Debian's settings": "sendfile on; tcp_nopush on;",
    "nginx, tuned": "sendfile off; open_file_cache max=2000; output_buffers 2 512k;",
}

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


@dataclass(frozen=True)
class Server:
    """A server under test."""

    port: int
    pid: int

    def cpu_seconds(self) -> float:
        """Return the processor time used so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_bytes(self) -> int:
        """Return the memory held."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Load:
    """The figures of one run of wrk."""

    requests: float
    bytes: float
    busy: float


def free_port() -> int:
    """Return a free port."""
    with socket.create_server((HOST, 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def wait_until_open(port: int) -> None:
    """Wait until a server listens on a port."""
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection((HOST, port)).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def pinned(core: int, *command: str) -> list[str]:
    """Return the command, pinned to one core."""
    return ["taskset", "--cpu-list", str(core), *command]


@contextmanager
def running(command: list[str], port: int, environment: dict[str, str] | None = None) -> Iterator[Server]:
    """Run a server until the block ends."""
    process = subprocess.Popen(command, env={**os.environ, **(environment or {})}, stdout=subprocess.DEVNULL)
    try:
        wait_until_open(port)
        yield Server(port, process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


@contextmanager
def nginx(core: int, folder: Path, settings: str) -> Iterator[Server]:
    """Serve a folder, without an access log."""
    port = free_port()
    configuration = folder / f"nginx-{port}.conf"
    user = "user root;" if os.geteuid() == 0 else ""
    configuration.write_text(f"""
        {user} daemon off; master_process off; worker_processes 1; pid {folder}/nginx-{port}.pid;
        error_log {folder}/error.log;
        events {{ worker_connections 768; }}
        http {{
          {settings} access_log off; keepalive_requests 100000000;
          client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
          uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
          server {{ listen {HOST}:{port}; root {folder}/files; }}
        }}""")
    with running(pinned(core, "nginx", "-p", str(folder), "-c", str(configuration)), port) as server:
        yield server


@contextmanager
def emulator(core: int, *options: str) -> Iterator[Server]:
    """Run the emulator as its command does."""
    port = free_port()
    command = [sys.executable, "-m", "osstorchconnector.cli", "emulator", "--port", str(port), "--bucket", BUCKET]
    keys = {"OSS_ACCESS_KEY_ID": ACCESS_KEY_ID, "OSS_ACCESS_KEY_SECRET": ACCESS_KEY_SECRET}
    with running(pinned(core, *command, *options), port, keys) as server:
        yield server


def signature(key: str) -> str:
    """Return the headers that sign a GET."""
    stamp = dt.datetime.now(dt.UTC).strftime("%Y%m%dT%H%M%SZ")
    scope = f"{stamp[:8]}/{REGION}/oss/aliyun_v4_request"
    headers = f"x-oss-content-sha256:UNSIGNED-PAYLOAD\nx-oss-date:{stamp}\n"
    canonical = f"GET\n/{BUCKET}/{key}\n\n{headers}\n\nUNSIGNED-PAYLOAD"
    text = f"OSS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    secret = f"aliyun_v4{ACCESS_KEY_SECRET}".encode()
    for part in scope.split("/"):
        secret = hmac.digest(secret, part.encode(), "sha256")
    signed = hmac.new(secret, text.encode(), "sha256").hexdigest()
    return (
        f"x-oss-content-sha256: UNSIGNED-PAYLOAD\\r\\nx-oss-date: {stamp}\\r\\n"
        f"Authorization: OSS4-HMAC-SHA256 Credential={ACCESS_KEY_ID}/{scope},Signature={signed}\\r\\n"
    )


def small_keys() -> list[str]:
    """Return the keys of the small objects."""
    return [f"{index:06}.jpg" for index in range(SMALL_OBJECTS)]


def script(path: Path, requests: list[str]) -> Path:
    """Write a script for wrk that sends the requests in turn; all are made before the run, so that costs no time."""
    lines = ",\n".join(f'"{request}"' for request in requests)
    path.write_text(
        f"local requests = {{\n{lines}\n}}\nlocal index = 0\n"
        "request = function() index = index % #requests + 1; return requests[index] end\n"
    )
    return path


def get(path: str, headers: str = "") -> str:
    """Return a GET as a literal of Lua."""
    return f"GET {path} HTTP/1.1\\r\\nHost: {HOST}\\r\\n{headers}\\r\\n"


def wrk(core: int, server: Server, script: Path, connections: int, seconds: int) -> Load:
    """Put load on a server."""
    options = ["-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(script), f"http://{HOST}:{server.port}/"]
    before, start = server.cpu_seconds(), time.monotonic()
    done = subprocess.run(pinned(core, "wrk", *options), capture_output=True, text=True, check=True)
    busy = (server.cpu_seconds() - before) / (time.monotonic() - start)
    if "Non-2xx" in done.stdout or "Socket errors" in done.stdout:
        raise SystemExit(done.stdout)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    transfer = re.search(r"Transfer/sec:\s+([\d.]+)([KMG]?)B", done.stdout)
    if rate is None or transfer is None:
        raise SystemExit(done.stdout)
    return Load(float(rate[1]), float(transfer[1]) * _UNITS[transfer[2]], busy)


def exchange(connection: socket.socket, requests: list[bytes]) -> list[bytes]:
    """Send requests at once and return the bodies of the answers; each answer must be a success."""
    connection.sendall(b"".join(requests))
    received = bytearray()
    bodies: list[bytes] = []
    while len(bodies) < len(requests):
        end = received.find(b"\r\n\r\n")
        if end >= 0:
            head = bytes(received[:end]).lower()
            length = re.search(rb"content-length: (\d+)", head)
            stop = end + 4 + (int(length[1]) if length else 0)
            if not head.startswith(b"http/1.1 200"):
                raise SystemExit(received.decode(errors="replace"))
            if len(received) >= stop:
                bodies.append(bytes(received[end + 4 : stop]))
                del received[:stop]
                continue
        block = connection.recv(1 << 20)
        if not block:
            raise SystemExit("the emulator closed the connection")
        received += block
    return bodies


def put(key: str, body: bytes) -> bytes:
    """Return the bytes of a PUT."""
    head = f"PUT /{BUCKET}/{key} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(body)}"
    return f"{head}\r\n\r\n".encode() + body


def get_object(key: str) -> bytes:
    """Return the bytes of a GET."""
    return f"GET /{BUCKET}/{key} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()


def listed_key(number: int) -> str:
    """Return a key like those of data sets."""
    return f"train/n{number // 1000:05}/{number:09}.jpeg"


def fill(server: Server, files: Path) -> None:
    """Put the files that nginx serves into the emulator."""
    with socket.create_connection((HOST, server.port)) as connection:
        for path in sorted((files / BUCKET).iterdir()):
            exchange(connection, [put(path.name, path.read_bytes())])


def report(
    name: str, rates: dict[str, list[float]], busy: dict[str, float], unit: str, scale: float
) -> dict[str, float]:
    """Print the medians of one question and return their ratios to the faster nginx."""
    medians = {server: statistics.median(values) for server, values in rates.items()}
    best = max(medians[server] for server in NGINX)
    print(f"\n{name}")
    for server, median in medians.items():
        ratio = f"{median / best:6.0%} of the faster nginx" if server not in NGINX else ""
        cost = busy[server] / median * scale * 1e6
        print(
            f"  {server:24} {median / scale:10.1f} {unit}/s, core {busy[server]:4.0%} busy, "
            f"{cost:9,.1f} µs of core per {unit}  {ratio}"
        )
    return {server: median / best for server, median in medians.items()}


def compare_reads(cores: tuple[int, int], folder: Path, seconds: int, rounds: int) -> dict[str, float]:
    """Measure small and large reads beside nginx."""
    files = folder / "files"
    (files / BUCKET).mkdir(parents=True)
    body = os.urandom(SMALL_SIZE)
    for index, key in enumerate(small_keys()):
        (files / BUCKET / key).write_bytes(index.to_bytes(4, "big") + body[4:])
    with (files / BUCKET / "large").open("wb") as large:
        block = os.urandom(1 << 20)
        for _ in range(LARGE_SIZE // len(block)):
            large.write(block)
    paths = [f"/{BUCKET}/{key}" for key in small_keys()]
    plain = script(folder / "plain.lua", [get(path) for path in paths])
    one = script(folder / "large.lua", [get(f"/{BUCKET}/large")])
    results: dict[str, float] = {}
    with ExitStack() as stack:
        references = {name: stack.enter_context(nginx(cores[0], folder, lines)) for name, lines in NGINX.items()}
        unchecked = stack.enter_context(emulator(cores[0], "--no-verify", "--etag=fast"))
        checked = stack.enter_context(emulator(cores[0], "--etag=fast"))
        fill(unchecked, files)
        fill_signed(checked, files)
        signed = script(
            folder / "signed.lua",
            [get(path, signature(key)) for path, key in zip(paths, small_keys(), strict=True)],
        )
        runs: dict[str, Callable[[], Load]] = {
            name: partial(wrk, cores[1], server, plain, 16, seconds)
            for name, server in {**references, "emulator, unchecked": unchecked}.items()
        }
        runs["emulator, V4 checked"] = partial(wrk, cores[1], checked, signed, 16, seconds)
        rates, busy = alternate(runs, rounds, lambda load: load.requests)
        ratios = report(f"objects of {SMALL_SIZE} bytes over 16 connections", rates, busy, "request", 1)
        results["small"] = ratios["emulator, unchecked"]
        results["signed"] = ratios["emulator, V4 checked"]
        runs = {
            name: partial(wrk, cores[1], server, one, 1, seconds)
            for name, server in {**references, "emulator, unchecked": unchecked}.items()
        }
        rates, busy = alternate(runs, rounds, lambda load: load.bytes)
        ratios = report("a body of 1 GiB over one connection", rates, busy, "GB", 1e9)
        results["large"] = ratios["emulator, unchecked"]
    return results


def fill_signed(server: Server, files: Path) -> None:
    """Put the small files into an emulator that checks signatures, with this package's client."""
    from osstorchconnector import OssClient, OssConfig

    config = OssConfig(access_key_id=ACCESS_KEY_ID, access_key_secret=ACCESS_KEY_SECRET)
    client = OssClient(f"http://{HOST}:{server.port}", region=REGION, config=config)
    for key in small_keys():
        client.put(f"oss://{BUCKET}/{key}", (files / BUCKET / key).read_bytes())


def alternate(
    runs: dict[str, Callable[[], Load]], rounds: int, value: Callable[[Load], float]
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Run all servers in turn, several times; return the rates and how busy each server was."""
    loads: dict[str, list[Load]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            loads[name].append(run())
    rates = {name: [value(load) for load in found] for name, found in loads.items()}
    return rates, {name: statistics.median(load.busy for load in found) for name, found in loads.items()}


def measure_uploads(cores: tuple[int, int], folder: Path, seconds: int, rounds: int) -> float:
    """Return the bytes per second that one core takes in."""
    path = folder / "upload.lua"
    path.write_text(
        f"local body = string.rep('0123456789abcdef', {UPLOAD_SIZE // 16})\nlocal index = 0\nlocal requests = {{}}\n"
        "for key = 1, 16 do\n"
        f"  requests[key] = 'PUT /{BUCKET}/upload-' .. key .. ' HTTP/1.1\\r\\nHost: {HOST}\\r\\n"
        "Content-Length: ' .. #body .. '\\r\\n\\r\\n' .. body\n"
        "end\nrequest = function() index = index % 16 + 1; return requests[index] end\n"
    )
    with emulator(cores[0], "--no-verify", "--etag=fast") as server:
        loads = [wrk(cores[1], server, path, 4, seconds) for _ in range(rounds)]
    rate = statistics.median(load.requests for load in loads) * UPLOAD_SIZE
    busy = statistics.median(load.busy for load in loads)
    print(f"\nuploads of {UPLOAD_SIZE >> 20} MiB over 4 connections, --etag=fast")
    print(f"  {'emulator, unchecked':24} {rate / 1e9:10.2f} {'GB/s':10} core {busy:4.0%} busy")
    return rate


def measure_listing(cores: tuple[int, int], count: int) -> dict[str, float]:
    """Fill a bucket, list it in pages, and return the bytes per object and how much later pages are slower."""
    body = bytes(100)
    page = 1000
    with (
        emulator(cores[0], "--no-verify", "--etag=fast") as server,
        socket.create_connection((HOST, server.port)) as connection,
    ):
        # Fill what the server keeps for itself, such as the request log, before the count begins.
        for _ in range(40):
            exchange(connection, [put("warm", body)] * 500)
        before = server.resident_bytes()
        for start in range(0, count, 500):
            exchange(
                connection,
                [put(listed_key(key), body) for key in range(start, start + 500)],
            )
        # A first read may add memory too.
        for start in range(0, count, 500):
            exchange(connection, [get_object(listed_key(key)) for key in range(start, start + 500)])
        each = (server.resident_bytes() - before) / count - len(body)
        times = []
        listed = 0
        token = ""
        while True:
            query = f"list-type=2&max-keys={page}&prefix=train%2F{token}"
            head = f"GET /{BUCKET}/?{query} HTTP/1.1\r\nHost: {HOST}\r\n\r\n"
            began = time.perf_counter()
            (answer,) = exchange(connection, [head.encode()])
            times.append(time.perf_counter() - began)
            listed += answer.count(b"<Key>")
            found = re.search(rb"<NextContinuationToken>([^<]+)<", answer)
            if found is None:
                break
            token = f"&continuation-token={found[1].decode()}"
    if listed != count:
        raise SystemExit(f"{listed} of {count} objects were listed")
    tenth = max(1, len(times) // 10)
    first, last = statistics.median(times[:tenth]), statistics.median(times[-tenth:])
    print(f"\n{count} objects of {len(body)} bytes listed in {len(times)} pages of {page}")
    print(
        f"  {sum(times):.2f} s in all; a page of the first tenth {first * 1e3:.2f} ms, of the last {last * 1e3:.2f} ms"
    )
    print(f"  memory beyond the content after each was read once, keys included: {each:.0f} bytes per object")
    return {"pages": last / first, "memory": each}


def main() -> int:
    """Run all comparisons."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=4, help="length of one run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--listed", type=int, default=1_000_000, help="objects in the bucket that is listed")
    parser.add_argument("--cores", default="0,1", help="core of the servers and core of wrk")
    parser.add_argument("--only", choices=("reads", "uploads", "listing"), help="one question only")
    parser.add_argument("--json", type=Path, help="file to write the results to")
    arguments = parser.parse_args()
    missing = [tool for tool in ("nginx", "wrk", "taskset") if shutil.which(tool) is None]
    if missing:
        sys.stderr.write(f"missing: {', '.join(missing)}; on Debian: apt-get install nginx-light wrk util-linux\n")
        return 1
    server_core, client_core = map(int, arguments.cores.split(","))
    cores = (server_core, client_core)
    results: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="bench-emulator-") as name:
        folder = Path(name)
        if arguments.only in (None, "reads"):
            results |= compare_reads(cores, folder, arguments.seconds, arguments.rounds)
        if arguments.only in (None, "uploads"):
            results["upload"] = measure_uploads(cores, folder, arguments.seconds, arguments.rounds)
        if arguments.only in (None, "listing"):
            results |= measure_listing(cores, arguments.listed)
    print("\nbars:")
    for question, value in results.items():
        bar = BARS[question]
        good = value <= bar if question in ("memory", "pages") else value >= bar
        print(f"  {question:8} {value:14,.2f}  bar {bar:14,.2f}  {'met' if good else 'MISSED'}")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
