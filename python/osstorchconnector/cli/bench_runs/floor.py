"""What this machine could do at best: receiving from a socket, and checksums, without any protocol."""

import socket
import threading
import time
from dataclasses import dataclass
from typing import Final

from osstorchconnector._native import crc64

_SECONDS: Final = 0.3
_BUFFER: Final = 1 << 20


@dataclass(frozen=True)
class Floor:
    """The floor.

    Attributes:
        receive: Bytes per second through one loopback connection.
        receive_cpu: Seconds of processor time to receive 10**9 bytes.
        checksum: Bytes per second of CRC-64 on one processor.
        checksum_cpu: Seconds of processor time for the CRC-64 of 10**9 bytes.
    """

    receive: float
    receive_cpu: float
    checksum: float
    checksum_cpu: float

    @property
    def cpu_per_gb(self) -> float:
        """Seconds of processor time that receiving and comparing 10**9 bytes needs at least."""
        return self.receive_cpu + self.checksum_cpu


def measure_floor() -> Floor:
    """Measure for about half a second."""
    receive, receive_cpu = _receive()
    checksum, checksum_cpu = _checksum()
    return Floor(receive, receive_cpu, checksum, checksum_cpu)


def _receive() -> tuple[float, float]:
    buffer = bytearray(_BUFFER)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sender = threading.Thread(target=_send, args=(listener.getsockname()[1],))
        sender.start()
        connection, _ = listener.accept()
        with connection:
            received = 0
            started, cpu = time.perf_counter(), time.thread_time()
            while count := connection.recv_into(buffer):
                received += count
            took, used = time.perf_counter() - started, time.thread_time() - cpu
        sender.join()
    return received / took, used / (received / 1e9)


def _send(port: int) -> None:
    content = bytes(_BUFFER)
    end = time.perf_counter() + _SECONDS
    with socket.create_connection(("127.0.0.1", port)) as connection:
        while time.perf_counter() < end:
            connection.sendall(content)


def _checksum() -> tuple[float, float]:
    content = bytes(_BUFFER)
    done = value = 0
    started, cpu = time.perf_counter(), time.thread_time()
    while time.perf_counter() < started + _SECONDS / 2:
        value = crc64(content, value)
        done += len(content)
    return done / (time.perf_counter() - started), (time.thread_time() - cpu) / (done / 1e9)
