"""Fixtures of several files of these tests."""

import pytest

from osstorchconnector import OssSafetensor
from osstorchconnector.testing import Emulator


@pytest.fixture(scope="session")
def manager(emulator: Emulator) -> OssSafetensor:
    return OssSafetensor(**emulator.connection)
