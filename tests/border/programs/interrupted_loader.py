"""A DataLoader with workers waits for objects until Ctrl-C ends the program."""

import operator
import sys

from torch.utils.data import DataLoader

from osstorchconnector import OssConfig, OssIterableDataset
from tests.border.programs import listen_to_ctrl_c, say, uri


def main() -> None:
    endpoint, method = sys.argv[1:]
    listen_to_ctrl_c()
    config = OssConfig(anonymous=True, read_timeout=60)
    dataset = OssIterableDataset.from_prefix(
        uri("small-"), endpoint, transform=operator.methodcaller("read"), config=config
    )
    say("ready")
    for _ in DataLoader(dataset, batch_size=None, num_workers=2, multiprocessing_context=method):
        say("an object")


if __name__ == "__main__":
    main()
