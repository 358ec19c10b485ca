"""What the tests of distributed checkpoints share."""

import warnings
from collections.abc import Iterator

import pytest

from osstorchconnector import OssFileSystem
from osstorchconnector.testing import Emulator


@pytest.fixture(autouse=True)
def _without_process_group() -> Iterator[None]:
    with warnings.catch_warnings():
        # torch says so on every save and load in a single process, which is what most of these tests are.
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        warnings.filterwarnings("ignore", message="torch.distributed is unavailable")
        yield


@pytest.fixture
def file_system(emulator: Emulator) -> OssFileSystem:
    return OssFileSystem(**emulator.connection)


@pytest.fixture
def place(bucket: str) -> str:
    """Where a test saves its checkpoint."""
    return f"oss://{bucket}/checkpoints/step 1+ä"
