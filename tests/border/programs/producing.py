"""Begins a listing file and never completes it: ``producing.py list|parse ENDPOINT CRED_PATH BUCKET DIRECTORY``."""

import sys

from osstorchconnector import OssClient
from osstorchconnector._native import ListingFile, Order, PrefixToList
from tests.border.programs import heed, say


def main() -> None:
    how, endpoint, cred_path, bucket, directory = sys.argv[1:]
    listing = ListingFile(directory, limit=1 << 30)
    if how == "list":
        native = OssClient(endpoint, cred_path, region="cn-hangzhou")._native_client
        stream = native.stream(listing, Order(), producer=PrefixToList(bucket, ""))
        assert next(stream).name == "0000"
    else:
        assert listing.acquire() == "ours"
        listing.put([(bucket, f"{number:04}", None, None, str(number), None) for number in range(1500)])
    say(f"begun {listing.count}")
    heed("killed by now")


if __name__ == "__main__":
    main()
