"""Several ranks load one model: each byte is fetched once, and a failure of one is a failure of all."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from osstorchconnector import OssClient, OssConfigError
from osstorchconnector.testing import Emulator
from tests.dcp.worlds import Worlds
from tests.model.models import opened, put, put_index, put_shards, random_tensors, shared_tensors

# The first test waits until torch is imported, and each rank opens connections.
pytestmark = pytest.mark.slow(100)


@pytest.fixture(scope="module")
def worlds() -> Iterator[Worlds]:
    with Worlds("tests.model.ranks") as started:
        yield started


@pytest.fixture
def shared_model(client: OssClient, bucket: str) -> str:
    """A model of several rounds."""
    directory = f"oss://{bucket}/model/"
    tensors = shared_tensors()
    put_index(client, f"{directory}model.safetensors.index.json", put_shards(client, directory, tensors))
    return directory


def received(emulator: Emulator) -> int:
    return sum(request.response_bytes for request in emulator.requests(operation="GetObject"))


def stored(client: OssClient, directory: str) -> int:
    return sum(item.size for item in client.list(directory))


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("how", ["load", "iterate", "into"])
def test_each_byte_is_fetched_once(
    emulator: Emulator, client: OssClient, worlds: Worlds, shared_model: str, size: int, how: str
) -> None:
    emulator.clear_requests()
    results = worlds.results(size, "read", connection=emulator.connection, uri=shared_model, share="node", how=how)
    assert results == [results[0]] * size
    assert len(results[0]) == 19
    # Besides the model itself, each rank reads the index and the headers.
    headers = size * 4 * (64 << 10)
    assert (
        stored(client, shared_model)
        <= received(emulator) + headers
        <= 1.02 * stored(client, shared_model) + 2 * headers
    )
    alone = worlds.results(1, "read", connection=emulator.connection, uri=shared_model, share=None, how=how)
    assert alone == [results[0]]


@pytest.mark.parametrize(("size", "machines"), [(2, "ab"), (3, "aab"), (3, "aba"), (3, "abc")])
def test_machines_send_each_other_what_they_have_received(
    emulator: Emulator, client: OssClient, worlds: Worlds, shared_model: str, size: int, machines: str
) -> None:
    arguments: dict[str, Any] = {"connection": emulator.connection, "uri": shared_model, "machines": machines}
    emulator.clear_requests()
    results = worlds.results(size, "read", **arguments, share="job")
    once = received(emulator)
    assert results == [results[0]] * size
    assert once <= 1.02 * stored(client, shared_model) + size * 4 * (64 << 10)
    emulator.clear_requests()
    assert worlds.results(size, "read", **arguments, share="node") == results
    # Each machine has fetched all.
    assert received(emulator) >= (len(set(machines)) - 0.1) * once


def test_each_rank_gets_its_slices(emulator: Emulator, client: OssClient, worlds: Worlds, shared_model: str) -> None:
    emulator.clear_requests()
    results = worlds.results(3, "read_slices", connection=emulator.connection, uri=shared_model)
    assert results == [True] * 3
    assert received(emulator) <= 1.02 * stored(client, shared_model) + 3 * 4 * (64 << 10)


def test_a_rank_that_cannot_fetch_fails_all(emulator: Emulator, worlds: Worlds, shared_model: str) -> None:
    with emulator.fault(operation="GetObject", key="*00002-of*", nth=5, error="AccessDenied"):
        outcomes = worlds.run(3, "read", connection=emulator.connection, uri=shared_model, share="node")
    assert all("of oss://" in (outcome.error or "") for outcome in outcomes), outcomes
    assert all("could not be read" in (outcome.error or "") for outcome in outcomes), outcomes


@pytest.mark.parametrize(
    "how", ["client", "budget", "open", "device", "closed", "raise", "leave", "memory", "copy", "map", "names"]
)
def test_a_rank_that_fails_fails_all(emulator: Emulator, worlds: Worlds, shared_model: str, how: str) -> None:
    outcomes = worlds.run(3, "fail", connection=emulator.connection, uri=shared_model, how=how)
    errors = [outcome.error or "" for outcome in outcomes]
    alone = "rank 1 could not load the model, so no rank does: "
    expected = {
        "client": f"{alone}OssCredentialsError: credential file '/nothing' cannot be read",
        "budget": f"{alone}OssConfigError: budget must be at least",
        "device": f"{alone}OssConfigError: device must be a torch device",
        "closed": f"{alone}ValueError: I/O operation on closed model",
        "copy": f"{alone}RuntimeError: the accelerator has fallen off the bus",
        "open": f"{alone}OssNotFoundError",
        "raise": f"{alone}rank 1 has not read to the end",
        "leave": f"{alone}rank 1 has not read to the end",
        "memory": f"{alone}tensor 'large.4' of oss://",
        "map": "says: rank 1 cannot open it: Cannot allocate memory; give the container more",
        "names": "rank 1 asks for other tensors than rank 0",
    }[how]
    assert expected in errors[0], errors
    assert expected in errors[2], errors
    assert outcomes[0].result is None


@pytest.mark.parametrize(("budgets", "shares"), [((48, 96), ("node", "node")), ((48, 48), ("node", "job"))])
def test_ranks_with_other_arguments(
    emulator: Emulator, worlds: Worlds, shared_model: str, budgets: Any, shares: Any
) -> None:
    arguments: dict[str, Any] = {"connection": emulator.connection, "uri": shared_model}
    outcomes = worlds.run(2, "read_apart", **arguments, budgets=budgets, shares=shares)
    expected = "rank 1 has opened the model with another budget or share than rank 0"
    assert all(expected in (outcome.error or "") for outcome in outcomes), outcomes


def test_sharing_needs_a_process_group(emulator: Emulator, shared_model: str) -> None:
    with pytest.raises(OssConfigError, match="share needs a process group with a backend for the CPU"):
        opened(emulator, shared_model, share="node")


def test_a_killed_rank_fails_the_others_and_leaves_nothing(
    emulator: Emulator, worlds: Worlds, shared_model: str
) -> None:
    outcomes = worlds.run(3, "fail", connection=emulator.connection, uri=shared_model, how="kill")
    assert outcomes[1].killed_by == 9
    assert all("has lost another rank" in (outcomes[rank].error or "") for rank in (0, 2)), outcomes
    assert not [name for name in os.listdir("/dev/shm") if name.startswith("osst-model-")]  # noqa: PTH208


def test_a_replaced_shard_is_found_by_the_ranks_together(
    emulator: Emulator, client: OssClient, worlds: Worlds, bucket: str, tmp_path: Path
) -> None:
    put(client, f"oss://{bucket}/model.safetensors", random_tensors(1))
    outcomes = worlds.run(
        2, "open_apart", connection=emulator.connection, uri=f"oss://{bucket}/model.safetensors", folder=str(tmp_path)
    )
    assert all("was replaced while rank 0 and rank 1 opened it" in (outcome.error or "") for outcome in outcomes)


def test_flipped_bytes_are_found_by_all_ranks(emulator: Emulator, worlds: Worlds, shared_model: str) -> None:
    with emulator.fault(operation="GetObject", key="*00002-of*", nth=5, flip=100):
        outcomes = worlds.run(2, "read", connection=emulator.connection, uri=shared_model, share="node")
    assert all("corrupted on the way" in (outcome.error or "") for outcome in outcomes)
