"""Fixtures that run a test once for each client, connected to the shared emulator."""

from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

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

# Python 3.12 and later warn about every signature V4 that oss2 makes.
UTCNOW = r"ignore:datetime\.datetime\.utcnow\(\) is deprecated:DeprecationWarning:oss2\.auth"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings(UTCNOW))


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    # These clients would use the machine's proxy even for the loopback interface.
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture(scope="session")
def access(emulator: Emulator) -> Access:
    return Access.to(emulator)


@pytest.fixture(params=CLIENTS)
def connect(request: pytest.FixtureRequest) -> Callable[[Access], ObjectClient]:
    """Return a function that makes a client."""
    return CLIENTS[request.param]


@pytest.fixture
def any_client(connect: Callable[[Access], ObjectClient], access: Access) -> Iterator[ObjectClient]:
    with closing(connect(access)) as connected:
        yield connected


@pytest.fixture(params=CLIENTS)
def other_client(request: pytest.FixtureRequest, access: Access) -> Iterator[ObjectClient]:
    """Run a test once for each client that reads what `any_client` wrote."""
    with closing(CLIENTS[request.param](access)) as connected:
        yield connected


@pytest.fixture(params=BUCKET_CLIENTS)
def bucket_client(request: pytest.FixtureRequest, access: Access) -> Iterator[BucketClient]:
    with closing(BUCKET_CLIENTS[request.param](access)) as connected:
        yield connected


@pytest.fixture(params=API_CLIENTS)
def api_client(request: pytest.FixtureRequest, access: Access) -> Iterator[ApiClient]:
    with closing(API_CLIENTS[request.param](access)) as connected:
        yield connected
