"""Saving and loading by several ranks, in the same and in other numbers, also if one of them fails or dies."""

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
    worlds: Worlds, emulator: Emulator, checkpoint_uri: str, serialization_format: str
) -> None:
    options = {"connection": emulator.connection, "checkpoint_uri": checkpoint_uri}
    seed = 0.0
    for saving, loading in ((4, 2), (2, 4), (1, 2), (2, 1)):
        seed += 1
        worlds.results(saving, "save", **options, seed=seed, serialization_format=serialization_format, thread_count=2)
        # Matrices of 3.4 MB that were saved by columns are read by rows, and the reverse.
        for report in worlds.results(loading, "load", **options, seed=seed):
            assert report["amplification"] < 2


@pytest.mark.slow(120)
@pytest.mark.parametrize(("saving", "loading"), [(1, 1), (2, 2), (2, 4), (4, 2)])
def test_a_model_of_fsdp_trains_on(
    worlds: Worlds, emulator: Emulator, checkpoint_uri: str, tmp_path: Path, saving: int, loading: int
) -> None:
    options = {"connection": emulator.connection, "checkpoint_uri": checkpoint_uri, "kept": f"{tmp_path}/kept"}
    continued = worlds.results(saving, "train_and_save", **options)
    # Each rank compares the state bit for bit, and compares the training with that of a model filled from a file.
    resumed = worlds.results(loading, "load_and_train", **options)
    # The losses depend on the number of ranks: it changes the order of the sum of gradients, and torch 2.7 does not
    # divide the sum by their number on gloo.
    if saving == loading:
        assert resumed == continued


needs_rank_local = pytest.mark.skipif(
    "use_collectives" not in inspect.signature(dcp.save).parameters,
    reason="in this torch, ranks can only save together",
)


@needs_rank_local
@pytest.mark.slow(120)
def test_ranks_save_and_load_each_by_itself(
    worlds: Worlds, emulator: Emulator, client: OssClient, checkpoint_uri: str
) -> None:
    options = {"connection": emulator.connection, "checkpoint_uri": checkpoint_uri}
    for seed in (1.0, 2.0):
        worlds.results(2, "save_alone", **options, seed=seed)
        worlds.results(2, "load_alone", **options, seed=seed)
    (checkpoint,) = checkpoints(client, checkpoint_uri)
    assert checkpoint.complete
    # The second save deleted the files of the first. Left are metadata, checksums and a file of each rank.
    assert not checkpoint.leftovers
    assert len(checkpoint.sizes) == 6
    assert verify(client, checkpoint) > 0
    client.delete(f"{checkpoint_uri}/__1.metadata")
    (checkpoint,) = checkpoints(client, checkpoint_uri)
    assert checkpoint.problems == ["of 2 ranks that save each by itself, [1] have not finished"]


@needs_rank_local
@pytest.mark.slow(120)
@pytest.mark.parametrize("loading", [1, 4])
def test_another_number_of_ranks_raises_that_each_rank_saved_by_itself(
    worlds: Worlds, emulator: Emulator, checkpoint_uri: str, loading: int
) -> None:
    options = {"connection": emulator.connection, "checkpoint_uri": checkpoint_uri, "seed": 1.0}
    worlds.results(2, "save_alone", **options)
    message = f"was saved by 2 ranks, each by itself (use_collectives=False): load it with 2 ranks, not with {loading}"
    for outcome in worlds.run(loading, "load_alone", **options):
        assert message in (outcome.error or ""), outcome


@needs_rank_local
@pytest.mark.slow(120)
def test_another_sharding_raises_that_each_rank_saved_by_itself(
    worlds: Worlds, emulator: Emulator, checkpoint_uri: str
) -> None:
    options = {"connection": emulator.connection, "checkpoint_uri": checkpoint_uri, "seed": 1.0}
    worlds.results(2, "save_alone", **options)
    for outcome in worlds.run(2, "load_columns", **options):
        assert "elements of 'by rows' that this rank loads" in (outcome.error or ""), outcome
    # A checkpoint of all ranks together loads with any sharding.
    together = {**options, "checkpoint_uri": f"{checkpoint_uri}-together"}
    worlds.results(2, "save", **together)
    worlds.results(2, "load_columns", **together)


@needs_rank_local
@pytest.mark.slow(120)
def test_ranks_do_not_save_by_themselves_over_a_checkpoint_of_all_ranks(
    worlds: Worlds, emulator: Emulator, checkpoint_uri: str
) -> None:
    options = {"connection": emulator.connection, "checkpoint_uri": checkpoint_uri}
    worlds.results(2, "save", **options, seed=1.0)
    for outcome in worlds.run(2, "save_alone", **options, seed=2.0):
        assert "there is a checkpoint of all ranks at" in (outcome.error or ""), outcome
    worlds.results(2, "load", **options, seed=1.0)


def fetched(emulator: Emulator) -> dict[str, int]:
    """Return how many bytes of each checkpoint file the server sent."""
    sent: dict[str, int] = {}
    for request in emulator.requests(operation="GetObject"):
        if request.key is not None and request.key.endswith(".distcp"):
            sent[request.key] = sent.get(request.key, 0) + request.response_bytes
    emulator.clear_requests()
    return sent


