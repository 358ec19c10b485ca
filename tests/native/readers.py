"""A server with objects of many sizes, and readers of them."""

from typing import Any

import numpy as np

from osstorchconnector import OssClient, OssConfig, OssReader
from osstorchconnector.testing import Emulator

KIB = 1024
MIB = 1024 * KIB
WINDOWS = (64 * KIB, 256 * KIB, 4 * MIB)


def content_of(size: int, seed: int = 1) -> bytes:
    """Return random bytes with some line feeds, and others far from the next."""
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, size, dtype=np.uint8).tobytes()


CONTENTS = {
    size: content_of(size) for size in (0, 1, 1000, 128 * KIB, 256 * KIB, 256 * KIB + 1, 700_001, 3 * MIB + 17)
} | {100_000: b"x" * 70_000 + b"\n" + b"y" * 29_999}


def open_with(server: Emulator, key: object, **given: Any) -> OssReader:
    return OssClient(**server.connection, config=OssConfig(**given)).reader(f"oss://objects/{key}")


def fetched(server: Emulator) -> int:
    return sum(request.response_bytes for request in server.requests(operation="GetObject"))
