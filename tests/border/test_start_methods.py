"""Datasets in DataLoader workers, under each start method."""

import operator
import pickle
from typing import Any

import pytest
from torch.utils.data import DataLoader

from osstorchconnector import (
    OssClient,
    OssConfig,
    OssCredentialsError,
    OssIterableDataset,
    OssMapDataset,
    OssNotFoundError,
)
from osstorchconnector.testing import Emulator

CONTENTS = [f"content {number}".encode() for number in range(23)]
DATASETS = [OssIterableDataset, OssMapDataset]
# Each started worker imports torch, which takes seconds on a busy machine.
METHODS = [
    pytest.param("fork"),
    pytest.param("forkserver", marks=pytest.mark.slow(120)),
    pytest.param("spawn", marks=pytest.mark.slow(120)),
]
WITH_WORKERS = [pytest.param(*method.values, 2, marks=method.marks) for method in METHODS]
READ = operator.methodcaller("read")


class Provider:
    def __init__(self, config: OssConfig) -> None:
        self.access_key = (config.access_key_id, config.access_key_secret)

    def get_credentials(self) -> OssConfig:
        return OssConfig(access_key_id=self.access_key[0], access_key_secret=self.access_key[1])


@pytest.fixture
def filled(client: OssClient, bucket: str) -> str:
    for number, content in enumerate(CONTENTS):
        client.put(f"oss://{bucket}/{number:02}", content)
    return bucket


def load(dataset: Any, method: str | None, workers: int) -> list[bytes]:
    return list(DataLoader(dataset, batch_size=None, num_workers=workers, multiprocessing_context=method))


@pytest.mark.parametrize(("method", "workers"), [pytest.param(None, 0), *WITH_WORKERS])
@pytest.mark.parametrize("dataset_type", DATASETS)
@pytest.mark.parametrize("source", ["prefix", "objects"])
def test_every_object_is_delivered_exactly_once(
    emulator: Emulator, filled: str, dataset_type: Any, source: str, method: str | None, workers: int
) -> None:
    if source == "prefix":
        dataset = dataset_type.from_prefix(f"oss://{filled}/", transform=READ, **emulator.connection)
    else:
        uris = [f"oss://{filled}/{number:02}" for number in range(len(CONTENTS))]
        dataset = dataset_type.from_objects(uris, transform=READ, **emulator.connection)
    assert sorted(load(dataset, method, workers)) == sorted(CONTENTS)


@pytest.mark.parametrize(("method", "workers"), WITH_WORKERS)
@pytest.mark.parametrize("dataset_type", DATASETS)
def test_a_dataset_used_before_is_used_in_workers_and_after(
    emulator: Emulator, filled: str, dataset_type: Any, method: str, workers: int
) -> None:
    dataset = dataset_type.from_prefix(f"oss://{filled}/", transform=READ, **emulator.connection)
    first = iter(dataset)
    assert next(first) == CONTENTS[0]
    assert sorted(load(dataset, method, workers)) == sorted(CONTENTS)
    # The iteration that began before the workers continues at its position.
    assert list(first) == CONTENTS[1:]
    assert list(dataset) == CONTENTS


class PlainlyPickled:
    """A wrapper that pickles what it holds with plain pickle, as torch's datapipes do."""

    def __init__(self, datasets: list[Any]) -> None:
        self.datasets = datasets

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> list[Any]:
        return [list(dataset) for dataset in self.datasets]

    def __getstate__(self) -> Any:
        # Each by itself, and one directly.
        return [pickle.dumps(dataset) for dataset in self.datasets], self.datasets[:1]

    def __setstate__(self, state: Any) -> None:
        self.datasets = [pickle.loads(dataset) for dataset in state[0]]


@pytest.mark.parametrize("method", METHODS)
def test_a_wrapper_may_use_plain_pickle(emulator: Emulator, filled: str, method: str) -> None:
    uris = [f"oss://{filled}/{number:02}" for number in range(3)]
    kinds: list[Any] = DATASETS
    datasets = [kind.from_objects(uris, transform=READ, **emulator.connection) for kind in kinds]
    datasets += [kind.from_prefix(f"oss://{filled}/0", transform=READ, **emulator.connection) for kind in kinds]
    datasets[2].set_epoch(3)
    wrapper: Any = PlainlyPickled(datasets)
    # The workers of a loader divide the objects of iterable datasets.
    found = list(DataLoader(wrapper, batch_size=None, num_workers=2, multiprocessing_context=method))
    assert sorted(found[0][0] + found[1][0]) == CONTENTS[:3]
    assert found[0][1] == CONTENTS[:3]
    assert sorted(found[0][2] + found[1][2]) == CONTENTS[:10]
    assert found[0][3] == CONTENTS[:10]
    # The processes share one epoch.
    assert datasets[2]._shared.epoch == 4


@pytest.mark.parametrize(("method", "workers"), WITH_WORKERS)
@pytest.mark.parametrize("explicit", [True, False])
def test_secrets_reach_the_workers(
    emulator: Emulator, filled: str, method: str, workers: int, *, explicit: bool
) -> None:
    how: dict[str, Any] = {"config": emulator.config} if explicit else {"cred_provider": Provider(emulator.config)}
    dataset = OssIterableDataset.from_prefix(
        f"oss://{filled}/", emulator.endpoint, transform=READ, region=emulator.region, **how
    )
    assert sorted(load(dataset, method, workers)) == sorted(CONTENTS)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dataset_type", DATASETS)
def test_a_workers_error_keeps_its_class_and_fields(
    emulator: Emulator, bucket: str, dataset_type: Any, method: str
) -> None:
    # One worker: a second one might still start while the error ends the loader, and then it fails too.
    dataset = dataset_type.from_objects(f"oss://{bucket}/missing [x]", transform=READ, **emulator.connection)
    iterator = iter(DataLoader(dataset, batch_size=None, num_workers=1, multiprocessing_context=method))
    with pytest.raises(OssNotFoundError, match="in DataLoader worker process") as caught:
        next(iterator)
    # The error's traceback holds the iterator. If the garbage collector ends it, torch needs five seconds.
    iterator._shutdown_workers()  # type: ignore[attr-defined]
    error = caught.value
    assert (error.code, error.status, error.bucket, error.key) == ("NoSuchKey", 404, bucket, "missing [x]")
    assert error.request_id


@pytest.mark.parametrize("dataset_type", DATASETS)
def test_a_dataset_pickles_without_its_secret(emulator: Emulator, filled: str, dataset_type: Any) -> None:
    dataset = dataset_type.from_prefix(f"oss://{filled}/", transform=READ, **emulator.connection)
    assert next(iter(dataset)) == CONTENTS[0]
    pickled = pickle.dumps(dataset)
    assert emulator.access_key_secret.encode() not in pickled
    assert list(pickle.loads(pickled)) == CONTENTS


@pytest.mark.parametrize("dataset_type", DATASETS)
def test_a_dataset_with_its_secret_does_not_pickle(emulator: Emulator, filled: str, dataset_type: Any) -> None:
    for how in ({"config": emulator.config}, {"cred_provider": Provider(emulator.config)}):
        dataset = dataset_type.from_prefix(f"oss://{filled}/", emulator.endpoint, region=emulator.region, **how)
        with pytest.raises(OssCredentialsError, match="cred_path"):
            pickle.dumps(dataset)


def test_native_values_do_not_pickle(client: OssClient, bucket: str) -> None:
    with client.writer(f"oss://{bucket}/a") as writer:
        for handle in (client._native_client, client.list(f"oss://{bucket}/"), writer):
            with pytest.raises(TypeError, match="pickle"):
                pickle.dumps(handle)
