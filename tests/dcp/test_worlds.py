"""Saving and loading by several ranks, of as many and of other numbers, also when one of them fails or dies."""

import inspect
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch.distributed.checkpoint as dcp

from osstorchconnector import OssClient
from osstorchconnector.dcp.history import checkpoints, verify
from osstorchconnector.testing import Emulator, FaultRule
from tests.dcp.stages import COORDINATOR_STAGES, RANK_STAGES
from tests.dcp.worlds import Worlds


@pytest.fixture(scope="module")
def worlds() -> Iterator[Worlds]:
    with Worlds() as running:
        yield running


@pytest.mark.slow(120)
@pytest.mark.parametrize("serialization_format", ["torch_save", "safetensors"])
def test_another_number_of_ranks_loads_it(
    worlds: Worlds, emulator: Emulator, place: str, serialization_format: str
) -> None:
    options = {"connection": emulator.connection, "place": place}
    seed = 0.0
    for saving, loading in ((4, 2), (2, 4), (1, 2), (2, 1)):
        seed += 1
        worlds.results(saving, "save", **options, seed=seed, serialization_format=serialization_format, thread_count=2)
        # Matrices of 3.4 MB by columns are read as rows, and the other way round.
        for report in worlds.results(loading, "load", **options, seed=seed):
            assert report["amplification"] < 2


@pytest.mark.slow(120)
@pytest.mark.parametrize(("saving", "loading"), [(1, 1), (2, 2), (2, 4), (4, 2)])
def test_a_model_of_fsdp_trains_on(
    worlds: Worlds, emulator: Emulator, place: str, tmp_path: Path, saving: int, loading: int
) -> None:
    options = {"connection": emulator.connection, "place": place, "kept": f"{tmp_path}/kept"}
    went_on = worlds.results(saving, "train_and_save", **options)
    # Each rank compares the state bit for bit, and its training with that of a model which had the state from a file.
    resumed = worlds.results(loading, "load_and_train", **options)
    # Training depends on the number of ranks: they add their gradients in an order of their own, and torch 2.7 does
    # not divide the sum by their number on gloo.
    if saving == loading:
        assert resumed == went_on


needs_rank_local = pytest.mark.skipif(
    "use_collectives" not in inspect.signature(dcp.save).parameters, reason="in this torch ranks save together only"
)


@needs_rank_local
@pytest.mark.slow(120)
def test_ranks_save_and_load_each_by_itself(worlds: Worlds, emulator: Emulator, client: OssClient, place: str) -> None:
    options = {"connection": emulator.connection, "place": place}
    for seed in (1.0, 2.0):
        worlds.results(2, "save_alone", **options, seed=seed)
        worlds.results(2, "load_alone", **options, seed=seed)
    (checkpoint,) = checkpoints(client, place)
    assert checkpoint.complete
    # The second save has deleted the files of the first: of each rank its metadata, its checksums, and its file.
    assert not checkpoint.leftovers
    assert len(checkpoint.sizes) == 6
    assert verify(client, checkpoint) > 0
    client.delete(f"{place}/__1.metadata")
    (checkpoint,) = checkpoints(client, place)
    assert checkpoint.problems == ["of 2 ranks that save each by itself, [1] have not finished"]


@needs_rank_local
@pytest.mark.slow(120)
@pytest.mark.parametrize("loading", [1, 4])
def test_another_number_of_ranks_raises_that_each_rank_saved_by_itself(
    worlds: Worlds, emulator: Emulator, place: str, loading: int
) -> None:
    options = {"connection": emulator.connection, "place": place, "seed": 1.0}
    worlds.results(2, "save_alone", **options)
    told = f"was saved by 2 ranks, each by itself (use_collectives=False), and is loaded by as many, not by {loading}"
    for outcome in worlds.run(loading, "load_alone", **options):
        assert told in (outcome.error or ""), outcome


@needs_rank_local
@pytest.mark.slow(120)
def test_another_sharding_raises_that_each_rank_saved_by_itself(worlds: Worlds, emulator: Emulator, place: str) -> None:
    options = {"connection": emulator.connection, "place": place, "seed": 1.0}
    worlds.results(2, "save_alone", **options)
    for outcome in worlds.run(2, "load_columns", **options):
        assert "elements of 'by rows' that this rank is to load" in (outcome.error or ""), outcome
    # Of all ranks together it is loaded either way.
    together = {**options, "place": f"{place}-together"}
    worlds.results(2, "save", **together)
    worlds.results(2, "load_columns", **together)


