"""Buffers whose copies to an accelerator run beside the receiving; here, copies in main memory that wait."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from osstorchconnector import OssClient
from osstorchconnector.model import blocks, staging, targets, transfer
from osstorchconnector.model import model as model_module
from osstorchconnector.model.blocks import Index
from osstorchconnector.model.targets import Target
from osstorchconnector.testing import Emulator
from tests.model.models import opened, put, same

STAGE = 64 << 10
#: What a stream has to do, in order.
Stream = list[Callable[[], object]]


class Event:
    """An event of a stream that nothing but a second look or a wait brings forward."""

    def __init__(self) -> None:
        self.looks = 0
        self.before: Stream = []

    def record(self, stream: Stream) -> None:
        self.before = stream[:]
        stream.clear()

    def query(self) -> bool:
        self.looks += 1
        if self.looks > 1:
            self.synchronize()
        return not self.before

    def synchronize(self) -> None:
        while self.before:
            self.before.pop(0)()


class LateStaging(staging.CudaStaging):
    """Copies in main memory when an event ends."""

    def close(self) -> None:
        assert not any(self._streams.values())

    def _allocate(self) -> memoryview:
        return memoryview(bytearray(STAGE))

    def copy(self, target: Target, place: Index, stored: torch.Tensor) -> None:
        stream: Stream = self._streams.setdefault(target.device, [])
        part = target.part(place)
        stream.append(lambda: part.copy_(stored))
        self._touched.add(target.device)


@pytest.mark.parametrize("how", ["load", "iterate"])
@pytest.mark.parametrize("buffers", [2, 3, 8])
def test_more_requests_in_flight_than_buffers(
    emulator: Emulator, client: OssClient, bucket: str, monkeypatch: pytest.MonkeyPatch, buffers: int, how: str
) -> None:
    for module in (model_module, staging, targets, transfer):
        monkeypatch.setattr(module, "STAGE", STAGE)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(model_module, "staging_for", lambda _targets, limit: LateStaging(limit))
    # Everything is copied from a buffer, as it is on the way to an accelerator.
    monkeypatch.setattr(targets.Target, "is_direct", lambda *_: False)
    tensors: dict[str, Any] = {f"layer.{number:02}": torch.randn(4000 + 3500 * (number % 4)) for number in range(40)}
    put(client, f"oss://{bucket}/model.safetensors", tensors)
    budget = 2 * buffers * STAGE
    with opened(emulator, f"oss://{bucket}/model.safetensors", concurrency=32, budget=budget) as model:
        assert same(model.load() if how == "load" else dict(model), tensors)


@pytest.mark.parametrize("how", ["all are copied", "some are direct", "late"])
def test_large_tensors_of_many_objects_are_fetched_one_after_the_other_with_many_requests_each(
    emulator: Emulator, client: OssClient, bucket: str, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    for module in (model_module, blocks, staging, targets, transfer):
        monkeypatch.setattr(module, "STAGE", STAGE)
    if how == "late":
        monkeypatch.setattr(torch.cuda, "Event", Event)
        monkeypatch.setattr(model_module, "staging_for", lambda _targets, limit: LateStaging(limit))
    stored, wanted = (torch.float64, torch.float32) if how == "some are direct" else (torch.float32, torch.float64)
    tensors: dict[str, torch.Tensor] = {}
    for number in range(4):
        # Two large ones, whose last blocks are short, and small ones.
        part = {
            f"{number}.a": torch.randn(249, 1024, dtype=stored),
            f"{number}.b": torch.randn(300, 1024),
            f"{number}.c": torch.randn(3, 1024),
            f"{number}.d": torch.randn(3, 1024),
        }
        put(client, f"oss://{bucket}/m-{number + 1}-of-4.safetensors", part)
        tensors |= part
    live: dict[int, int] = {}
    most = 0
    allocate, hand_out = Target.allocate, Target.hand_out

    def allocated(target: Target) -> None:
        nonlocal most
        allocate(target)
        live[id(target)] = target.cost
        most = max(most, sum(live.values()))

    def handed_out(target: Target) -> torch.Tensor:
        live.pop(id(target))
        return hand_out(target)

    monkeypatch.setattr(Target, "allocate", allocated)
    monkeypatch.setattr(Target, "hand_out", handed_out)
    with opened(emulator, f"oss://{bucket}/", concurrency=32, budget=16 * STAGE) as model:
        emulator.clear_requests()
        with emulator.fault(operation="GetObject", delay=0.02):
            found = dict(model.iterate(dtype=wanted))
        assert emulator.peak_concurrency() >= 4
    assert same(found, {name: tensor.to(wanted) for name, tensor in tensors.items()})
    assert most <= max(tensor.nbytes for tensor in found.values()) + 8 * STAGE
