"""Fixtures of the tests of distributed checkpoints."""

import warnings
from collections.abc import Iterator

import pytest

from osstorchconnector import OssFileSystem
from osstorchconnector.testing import Emulator


@pytest.fixture(autouse=True)
def _without_process_group() -> Iterator[None]:
    with warnings.catch_warnings():
        # torch warns at every save and load in a single process, and most of these tests run in one.
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        warnings.filterwarnings("ignore", message="torch.distributed is unavailable")
        yield


@pytest.fixture
def file_system(emulator: Emulator) -> OssFileSystem:
    return OssFileSystem(**emulator.connection)


@pytest.fixture
def checkpoint_uri(bucket: str) -> str:
    """The URI that a test saves its checkpoint to."""
    return f"oss://{bucket}/checkpoints/step 1+ä"