@needs_rank_local
@pytest.mark.slow(120)
def test_ranks_do_not_save_by_themselves_where_all_ranks_have_saved(
    worlds: Worlds, emulator: Emulator, place: str
) -> None:
    options = {"connection": emulator.connection, "place": place}
    worlds.results(2, "save", **options, seed=1.0)
    for outcome in worlds.run(2, "save_alone", **options, seed=2.0):
        assert "there is a checkpoint of all ranks at" in (outcome.error or ""), outcome
    worlds.results(2, "load", **options, seed=1.0)


def fetched(emulator: Emulator) -> dict[str, int]:
    """Return how many bytes of each file of checkpoints the server has sent."""
    sent: dict[str, int] = {}
    for request in emulator.requests(operation="GetObject"):
        if request.key is not None and request.key.endswith(".distcp"):
            sent[request.key] = sent.get(request.key, 0) + request.response_bytes
    emulator.clear_requests()
    return sent


@pytest.mark.slow(120)
@pytest.mark.parametrize("size", [1, 2, 4])
def test_what_the_ranks_of_a_machine_share_is_read_once(
    worlds: Worlds, emulator: Emulator, client: OssClient, place: str, size: int
) -> None:
    options = {"connection": emulator.connection, "place": place}
    worlds.results(2, "save", **options, seed=1.0)
    sizes = {item.name: item.size for item in client.list(f"{place}/") if item.name.endswith(".distcp")}
    emulator.clear_requests()
    worlds.results(size, "load", **options, seed=1.0)
    alone = fetched(emulator)
    # A small budget makes several rounds of it.
    worlds.results(size, "load", **options, seed=1.0, share_replicated=True, budget=1_000_000)
    shared = fetched(emulator)
    # Of each file every byte but frames that nobody needs, and none twice.
    assert all(0.99 * sizes[name] < count <= sizes[name] for name, count in shared.items())
    assert shared.keys() == sizes.keys()
    if size > 1:
        assert sum(alone.values()) > 1.2 * sum(shared.values())


@pytest.mark.slow(120)
def test_each_machine_reads_what_its_ranks_share(
    worlds: Worlds, emulator: Emulator, client: OssClient, place: str
) -> None:
    options = {"connection": emulator.connection, "place": place}
    worlds.results(2, "save", **options, seed=1.0)
    sizes = {item.name: item.size for item in client.list(f"{place}/") if item.name.endswith(".distcp")}
    emulator.clear_requests()
    worlds.results(4, "load_on_machines", **options, seed=1.0, machines=["a", "b", "a", "b"])
    shared = fetched(emulator)
    # What is sharded is read by the machine that needs it, what is replicated by both.
    assert sum(sizes.values()) < sum(shared.values()) <= 2 * sum(sizes.values())
    worlds.results(4, "load_on_machines", **options, seed=1.0, machines=["a", "b", "c", "d"])
    assert sum(fetched(emulator).values()) > sum(shared.values())


@pytest.mark.slow(60)
def test_ranks_never_load_different_saves(worlds: Worlds, emulator: Emulator, bucket: str, place: str) -> None:
    # The files of the first save stay, so that each of the saves can be read.
    with emulator.fault(bucket=bucket, operation="DeleteMultipleObjects", error="AccessDenied"):
        outcomes = worlds.run(2, "load_while_replaced", connection=emulator.connection, place=place)
    for outcome in outcomes:
        assert "was replaced while it was loaded" in (outcome.error or ""), outcome


@pytest.mark.slow(120)
def test_a_rank_that_cannot_read_what_it_shares_tells_the_others(
    worlds: Worlds, emulator: Emulator, bucket: str, place: str
) -> None:
    options = {"connection": emulator.connection, "place": place}
    worlds.results(2, "save", **options, seed=1.0)
    with emulator.fault(bucket=bucket, operation="GetObject", key="*__1_*", error="AccessDenied"):
        outcomes = worlds.run(4, "load", **options, seed=1.0, share_replicated=True)
    assert all("AccessDenied" in (outcome.error or "") for outcome in outcomes), outcomes
    assert any("could not read" in (outcome.error or "") for outcome in outcomes)


