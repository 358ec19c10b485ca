"""The conditions that the main rows are measured in: servers, latencies, rates, TLS, and limits of connections.

Each has a name, by which it can be measured alone. Objects are read from nginx, or from the emulator where it imitates
a network; objects are saved into the sink, or into the emulator; prefixes are listed in the emulator.
"""

import json
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.suite import relay
from benchmarks.suite.contenders import BUCKET, ORIGINAL, OURS, Site
from benchmarks.suite.servers import COPY, Place, emulator, free_port, nginx, remote_emulator, sink

#: The time to the first byte, one way of a packet, and the share of lost packets between the namespaces.
PACKET_SECONDS, LOSS = 0.005, 0.001


@dataclass(frozen=True)
class Ground:
    """What one condition offers to the contenders.

    Attributes:
        reading, saving, listing: The servers.
        prefix: The command that a client's command follows, such as that of a network namespace.
        environment: Further variables of the clients.
        config_paths: The configuration file of each contender, if it is not the usual one.
    """

    reading: Site
    saving: Site
    listing: Site
    prefix: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    config_paths: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Objects:
    """The objects of all conditions, as files."""

    folder: Path
    sums: Mapping[str, int]


@dataclass(frozen=True)
class Condition:
    """One condition.

    Attributes:
        text: It, in words, for the report.
        serve: Runs its servers until the block ends.
        limits: What else limits a row, in words; empty if nothing does.
        is_possible: Whether this machine can make it.
        small: Number of small objects.
        large: Bytes of a large object.
    """

    text: str
    serve: Callable[[Objects, Path], AbstractContextManager[Ground]]
    limits: str = ""
    is_possible: Callable[[], bool] = lambda: True
    small: int = 10_000
    large: int = 512 << 20


@contextmanager
def _nginx(objects: Objects, folder: Path, *, sending: str = COPY) -> Iterator[Ground]:
    with (
        nginx(objects.folder, objects.sums, sending=sending) as reading,
        sink(folder) as saving,
        emulator(folder, public=True, imported=objects.folder / "files" / BUCKET) as (_, listing),
    ):
        yield Ground(reading, saving, listing)


@contextmanager
def _emulator(objects: Objects, folder: Path, **fault: Any) -> Iterator[Ground]:
    with emulator(folder, public=True, imported=objects.folder / "files" / BUCKET) as (server, site):
        if fault:
            server.fault(**fault)
        yield Ground(site, site, site)


@contextmanager
def _connections(objects: Objects, folder: Path, *, count: int) -> Iterator[Ground]:
    with _nginx(objects, folder) as ground:
        usual = json.loads(Path(ground.reading.config_path).read_text())
        paths = {}
        for name, more in ((OURS, {"maxConcurrency": count}), (ORIGINAL, {})):
            limited = {"prefetchConcurrency": count, "prefetchWorker": min(count, 2), "uploadConcurrency": count}
            path = folder / f"{name}.json"
            path.write_text(json.dumps({**usual, "datasetConfig": limited, "checkpointConfig": limited, **more}))
            paths[name] = str(path)
        yield replace(ground, config_paths=paths)


@contextmanager
def _tls(objects: Objects, folder: Path, *, version: str) -> Iterator[Ground]:
    names = "DNS:localhost,DNS:*.localhost,DNS:bench.localhost,IP:127.0.0.1,IP:::1"
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += [
        "-addext",
        "basicConstraints=critical,CA:FALSE",
        "-addext",
        f"subjectAltName={names}",
        "-keyout",
        str(key),
        "-out",
        str(certificate),
    ]
    subprocess.run(command, check=True, capture_output=True)
    tls = f"ssl_certificate {certificate}; ssl_certificate_key {key}; ssl_protocols {version};"
    to_sink, to_emulator = free_port(), free_port()
    with ExitStack() as stack:
        saving = stack.enter_context(sink(folder))
        files = objects.folder / "files" / BUCKET
        _, listing = stack.enter_context(emulator(folder, public=True, imported=files))
        behind = {to_sink: saving.endpoint, to_emulator: listing.endpoint}
        reading = stack.enter_context(nginx(objects.folder, objects.sums, tls=tls, behind=behind))
        trusted = {name: str(certificate) for name in ("SSL_CERT_FILE", "CURL_CA_BUNDLE")}
        yield Ground(
            reading,
            replace(saving, port=to_sink, scheme="https"),
            replace(listing, port=to_emulator, scheme="https"),
            environment=trusted,
        )


