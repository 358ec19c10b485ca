"""Opens files until no descriptor is left, and then asks for an object: ``no_descriptor.py ENDPOINT CRED_PATH``."""

import os
import resource
import sys

from osstorchconnector import OssClient, OssConfig, OssError
from tests.border.programs import say


def fill() -> list[int]:
    opened = []
    while True:
        try:
            opened.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            return opened


def main() -> None:
    endpoint, cred_path = sys.argv[1:]
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    one = OssClient(endpoint, cred_path, region="cn-hangzhou", config=OssConfig(connect_timeout=1))
    other = OssClient(
        endpoint,
        cred_path,
        region="cn-hangzhou",
        config=OssConfig(connect_timeout=1, credential_refresh_seconds=30),
    )
    third = OssClient(
        endpoint,
        cred_path,
        region="cn-hangzhou",
        config=OssConfig(connect_timeout=1, credential_refresh_seconds=31),
    )
    uri = "oss://bkt/small/000"
    # Imports modules, and reads the access keys.
    one.get(uri)
    other.head(uri)
    opened = fill()
    # Both have an idle connection; two requests at once of one client need a second one.
    with one.open(uri) as first:
        first.read()
    other.get(uri)
    say("an idle connection made room")
    del one, other, first
    opened += fill()
    try:
        third.get(uri)
    except OssError as error:
        text = str(error)
        # The network is not to blame, so nobody is sent to look at it.
        say("reached the limit" if "ulimit -n" in text and "network" not in text else text)
    for descriptor in opened:
        os.close(descriptor)
    third.get(uri)
    say("works again")


if __name__ == "__main__":
    main()