@pytest.mark.slow(120)
@pytest.mark.parametrize("victim", [0, 1])
@pytest.mark.parametrize("stage", RANK_STAGES + COORDINATOR_STAGES)
def test_a_rank_killed_at_any_stage_leaves_the_first_save_whole_or_the_second(
    worlds: Worlds, emulator: Emulator, place: str, victim: int, stage: str
) -> None:
    options = {"connection": emulator.connection, "place": place, "seeds": [1.0, 2.0]}
    outcomes = worlds.run(2, "save_and_die", **options, victim=victim, stage=stage)
    assert outcomes[victim].killed_by == signal.SIGKILL
    # While the coordinator publishes, it needs nobody any more.
    last_stages = COORDINATOR_STAGES[COORDINATOR_STAGES.index("finish" if victim else "deleting") :]
    published = stage in last_stages
    # The other one is told, and does not hang. What the coordinator sends to the dead at the end may seem to arrive.
    survivor = outcomes[1 - victim]
    assert survivor.killed_by is None
    assert survivor.error is not None or (published and victim)
    assert "it hung" not in (survivor.error or "")
    # The next save needs nothing of the one that failed.
    found = worlds.results(2, "which_and_save", **options, seed=3.0)
    assert found == [2.0 if published else 1.0] * 2


FAULTS: list[FaultRule] = [
    {"operation": "PutObject", "error": "AccessDenied"},
    {"operation": "PutObject", "key": "*__1_*", "error": "AccessDenied"},
    {"operation": "PutObject", "key": "*/.items-*", "error": "AccessDenied"},
    {"operation": "PutObject", "key": "*/.metadata", "error": "AccessDenied"},
]


@pytest.mark.slow(120)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_failed_save_is_reported_on_every_rank(
    worlds: Worlds, emulator: Emulator, bucket: str, place: str, fault: FaultRule
) -> None:
    options = {"connection": emulator.connection, "place": place}
    worlds.results(2, "save", **options, seed=1.0)
    rule: FaultRule = {**fault, "bucket": bucket}
    with emulator.fault(**rule):
        outcomes = worlds.run(2, "save", **options, seed=2.0)
    assert all("AccessDenied" in (outcome.error or "") for outcome in outcomes), outcomes
    assert worlds.results(2, "which", **options, seeds=[1.0, 2.0]) == [1.0, 1.0]


@pytest.mark.slow(120)
@pytest.mark.parametrize(
    "fault",
    [
        {"operation": "GetObject", "error": "AccessDenied"},
        {"operation": "GetObject", "key": "*/.items-*", "error": "AccessDenied"},
        {"operation": "GetObject", "key": "*__1_*", "error": "AccessDenied"},
        {"operation": "HeadObject", "error": "AccessDenied"},
    ],
)
def test_a_failed_load_is_reported_on_every_rank(
    worlds: Worlds, emulator: Emulator, bucket: str, place: str, fault: FaultRule
) -> None:
    options = {"connection": emulator.connection, "place": place}
    worlds.results(2, "save", **options, seed=1.0)
    rule: FaultRule = {**fault, "bucket": bucket}
    with emulator.fault(**rule):
        outcomes = worlds.run(2, "load", **options, seed=1.0)
    assert all("AccessDenied" in (outcome.error or "") for outcome in outcomes), outcomes


@pytest.mark.slow(120)
@pytest.mark.parametrize(
    "fault",
    [
        {"probability": 0.3, "error": "InternalError"},
        {"probability": 0.3, "throttle": 0.01},
        {"operation": "GetObject", "probability": 0.3, "reset": "middle"},
        {"operation": "GetObject", "probability": 0.3, "truncate": "middle"},
        {"operation": "GetObject", "probability": 0.3, "reset": "before"},
        {"operation": "GetObject", "nth": [2, 5], "flip": "middle"},
        {"operation": "PutObject", "nth": [1, 3], "lose_reply": True},
    ],
)
def test_temporary_faults_are_got_over(
    worlds: Worlds, emulator: Emulator, bucket: str, place: str, fault: FaultRule
) -> None:
    # What fails three times in ten fails six times running once in 1,400 requests, and there are a few dozen.
    options = {"connection": emulator.connection, "place": place, "max_attempts": 20}
    rule: FaultRule = {**fault, "bucket": bucket, "seed": 5}
    with emulator.fault(**rule) as injected:
        worlds.results(2, "save", **options, seed=1.0)
        worlds.results(2, "load", **options, seed=1.0)
        assert injected.acted > 0
