"""Read one large object in several ways, beside a bare loop of recv on the same server.

Each way runs in an interpreter of its own and is measured from the first request to the last byte: time, processor
time of the reading process for each GB, and how much its memory grew beside what it was asked to fill. The server is
the emulator, in a process of its own on the same machine, so that few processors are shared by both. With --delay the
server holds each answer back, as OSS does until the first byte.
"""

import argparse
import json
import os
import resource
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

BUCKET = "bench"
MIB = 1024 * 1024


def recv(endpoint: str, key: str, size: int, _config: dict[str, Any]) -> None:
    """Receive the object with one request into given memory: what any client has to do at least."""
    address = urlsplit(endpoint)
    buffer = memoryview(bytearray(size))
    with socket.create_connection((address.hostname or "", address.port or 80)) as connection:
        connection.sendall(f"GET /{BUCKET}/{key} HTTP/1.1\r\nHost: {address.netloc}\r\n\r\n".encode())
        received = b""
        while b"\r\n\r\n" not in received:
            received += connection.recv(4096)
        body = received.partition(b"\r\n\r\n")[2]
        buffer[: len(body)] = body
        filled = len(body)
        while filled < size:
            filled += connection.recv_into(buffer[filled:])


def open_reader(endpoint: str, key: str, config: dict[str, Any]) -> Any:
    """Open the object with this package."""
    from osstorchconnector import OssClient, OssConfig

    return OssClient(endpoint, config=OssConfig(anonymous=True, **config)).reader(f"oss://{BUCKET}/{key}")


def readinto(endpoint: str, key: str, size: int, config: dict[str, Any]) -> None:
    """Fill given memory with one call."""
    buffer = bytearray(size)
    if open_reader(endpoint, key, config).readinto(buffer) != size:
        raise SystemExit("the object is shorter")


def sequential(endpoint: str, key: str, _size: int, config: dict[str, Any]) -> None:
    """Read a mebibyte at a time into the same memory."""
    reader = open_reader(endpoint, key, config)
    buffer = bytearray(MIB)
    while reader.readinto(buffer):
        pass


def torch_load(endpoint: str, key: str, _size: int, config: dict[str, Any]) -> None:
    """Load a state dictionary."""
    import torch

    torch.load(open_reader(endpoint, key, config))


WAYS: dict[str, Callable[[str, str, int, dict[str, Any]], None]] = {
    way.__name__: way for way in (recv, readinto, sequential, torch_load)
}


def peak() -> float:
    """Return the most memory this program had; getrusage also counts what its process had before it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def measure(way: str, endpoint: str, key: str, size: int, config: dict[str, Any]) -> dict[str, float]:
    """Measure one way; called in a process of its own."""
    import osstorchconnector  # noqa: F401

    if way == "torch_load":
        import torch  # noqa: F401
    memory = peak()
    before = resource.getrusage(resource.RUSAGE_SELF)
    start = time.perf_counter()
    WAYS[way](endpoint, key, size, config)
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": seconds, "cpu": cpu, "grown": peak() - memory}


def compare(size: int, tensor: int, rounds: int, delay: float, config: dict[str, Any]) -> None:
    """Store a state dictionary of `size` bytes and print what each way makes of it."""
    import torch

    from osstorchconnector.testing import Emulator

    with Emulator(buckets=[BUCKET], etag="fast", verify_signatures=False) as emulator:
        state = {f"layer.{index}": torch.zeros(tensor // 4) for index in range(max(1, size // tensor))}
        with emulator.client().writer(f"oss://{BUCKET}/state") as writer:
            torch.save(state, writer)  # type: ignore[arg-type]
        del state
        length = emulator.client().head(f"oss://{BUCKET}/state").size
        if delay:
            emulator.fault(operation="GetObject", delay=delay)
        results: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
        for _ in range(rounds):
            for way, rows in results.items():
                command = [sys.executable, __file__, "--measure", way, emulator.endpoint, "state", str(length)]
                done = subprocess.run([*command, json.dumps(config)], check=True, capture_output=True, text=True)
                rows.append(json.loads(done.stdout))
    print(f"{length} bytes in tensors of {tensor}, {delay * 1000:.0f} ms to the first byte, median of {rounds}:")
    for way, rows in results.items():
        rate = statistics.median(length / row["seconds"] for row in rows) / 1e9
        cpu = statistics.median(row["cpu"] / length for row in rows) * 1e9
        memory = max(row["grown"] for row in rows) - (0 if way == "sequential" else length)
        print(f"  {way:12} {rate:5.2f} GB/s  {cpu:5.2f} s of CPU per GB  {memory / MIB:6.0f} MiB beside the object")


def main() -> int:
    """Run the comparison, or one measurement of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=2048, help="MiB (2048)")
    parser.add_argument("--tensor", type=int, default=64, help="MiB of one tensor (64)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--delay", type=float, default=0.0, help="seconds to the first byte (0)")
    parser.add_argument("--config", type=json.loads, default={}, help="fields of OssConfig, as JSON")
    parser.add_argument("--measure", nargs=5, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        way, endpoint, key, size, config = arguments.measure
        print(json.dumps(measure(way, endpoint, key, int(size), json.loads(config))))
        return 0
    print(f"{os.cpu_count()} processors, shared with the server")
    compare(arguments.size * MIB, arguments.tensor * MIB, arguments.rounds, arguments.delay, arguments.config)
    return 0


if __name__ == "__main__":
    sys.exit(main())
