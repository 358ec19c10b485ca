"""Every test of this folder also checks that no secret is shown."""

import gc
import logging
from collections.abc import Iterator

import pytest

from osstorchconnector import OssClient, OssConfig, OssError, _native
from osstorchconnector.testing import Emulator
from tests.faults.evidence import Evidence, recording
from tests.faults.readers import ACCESS_KEY_SECRET, SECURITY_TOKEN


@pytest.fixture(scope="module", autouse=True)
def _nothing_is_left() -> None:
    """Delete what earlier tests left, so that its end does not hold up a thread that answers requests here.

    If the iterator of a loader with workers ends in the garbage collector, its queues have ended before it: each worker
    is waited for five seconds, in whichever thread the collector runs.
    """
    gc.collect()


@pytest.fixture
def secrets(emulator: Emulator) -> list[str]:
    return [ACCESS_KEY_SECRET, SECURITY_TOKEN, emulator.access_key_secret]


@pytest.fixture(autouse=True)
def evidence(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], secrets: list[str]
) -> Iterator[Evidence]:
    """All logs, errors and objects of the test. They must not contain a secret."""
    found = Evidence()
    package, root = logging.getLogger("osstorchconnector"), logging.getLogger()
    level = package.level
    # Each native client takes its level from here.
    package.setLevel(logging.DEBUG)
    _native.set_log_level(logging.DEBUG)
    root.addHandler(found)
    monkeypatch.setattr(OssError, "__init__", recording(found.errors, OssError.__init__))
    monkeypatch.setattr(OssClient, "__init__", recording(found.objects, OssClient.__init__))
    monkeypatch.setattr(OssConfig, "__post_init__", recording(found.objects, OssConfig.__post_init__))
    yield found
    root.removeHandler(found)
    package.setLevel(level)
    _native.set_log_level(package.getEffectiveLevel())
    found.lines.extend(capfd.readouterr())
    assert found.leaks(secrets) == []
