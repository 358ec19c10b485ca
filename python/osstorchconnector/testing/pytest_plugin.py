"""The pytest plugin. Every pytest run loads it if this package is installed."""

from collections.abc import Iterator

import pytest

from osstorchconnector.testing import Emulator


@pytest.fixture
def oss_emulator() -> Iterator[Emulator]:
    """An OSS server of its own for the test, empty and ready. See :class:`osstorchconnector.testing.Emulator`."""
    with Emulator() as emulator:
        yield emulator