@contextmanager
def _network(objects: Objects, folder: Path) -> Iterator[Ground]:
    place = Place((relay.SERVER_ADDRESS,), relay.HOST, ("ip", "netns", "exec", relay.SERVER))
    files = objects.folder / "files" / BUCKET
    with (
        relay.network(PACKET_SECONDS, LOSS, BUCKET),
        nginx(objects.folder, objects.sums, place=place) as reading,
        sink(folder, place) as saving,
        remote_emulator(folder, files, place) as listing,
    ):
        yield Ground(reading, saving, listing, prefix=("ip", "netns", "exec", relay.CLIENT))


def _delay(seconds: float) -> Callable[[Objects, Path], AbstractContextManager[Ground]]:
    return partial(_emulator, delay=seconds)


_BY_EMULATOR = "the emulator stores saved objects at 0.6 to 0.9 GB/s"
# The S3 connector has no such setting, and the floor takes the best number.
_ONLY_OURS = "only this package and 1.2.3 are limited: the S3 connector and the floor are not"
_IN_USER_SPACE = "the relay carries fewer packets than the kernel: all rows of many bytes"

CONDITIONS = {
    "nginx": Condition("nginx, which copies files", _nginx),
    "nginx-sendfile": Condition("nginx with sendfile", partial(_nginx, sending="sendfile on;")),
    "nginx-nopush": Condition("nginx with sendfile and nopush", partial(_nginx, sending="sendfile on; tcp_nopush on;")),
    "emulator": Condition("our emulator", _emulator, _BY_EMULATOR),
    "latency-2": Condition("2 ms to the first byte", _delay(0.002), _BY_EMULATOR),
    "latency-10": Condition("10 ms to the first byte", _delay(0.010), _BY_EMULATOR),
    "latency-35": Condition("35 ms to the first byte", _delay(0.035), _BY_EMULATOR),
    "latency-100": Condition("100 ms to the first byte", _delay(0.100), _BY_EMULATOR),
    "latency-tail": Condition(
        "35 ms to the first byte in the median, 180 ms in one answer of twenty",
        partial(_emulator, delay={"lognormal": [0.035, 1.0]}),
        _BY_EMULATOR,
    ),
    "rate-25": Condition("25 MB/s a connection", partial(_emulator, bandwidth=25e6), _BY_EMULATOR),
    "rate-200": Condition("200 MB/s a connection", partial(_emulator, bandwidth=200e6), _BY_EMULATOR),
    "tls-1.2": Condition("nginx over TLS 1.2", partial(_tls, version="TLSv1.2")),
    "tls-1.3": Condition("nginx over TLS 1.3", partial(_tls, version="TLSv1.3")),
    "network": Condition(
        f"packets of {relay.MTU} bytes, {PACKET_SECONDS * 2e3:.0f} ms there and back, one of {1 / LOSS:,.0f} lost",
        _network,
        _IN_USER_SPACE,
        relay.is_possible,
        small=1_000,
        large=64 << 20,
    ),
    "connections-4": Condition("4 connections at most", partial(_connections, count=4), _ONLY_OURS),
    "connections-64": Condition("64 connections at most", partial(_connections, count=64), _ONLY_OURS),
}


def machine() -> str:
    """Return what this machine is, in words."""
    cpu = Path("/proc/cpuinfo").read_text()
    model = next((line.partition(":")[2].strip() for line in cpu.splitlines() if line.startswith("model name")), "?")
    return f"{os.cpu_count()} processors ({model}), {os.uname().sysname} {os.uname().release}"
