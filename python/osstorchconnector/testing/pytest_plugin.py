"""The pytest plugin: it is loaded by every pytest run of an environment that has this package installed."""

from collections.abc import Iterator

import pytest

from osstorchconnector.testing import Emulator


@pytest.fixture
def oss_emulator() -> Iterator[Emulator]:
    """An OSS server of the test's own, empty and ready. See :class:`osstorchconnector.testing.Emulator`."""
    with Emulator() as emulator:
        yield emulator
