"""What ``ossfs`` is beyond a client: directories, files that are opened, and files that grow."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from .client import Access
from .ossfs_client import OssfsClient

NAMES = ["a", "b/c", "b/d/e", "b/d/f", "g h/+%"]


@pytest.fixture
def files(access: Access, bucket: str) -> Iterator[OssfsClient]:
    with closing(OssfsClient(access)) as client:
        for name in NAMES:
            client.put(bucket, name, f"content of {name}".encode())
        yield client
