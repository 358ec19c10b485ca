"""A program of a user, without errors."""

import io
from collections.abc import Iterator

from torch.utils.data import DataLoader

from osstorchconnector import (
    DataObject,
    ObjectListing,
    OssClient,
    OssConfig,
    OssError,
    OssIterableDataset,
    OssMapDataset,
    OssNotFoundError,
    Writer,
    new_data_object,
)
from osstorchconnector.testing import Emulator


def decode(item: DataObject) -> tuple[bytes, str]:
    return item.read(), item.label


def run(config: OssConfig) -> Iterator[int]:
    iterable = OssIterableDataset.from_prefix("oss://bucket/p", endpoint="localhost", transform=decode, config=config)
    mapped = OssMapDataset.from_objects(["oss://bucket/a"], "localhost", cred_path="/c", region="cn-hangzhou")
    for item in mapped:
        yield item.size
    yield len(mapped)
    yield from (len(batch) for batch in DataLoader(iterable, batch_size=None))


def use(client: OssClient) -> bytes:
    writer: Writer = client.writer("oss://bucket/a")
    with writer as entered:
        entered.write(bytearray(b"content"))
    listing: ObjectListing = client.list("oss://bucket/")
    for item in listing:
        item.seek(0, io.SEEK_END)
    try:
        return client.get("oss://bucket/a", 0, 10)
    except OssNotFoundError as error:
        code: str | None = error.code
        return (code or "").encode()
    except OssError:
        return new_data_object("/bucket/key", 0).read()


def test(oss_emulator: Emulator) -> None:
    dataset = OssIterableDataset.from_prefix("oss://bucket/", **oss_emulator.connection)
    assert [item.read() for item in dataset] == []
