"""What is counted of the bytes received, by which measurements show that they were verified."""

import os

from osstorchconnector import OssCheckpoint, OssIterableDataset
from osstorchconnector._native import counts
from osstorchconnector.testing import Emulator


def traffic() -> tuple[int, int]:
    counted = counts()
    return counted["received_bytes"], counted["verified_bytes"]


BODIES = [os.urandom(size) for size in (0, 1, 4096, 300_000)]


def store(emulator: Emulator) -> str:
    emulator.create_bucket("counted")
    for number, body in enumerate(BODIES):
        emulator.client().put(f"oss://counted/data/{number}", body)
    return "oss://counted/data/"


def test_every_byte_of_whole_objects_is_received_and_compared() -> None:
    with Emulator() as emulator:
        uri = store(emulator)
        before = traffic()
        assert [item.read() for item in OssIterableDataset.from_prefix(uri, **emulator.connection)] == BODIES
        total = sum(map(len, BODIES))
        assert traffic() == (before[0] + total, before[1] + total)


def test_a_part_of_an_object_is_received_and_not_compared_until_the_rest_is() -> None:
    with Emulator() as emulator:
        emulator.create_bucket("counted")
        size = 80 << 20
        emulator.client().put("oss://counted/large", bytes(size))
        with OssCheckpoint(**emulator.connection).reader("oss://counted/large") as reader:
            before = traffic()
            reader.readinto(bytearray(40 << 20))
            received, compared = traffic()
            assert received >= before[0] + (40 << 20)
            assert compared == before[1]
            while reader.read(8 << 20):
                pass
            assert traffic() == (before[0] + size, before[1] + size)
