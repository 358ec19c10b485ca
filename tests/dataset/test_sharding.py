"""Ranks share the objects between them, by their process group or by the argument shard."""

import json
import logging
import operator
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from multiprocessing.context import set_spawning_popen
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist
from torch.utils.data import DataLoader

from osstorchconnector import OssClient, OssConfigError, OssIterableDataset
from osstorchconnector.dataset import rank_share
from osstorchconnector.dataset.rank_share import RankShare
from osstorchconnector.process.worker import Share
from osstorchconnector.testing import Emulator
from tests.border.running import ROOT
from tests.dataset.order_model import Reader

# Not a multiple of the batches of any number of ranks below.
COUNT = 47
NAMES = [f"{number:03}" for number in range(COUNT)]
EVEN = ["pad", "drop", "none"]
MISLEADING = {"RANK": "1", "WORLD_SIZE": "7"}
Build = Callable[..., OssIterableDataset]


@pytest.fixture
def filled(client: OssClient, bucket: str) -> str:
    for name in NAMES:
        client.put(f"oss://{bucket}/{name}", name.encode())
    return bucket


@pytest.fixture
def build(emulator: Emulator, filled: str) -> Build:
    def from_prefix(**options: Any) -> OssIterableDataset:
        options = {"transform": operator.attrgetter("name"), **options}
        return OssIterableDataset.from_prefix(f"oss://{filled}/", **emulator.connection, **options)

    return from_prefix


def expected(rank: int, world: int, even: str, batch_size: int = 4) -> list[list[str]]:
    positions = Reader(rank=rank, world=world, batch_size=batch_size, even=even).rank_positions(COUNT)
    return [[NAMES[number] for number in batch] for batch in positions]


def check_together(ranks: list[list[list[str]]], even: str) -> None:
    """Compare the ranks' shares with the promises of the modes."""
    everything = sorted(name for batches in ranks for batch in batches for name in batch)
    lengths = {tuple(map(len, batches)) for batches in ranks}
    if even == "none":
        assert everything == NAMES
        return
    assert len(lengths) == 1
    if even == "pad":
        assert set(everything) == set(NAMES)
        assert COUNT <= len(everything) < COUNT + len(ranks)
    else:
        assert len(set(everything)) == len(everything) > COUNT - len(ranks)


def run_ranks(world: int, arguments: list[str], environment: dict[str, str]) -> list[Any]:
    ranks = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.border.programs.ranked", str(rank), str(world), *arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={
                **{name: value for name, value in os.environ.items() if name not in {"RANK", "WORLD_SIZE"}},
                "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]),
                "GLOO_SOCKET_IFNAME": "lo",
                **environment,
            },
        )
        for rank in range(world)
    ]
    try:
        outputs = [process.communicate(timeout=280) for process in ranks]
    finally:
        for process in ranks:
            process.kill()
            process.wait()
    for process, (_, errors) in zip(ranks, outputs, strict=True):
        assert process.returncode == 0, errors
    return [json.loads(output) for output, _ in outputs]


@pytest.mark.slow(300)
@pytest.mark.parametrize(("world", "environment"), [(1, {}), (2, {}), (2, MISLEADING), (3, MISLEADING)])
def test_ranks_of_a_process_group_share_under_every_start_method(
    emulator: Emulator, filled: str, tmp_path: Path, world: int, environment: dict[str, str]
) -> None:
    # The modes are tried with forked workers, which take the least time. Each worker that is spawned imports torch, so
    # one world has them.
    started = ["forkserver", "spawn"] if world == 3 else ["forkserver"]
    cases = [(even, "fork", workers) for even in EVEN for workers in (0, 2)]
    cases += [("pad", method, 2) for method in started]
    grouped = [("fork", 0), ("fork", 2), (started[-1], 1)]
    arguments = [str(tmp_path / "store"), f"oss://{filled}/", json.dumps(emulator.connection)]
    arguments += [json.dumps(cases), json.dumps(grouped)]
    ranks = run_ranks(world, arguments, environment)
    for case, (even, _, _) in enumerate(cases):
        got = [found[case] for found in ranks]
        assert got == [expected(rank, world, even) for rank in range(world)]
        check_together(got, even)
    # Each group has every second rank; the ranks of a group share all objects.
    for rank, found in enumerate(ranks):
        size = len(range(rank % 2, world, 2))
        assert found[len(cases) :] == [expected(rank // 2, size, "pad")] * 3


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("even", EVEN)
def test_an_invalid_shard_is_reported(build: Build, workers: int, even: str) -> None:
    ranks = []
    for rank in range(3):
        dataset = build(shard=(rank, 3), batch_size=4, even=even)
        loader = DataLoader(
            dataset,
            batch_size=4,
            collate_fn=list,
            num_workers=workers,
            multiprocessing_context="fork" if workers else None,
        )
        ranks.append(list(loader))
        assert ranks[-1] == expected(rank, 3, even)
    check_together(ranks, even)


def test_more_ranks_than_objects(build: Build) -> None:
    for even, total in (("pad", 50), ("drop", 0), ("none", COUNT)):
        shares = [list(build(shard=(rank, 50), even=even)) for rank in range(50)]
        assert sum(map(len, shares)) == total
        if even != "none":
            assert len(set(map(len, shares))) == 1


def test_the_environment_does_not_decide_and_says_so_once(
    build: Build, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "4")
    rank_share._warned_of.clear()
    dataset = build()
    with caplog.at_level(logging.WARNING, "osstorchconnector"):
        assert list(build(shard=None)) == NAMES
        assert caplog.messages == []
        assert list(dataset) == list(dataset) == NAMES
    (message,) = caplog.messages
    assert "WORLD_SIZE is 4" in message
    assert "init_process_group" in message


@pytest.fixture
def group(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A process group that seems to contain this process."""
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_rank", lambda group: 2 if group is None else -1)
    monkeypatch.setattr(dist, "get_world_size", lambda group=None: 4 if group is None else 1)
    return object()


def test_a_started_worker_gets_the_share_of_its_owner(group: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    shard = RankShare("auto", None)
    assert shard.resolve() == Share(2, 4)
    set_spawning_popen(object())  # type: ignore[arg-type]
    try:
        started = pickle.dumps(shard)
    finally:
        set_spawning_popen(None)
    sent = pickle.dumps(shard)
    monkeypatch.undo()
    assert pickle.loads(started).resolve() == Share(2, 4)
    # A program may start its ranks itself, and make the group in them.
    share = pickle.loads(started)
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_rank", lambda _group: 1)
    monkeypatch.setattr(dist, "get_world_size", lambda _group=None: 3)
    assert share.resolve() == Share(1, 3)
    monkeypatch.undo()
    # Any other pickle may be read on another rank.
    assert pickle.loads(sent).resolve() == Share(0, 1)
    with pytest.raises(OssConfigError, match=r"process_group does not pickle: give shard=\(index, count\)"):
        pickle.dumps(RankShare("auto", group))


def test_a_process_outside_of_the_group_is_reported(group: Any) -> None:
    with pytest.raises(OssConfigError, match="not in the dataset's process_group"):
        RankShare("auto", group).resolve()
