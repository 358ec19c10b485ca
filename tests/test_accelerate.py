"""The state of an Accelerator in OSS."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from osstorchconnector import OssClient, OssConfigError, OssError, OssNotFoundError
from osstorchconnector.testing import Emulator

accelerate = pytest.importorskip("accelerate")

pytestmark = [
    pytest.mark.slow(120),
    # Accelerate warns about this machine.
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture(autouse=True)
def _one_accelerator_at_a_time() -> Iterator[None]:
    yield
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)


class Job:
    def __init__(self, emulator: Emulator, bucket: str, *, configuration: Any = None, **options: Any) -> None:
        from osstorchconnector.accelerate import OssAcceleratorState  # noqa: PLC0415 - it takes seconds, and only here

        torch.manual_seed(1)
        self.accelerator = accelerate.Accelerator(cpu=True, project_config=configuration)
        model = torch.nn.Linear(4, 1)
        self.model, self.optimizer = self.accelerator.prepare(model, torch.optim.Adam(model.parameters(), lr=0.1))
        place = f"oss://{bucket}/run"
        self.checkpoints = OssAcceleratorState(self.accelerator, place, **emulator.connection, **options)

    def train(self, steps: int) -> list[float]:
        losses = []
        for _ in range(steps):
            loss = (self.model(torch.rand(2, 4)) - 1).square().mean()
            self.optimizer.zero_grad()
            self.accelerator.backward(loss)
            self.optimizer.step()
            losses.append(float(loss.detach()))
        return losses


def saved(client: OssClient, bucket: str) -> list[str]:
    prefix = f"oss://{bucket}/run/"
    return [item.uri.removeprefix(prefix).rstrip("/") for item in client.list(prefix, delimiter="/")]


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of temporary files."""
    directory = tmp_path / "temporary"
    directory.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(directory))
    return directory


def test_the_state_comes_back(emulator: Emulator, bucket: str, temporary: Path) -> None:
    job = Job(emulator, bucket)
    assert job.checkpoints.load_state() is None
    job.train(3)
    assert job.checkpoints.save_state(3) == f"oss://{bucket}/run/step-3"
    # Random numbers, the optimizer and the model continue.
    expected = job.train(3)
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    again = Job(emulator, bucket)
    assert again.checkpoints.latest() == f"oss://{bucket}/run/step-3"
    assert again.checkpoints.load_state() == 3
    assert again.train(3) == expected
    assert list(temporary.glob("osstorchconnector-*")) == []


def test_old_ones_are_deleted_but_not_the_loaded(emulator: Emulator, client: OssClient, bucket: str) -> None:
    job = Job(emulator, bucket, keep=2)
    for step in range(4):
        job.checkpoints.save_state(step)
    assert saved(client, bucket) == ["step-2", "step-3"]
    assert job.checkpoints.load_state(2) == 2
    for step in (10, 11):
        job.checkpoints.save_state(step)
    assert saved(client, bucket) == ["step-10", "step-11", "step-2"]
    with pytest.raises(OssNotFoundError, match="step-3"):
        job.checkpoints.load_state(3)


def test_a_failed_upload_leaves_the_checkpoint_before(
    emulator: Emulator, client: OssClient, bucket: str, temporary: Path
) -> None:
    job = Job(emulator, bucket)
    job.checkpoints.save_state(1)
    with (
        emulator.fault(operation="PutObject", key="run/step-2/optimizer.bin", error="AccessDenied"),
        pytest.raises(OssError, match="AccessDenied"),
    ):
        job.checkpoints.save_state(2)
    assert job.checkpoints.load_state() == 1
    assert saved(client, bucket) == ["step-1"]
    assert list(temporary.glob("osstorchconnector-*")) == []


def test_an_accelerator_that_names_checkpoints_keeps_its_own(
    emulator: Emulator, client: OssClient, bucket: str, tmp_path: Path
) -> None:
    naming = accelerate.utils.ProjectConfiguration(project_dir=str(tmp_path), automatic_checkpoint_naming=True)
    job = Job(emulator, bucket, configuration=naming)
    job.checkpoints.save_state(7)
    assert saved(client, bucket) == ["step-7"]
    assert (tmp_path / "checkpoints" / "checkpoint_0").is_dir()
    assert job.checkpoints.load_state() == 7


def test_the_accelerator_refuses_a_uri(
    emulator: Emulator, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    job = Job(emulator, bucket)
    with pytest.raises(OssConfigError, match="is a local folder for Accelerate"):
        job.accelerator.save_state(f"oss://{bucket}/run")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("step", [-1, True, 1.5, "1"])
def test_a_wrong_step_is_reported(emulator: Emulator, bucket: str, step: Any) -> None:
    with pytest.raises(OssConfigError, match=re.escape(repr(step))):
        Job(emulator, bucket).checkpoints.save_state(step)
