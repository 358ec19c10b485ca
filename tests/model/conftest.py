"""A model that several tests read, and no warnings of torch about a single process."""

import warnings
from collections.abc import Iterator

import pytest

from osstorchconnector import OssClient
from tests.model.models import Tensors, put_index, put_shards, random_tensors


@pytest.fixture(autouse=True)
def _without_process_group() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        warnings.filterwarnings("ignore", message="torch.distributed is unavailable")
        yield


@pytest.fixture(scope="session")
def tensors() -> Tensors:
    return random_tensors()


@pytest.fixture
def model_uri(client: OssClient, bucket: str, tensors: Tensors) -> str:
    """The directory of a model of three shards and an index."""
    directory = f"oss://{bucket}/model/"
    put_index(client, f"{directory}model.safetensors.index.json", put_shards(client, directory, tensors))
    return directory
