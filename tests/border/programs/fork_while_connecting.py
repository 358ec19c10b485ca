"""Forks while threads make clients and read: ``fork_while_connecting.py ENDPOINT CRED_PATH``."""

import os
import signal
import sys
import threading

from osstorchconnector import OssClient, OssConfig
from tests.border.programs import say

#: A child that hangs is ended by this signal, and the parent sees it.
CHILD_SECONDS = 10


def main() -> None:
    endpoint, cred_path = sys.argv[1:]
    done = threading.Event()

    def read(number: int) -> None:
        config = OssConfig(credential_refresh_seconds=10 + number)
        while not done.is_set():
            client = OssClient(endpoint, cred_path, region="cn-hangzhou", config=config)
            assert len(client.get("oss://bkt/small/000")) == 1000

    threads = [threading.Thread(target=read, args=[number]) for number in range(3)]
    for thread in threads:
        thread.start()
    children = []
    for _ in range(20):
        pid = os.fork()
        if pid == 0:
            signal.alarm(CHILD_SECONDS)
            client = OssClient(endpoint, cred_path, region="cn-hangzhou")
            os._exit(0 if len(client.get("oss://bkt/small/001")) == 1000 else 1)
        children.append(pid)
    statuses = [os.waitpid(pid, 0)[1] for pid in children]
    done.set()
    for thread in threads:
        thread.join()
    assert statuses == [0] * 20, statuses
    say("children ended")


if __name__ == "__main__":
    main()
