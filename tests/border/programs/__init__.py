"""Programs that the tests of this folder run in other processes, and how they talk to the test."""

import signal
import sys
from typing import Any

from osstorchconnector import OssClient, OssConfig
from osstorchconnector._native import Client, ListingFile, ObjectStream, Order, PrefixToList
from osstorchconnector.dataset.private_directory import PrivateDirectory

BUCKET = "scripted-bucket"
#: The least that a part may have, so that few bytes are several parts.
PART = 100 * 1024
#: Longer than what one part and what a lazily read object reads ahead hold.
LARGE = bytes(range(256)) * (3 << 12)

# They are removed when the program ends.
_directories: list[PrivateDirectory] = []


def uri(key: str) -> str:
    return f"oss://{BUCKET}/{key}"


def client_of(endpoint: str, **given: Any) -> OssClient:
    config: dict[str, Any] = {"anonymous": True, "read_timeout": 15, "max_attempts": 1, "part_size": PART}
    # The scripted server knows pages by their number, not by a key to start after.
    config["fast_list"] = False
    return OssClient(endpoint, config=OssConfig(**{**config, **given}))


def new_listing() -> ListingFile:
    directory = PrivateDirectory()
    _directories.append(directory)
    return ListingFile(str(directory.make() / "listing"), limit=1 << 30)


def stream_of(native: Client, prefix: str) -> ObjectStream:
    """List a prefix and fetch what is under it."""
    return native.stream(new_listing(), Order(), producer=PrefixToList(BUCKET, prefix))


def listing_of(native: Client, prefix: str) -> ListingFile:
    """List a prefix to its end."""
    listing = new_listing()
    listing.wait(native, PrefixToList(BUCKET, prefix))
    return listing


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def heed(line: str) -> None:
    """Wait until the test says this."""
    said = sys.stdin.readline().rstrip("\n")
    assert said == line, said


def listen_to_ctrl_c() -> None:
    # A shell starts background jobs with SIGINT ignored, and Python then leaves it so.
    signal.signal(signal.SIGINT, signal.default_int_handler)