@pytest.mark.slow(120)
@pytest.mark.parametrize("size", [1, 2, 4])
def test_what_the_ranks_of_a_machine_share_is_read_once(
    worlds: Worlds, emulator: Emulator, client: OssClient, checkpoint_uri: str, size: int
) -> None:
    options = {"connection": emulator.connection, "checkpoint_uri": checkpoint_uri}
    worlds.results(2, "save", **options, seed=1.0)
    sizes = {item.name: item.size for item in client.list(f"{checkpoint_uri}/") if item.name.endswith(".distcp")}
    emulator.clear_requests()
    worlds.results(size, "load", **options, seed=1.0)
    alone = fetched(emulator)
    # A small budget makes several batches.
    worlds.results(size, "load", **options, seed=1.0, share_replicated=True, budget=1_000_000)
    shared = fetched(emulator)
    # Every byte of each file once, except frames that no rank needs.
    assert all(0.99 * sizes[name] < count <= sizes[name] for name, count in shared.items())
    assert shared.keys() == sizes.keys()
    if size > 1:
        assert sum(alone.values()) > 1.2 * sum(shared.values())


@pytest.mark.slow(120)
def test_each_machine_reads_what_its_ranks_share(
    worlds: Worlds, emulator: Emulator, client: OssClient, checkpoint_uri: str
) -> None:
    options = {"connection": emulator.connection, "checkpoint_uri": checkpoint_uri}
    worlds.results(2, "save", **options, seed=1.0)
    sizes = {item.name: item.size for item in client.list(f"{checkpoint_uri}/") if item.name.endswith(".distcp")}
    emulator.clear_requests()
    worlds.results(4, "load_on_machines", **options, seed=1.0, machines=["a", "b", "a", "b"])
    shared = fetched(emulator)
    # Sharded items are read by one machine, replicated ones by both.
    assert sum(sizes.values()) < sum(shared.values()) <= 2 * sum(sizes.values())
    worlds.results(4, "load_on_machines", **options, seed=1.0, machines=["a", "b", "c", "d"])
    assert sum(fetched(emulator).values()) > sum(shared.values())


@pytest.mark.slow(60)
def test_ranks_never_load_different_saves(worlds: Worlds, emulator: Emulator, bucket: str, checkpoint_uri: str) -> None:
    # The files of the first save stay, so both saves can be read.
    with emulator.fault(bucket=bucket, operation="DeleteMultipleObjects", error="AccessDenied"):
        outcomes = worlds.run(2, "load_while_replaced", connection=emulator.connection, checkpoint_uri=checkpoint_uri)
    for outcome in outcomes:
        assert "was replaced while it was loaded" in (outcome.error or ""), outcome


@pytest.mark.slow(120)
def test_a_rank_that_cannot_read_a_shared_item_reports_it_to_the_others(
    worlds: Worlds, emulator: Emulator, bucket: str, checkpoint_uri: str
) -> None:
    options = {"connection": emulator.connection, "checkpoint_uri": checkpoint_uri}
    worlds.results(2, "save", **options, seed=1.0)
    with emulator.fault(bucket=bucket, operation="GetObject", key="*__1_*", error="AccessDenied"):
        outcomes = worlds.run(4, "load", **options, seed=1.0, share_replicated=True)
    assert all("AccessDenied" in (outcome.error or "") for outcome in outcomes), outcomes
    assert any("could not read" in (outcome.error or "") for outcome in outcomes)


@pytest.mark.slow(120)
@pytest.mark.parametrize("victim", [0, 1])
@pytest.mark.parametrize("stage", RANK_STAGES + COORDINATOR_STAGES)
def test_a_rank_killed_at_any_stage_leaves_the_first_save_whole_or_the_second(
    worlds: Worlds, emulator: Emulator, checkpoint_uri: str, victim: int, stage: str
) -> None:
    options = {"connection": emulator.connection, "checkpoint_uri": checkpoint_uri, "seeds": [1.0, 2.0]}
    outcomes = worlds.run(2, "save_and_die", **options, victim=victim, stage=stage)
    assert outcomes[victim].killed_by == signal.SIGKILL
    # While the coordinator publishes, it does not need the other ranks any more.
    last_stages = COORDINATOR_STAGES[COORDINATOR_STAGES.index("finish" if victim else "deleting") :]
    published = stage in last_stages
    # The other rank raises and does not hang. The coordinator's last message to a dead rank may seem to arrive.
    survivor = outcomes[1 - victim]
    assert survivor.killed_by is None
    assert survivor.error is not None or (published and victim)
    assert "it hung" not in (survivor.error or "")
    # The next save does not depend on the failed one.
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
    worlds: Worlds, emulator: Emulator, bucket: str, checkpoint_uri: str, fault: FaultRule
) -> None:
    options = {"connection": emulator.connection, "checkpoint_uri": checkpoint_uri}
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
    worlds: Worlds, emulator: Emulator, bucket: str, checkpoint_uri: str, fault: FaultRule
) -> None:
    options = {"connection": emulator.connection, "checkpoint_uri": checkpoint_uri}
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
def test_a_save_and_a_load_survive_temporary_faults(
    worlds: Worlds, emulator: Emulator, bucket: str, checkpoint_uri: str, fault: FaultRule
) -> None:
    # With 30% failures, one of 1,400 requests fails six times in a row, and there are a few dozen requests.
    options = {"connection": emulator.connection, "checkpoint_uri": checkpoint_uri, "max_attempts": 20}
    rule: FaultRule = {**fault, "bucket": bucket, "seed": 5}
    with emulator.fault(**rule) as injected:
        worlds.results(2, "save", **options, seed=1.0)
        worlds.results(2, "load", **options, seed=1.0)
        assert injected.acted > 0
