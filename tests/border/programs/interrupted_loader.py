"""A DataLoader with workers waits until Ctrl-C ends the program: for objects, or without any use of this package."""

import operator
import sys
import time
from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader, IterableDataset

from osstorchconnector import OssConfig, OssIterableDataset
from tests.border.programs import listen_to_ctrl_c, say, uri


class Sleeping(IterableDataset[Any]):
    """A dataset whose workers sleep."""

    def __iter__(self) -> Iterator[Any]:
        say("asleep")
        time.sleep(60)
        yield


def objects(endpoint: str) -> OssIterableDataset:
    config = OssConfig(anonymous=True, read_timeout=60)
    return OssIterableDataset.from_prefix(
        uri("small-"), endpoint, transform=operator.methodcaller("read"), config=config
    )


def main() -> None:
    method, *endpoint = sys.argv[1:]
    listen_to_ctrl_c()
    dataset = objects(*endpoint) if endpoint else Sleeping()
    say("ready")
    for _ in DataLoader(dataset, batch_size=None, num_workers=2, multiprocessing_context=method):
        say("an object")


if __name__ == "__main__":
    main()
