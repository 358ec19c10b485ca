"""Reads many datasets in turn with few open files: ``descriptors.py ENDPOINT CRED_PATH FILES DATASETS POOLS OPEN``.

The datasets have POOLS different settings, and the program itself has OPEN files.
"""

import logging
import os
import resource
import sys

from osstorchconnector import OssConfig, OssIterableDataset
from tests.border.programs import say


def main() -> None:
    endpoint, cred_path, *numbers = sys.argv[1:]
    files, datasets, pools, own = map(int, numbers)
    logging.basicConfig()
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    for _ in range(own):
        os.open(os.devnull, os.O_RDONLY)
    streams = [
        iter(
            OssIterableDataset.from_prefix(
                "oss://bkt/small/",
                endpoint,
                cred_path=cred_path,
                region="cn-hangzhou",
                config=OssConfig(credential_refresh_seconds=60 + number % pools),
                transform=lambda item: item.key,
            )
        )
        for number in range(datasets)
    ]
    say(f"delivered {sum(len(keys) for keys in zip(*streams, strict=True))}")


if __name__ == "__main__":
    main()
