"""Walks the hot paths under callgrind, and has it write its counts before and after each.

valgrind --tool=callgrind --dump-before=getpriority python -m tests.costs.program ENDPOINT CRED_PATH REGION
"""

import os
import sys
from typing import Final

from osstorchconnector import OssClient, OssConfig
from osstorchconnector._native import ObjectTable, Order

BUCKET: Final = "costs"
SMALL: Final = 4_000
LARGE: Final = 64 << 20
KEYS: Final = 5_000
PART: Final = 128 << 10
_RANGE: Final = 64 << 10
_BATCH: Final = 32

#: Each path, and how many units of it are counted: enough that how often threads wake each other does not show.
COUNTS: Final = {"small object": 2_000, "batch": 60, "range": 600, "part": 300, "listed key": KEYS}


def mark() -> None:
    """Have callgrind write its counts: it watches this call, which nothing else makes."""
    os.getpriority(os.PRIO_PROCESS, 0)


class Paths:
    """The hot paths; each is walked a number of times."""

    def __init__(self, client: OssClient) -> None:
        """Use a client."""
        self._client = client
        uris = [f"oss://{BUCKET}/small/{number:05}" for number in range(COUNTS["small object"])]
        self._table = ObjectTable.from_uris(uris)

    def small_objects(self, count: int) -> None:
        """Read objects that a stream fetches ahead."""
        stream = self._client._native_client.stream(self._table, Order())
        for _ in range(count):
            check(len(next(stream).read()), SMALL)
        stream.close()

    def batches(self, count: int) -> None:
        """Read batches of objects, one after the other."""
        for number in range(count):
            begin = number * _BATCH % (len(self._table) - _BATCH)
            batch = self._client._native_client.stream_at(self._table, range(begin, begin + _BATCH))
            check(sum(len(item.read()) for item in batch), _BATCH * SMALL)

    def ranges(self, count: int) -> None:
        """Read ranges that are far apart and in no direction, so that nothing is read ahead and each is a request."""
        memory = bytearray(_RANGE)
        with self._client.reader(f"oss://{BUCKET}/large") as reader:
            for number in range(count):
                reader.seek(number * 37 % (LARGE // _RANGE) * _RANGE)
                check(reader.readinto(memory), _RANGE)

    def parts(self, count: int) -> None:
        """Write parts."""
        part = bytes(PART)
        with self._client.writer(f"oss://{BUCKET}/written") as writer:
            for _ in range(count):
                writer.write(part)

    def listing(self, count: int) -> None:
        """List keys."""
        check(sum(1 for _ in self._client.list(f"oss://{BUCKET}/small/")), count)


def check(found: int, expected: int) -> None:
    """Fail unless as much was found as expected."""
    if found != expected:
        raise SystemExit(f"{found} instead of {expected}")


def main() -> None:
    """Walk each path twice: what happens only once is not counted."""
    endpoint, cred_path, region = sys.argv[1:]
    config = OssConfig(part_size=PART, io_threads=1)
    paths = Paths(OssClient(endpoint, cred_path=cred_path, region=region, config=config))
    walks = (paths.small_objects, paths.batches, paths.ranges, paths.parts, paths.listing)
    for walk, count in zip(walks, COUNTS.values(), strict=True):
        walk(count)
        mark()
        walk(count)
        mark()


if __name__ == "__main__":
    main()
