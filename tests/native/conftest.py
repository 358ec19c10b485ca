"""Fixtures of several files of these tests."""

from typing import Any

import pytest

from osstorchconnector.testing import Emulator
from tests.native.readers import CONTENTS


@pytest.fixture(scope="module")
def server() -> Any:
    """A server of the test file's own, whose requests are counted."""
    with Emulator(buckets=["objects"]) as emulator:
        client = emulator.client()
        for size, content in CONTENTS.items():
            client.put(f"oss://objects/{size}", content)
        yield emulator
