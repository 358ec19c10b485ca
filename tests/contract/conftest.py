"""The clients, each connected to the shared emulator, as fixtures that run a test once for each of them."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial

import pytest

from osstorchconnector.testing import Emulator

from .client import Access, ApiClient, BucketClient, ObjectClient
from .oss2_client import Oss2Client
from .ossfs_client import OssfsClient
from .own_client import OwnClient
from .sdk_client import SdkClient

API_CLIENTS: dict[str, Callable[[Access], ApiClient]] = {
    "oss2-v1": partial(Oss2Client, version="v1"),
    "oss2-v4": partial(Oss2Client, version="v4"),
    "sdk-v1": partial(SdkClient, version="v1"),
    "sdk-v4": partial(SdkClient, version="v4"),
}
BUCKET_CLIENTS: dict[str, Callable[[Access], BucketClient]] = {
    **API_CLIENTS,
    "own-v1": partial(OwnClient, version="v1"),
    "own-v4": partial(OwnClient, version="v4"),
}
CLIENTS: dict[str, Callable[[Access], ObjectClient]] = {**BUCKET_CLIENTS, "ossfs-v1": OssfsClient}


class Clients:
    """Every client, made when it is first asked for."""

    def __init__(self, access: Access, resources: ExitStack) -> None:
        self.access = access
        self._resources = resources

    def connect(self, make: Callable[[Access], ObjectClient]):
        ...
