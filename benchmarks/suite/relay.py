"""A network of real packets between two network namespaces, with delay and loss, by a relay in user space.

Linux's netem does the same in the kernel, but not every kernel has it. Each namespace has a tun device. The relay takes
whole packets of at most `MTU` bytes from one, keeps them for the delay, drops some, and gives the others to the other.
The process that `network` starts runs this file.
"""

import contextlib
import ctypes
import fcntl
import os
import random
import select
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# What the networks of clouds carry between machines.
MTU = 1500
CLIENT, SERVER = "bench-client", "bench-server"
SERVER_ADDRESS = "10.77.0.2"
#: The name of the server in both namespaces; the bucket may stand before it.
HOST = "oss.bench.test"
_CLIENT_ADDRESS = "10.77.0.1"
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
_CLONE_NEWNET = 0x40000000
# Packets taken from one side before the other has its turn.
_AT_ONCE = 64


def is_possible() -> bool:
    """Return whether this process may make namespaces and tun devices."""
    return os.geteuid() == 0 and Path("/dev/net/tun").exists() and _runs(["ip", "netns"])


def _runs(command: list[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


@contextmanager
def network(delay_seconds: float, loss: float, bucket: str) -> Iterator[None]:
    """Make both namespaces, and relay between them until the block ends.

    Args:
        delay_seconds: How long each packet is under way.
        loss: The share of packets that is lost, in both directions.
        bucket: The bucket whose host name the namespaces know.
    """
    ends = ((CLIENT, _CLIENT_ADDRESS), (SERVER, SERVER_ADDRESS))
    hosts = f"127.0.0.1 localhost\n{SERVER_ADDRESS} {HOST} {bucket}.{HOST}\n"
    for name, _ in ends:
        subprocess.run(["ip", "netns", "add", name], check=True)
        folder = Path("/etc/netns") / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "hosts").write_text(hosts)
    relay = subprocess.Popen([sys.executable, __file__, str(delay_seconds), str(loss)], stdout=subprocess.PIPE)
    try:
        if relay.stdout is None or relay.stdout.readline() != b"ready\n":
            raise RuntimeError("the relay did not start")
        for name, address in ends:
            for command in (
                ["link", "set", "lo", "up"],
                ["link", "set", "tun0", "mtu", str(MTU), "txqueuelen", "10000", "up"],
                ["addr", "add", f"{address}/24", "dev", "tun0"],
            ):
                subprocess.run(["ip", "-n", name, *command], check=True)
        yield
    finally:
        relay.terminate()
        relay.wait()
        for name, _ in ends:
            subprocess.run(["ip", "netns", "del", name], check=False)
            folder = Path("/etc/netns") / name
            (folder / "hosts").unlink(missing_ok=True)
            folder.rmdir()


def _open_tun(namespace: str) -> int:
    """Open a tun device in a namespace, in which the process is afterwards."""
    with open(f"/run/netns/{namespace}", "rb") as entry:  # noqa: PTH123 - a descriptor
        if ctypes.CDLL(None, use_errno=True).setns(entry.fileno(), _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH14s", b"tun0", _IFF_TUN | _IFF_NO_PI, b""))
    return device


def relay(delay_seconds: float, loss: float) -> None:
    """Relay packets until the process is killed."""
    first, second = (_open_tun(name) for name in (CLIENT, SERVER))
    print("ready", flush=True)
    draw = random.Random(0).random  # noqa: S311 - the same packets in each run, as far as their order is
    under_way: dict[int, deque[tuple[float, bytes]]] = {first: deque(), second: deque()}
    other = {first: second, second: first}
    while True:
        now = time.monotonic()
        wait: float | None = None
        for target, packets in under_way.items():
            while packets and packets[0][0] <= now:
                packet = packets.popleft()[1]
                # A full device loses packets, as a network does.
                with contextlib.suppress(OSError):
                    os.write(target, packet)
            if packets:
                wait = min(wait or 1, packets[0][0] - now)
        readable, _, _ = select.select([first, second], [], [], wait)
        for source in readable:
            due = time.monotonic() + delay_seconds
            packets = under_way[other[source]]
            with contextlib.suppress(BlockingIOError):
                for _ in range(_AT_ONCE):
                    packet = os.read(source, MTU)
                    if draw() >= loss:
                        packets.append((due, packet))


if __name__ == "__main__":
    relay(float(sys.argv[1]), float(sys.argv[2]))
