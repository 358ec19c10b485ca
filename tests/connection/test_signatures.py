"""The documented constructors take the arguments that version 1.2.3 of the original takes."""

import inspect
from collections.abc import Callable
from inspect import Parameter
from typing import Any

import pytest

from osstorchconnector import (
    OssCheckpoint,
    OssClient,
    OssIterableDataset,
    OssMapDataset,
    OssSafetensor,
    generate_tar_archive,
    new_data_object,
)

POSITIONAL = Parameter.POSITIONAL_OR_KEYWORD
KEYWORD = Parameter.KEYWORD_ONLY
REQUIRED = Parameter.empty

# inspect.signature of osstorchconnector 1.2.3: name, kind, default. The default transform is the function "identity".
OPTIONS = [
    ("cred_path", KEYWORD, ""),
    ("cred_provider", KEYWORD, None),
    ("config_path", KEYWORD, ""),
    ("transform", KEYWORD, "identity"),
    ("region", KEYWORD, ""),
]
RECORDED: dict[str, list[tuple[str, Any, Any]]] = {
    "from_objects": [("object_uris", POSITIONAL, REQUIRED), ("endpoint", POSITIONAL, REQUIRED), *OPTIONS],
    "from_manifest_file": [
        ("manifest_file_path", POSITIONAL, REQUIRED),
        ("manifest_parser", POSITIONAL, REQUIRED),
        ("oss_base_uri", POSITIONAL, REQUIRED),
        ("endpoint", POSITIONAL, REQUIRED),
        *OPTIONS,
    ],
    "from_prefix": [("oss_uri", POSITIONAL, REQUIRED), ("endpoint", POSITIONAL, REQUIRED), *OPTIONS],
}
TAR = [("tar_uri", POSITIONAL, REQUIRED), ("tar_index_uri", POSITIONAL, REQUIRED), ("endpoint", POSITIONAL, REQUIRED)]
OURS = ("config", KEYWORD, None)
FURTHER = ("options", Parameter.VAR_KEYWORD, REQUIRED)


def table_of(function: Callable[..., Any]) -> list[tuple[str, Any, Any]]:
    return [
        (parameter.name, parameter.kind, getattr(parameter.default, "__name__", parameter.default))
        if parameter.default is not REQUIRED
        else (parameter.name, parameter.kind, REQUIRED)
        for parameter in inspect.signature(function).parameters.values()
    ]


def test_archives() -> None:
    shuffle = [("shuffle", KEYWORD, False), ("shuffle_chunk_size", KEYWORD, 1000)]
    assert table_of(OssMapDataset.from_tar) == [*TAR, *OPTIONS, OURS, FURTHER]
    assert table_of(OssIterableDataset.from_tar) == [*TAR, *OPTIONS[:-1], *shuffle, OPTIONS[-1], OURS, FURTHER]
    assert [(name, default) for name, _, default in table_of(generate_tar_archive)][:9] == [
        ("endpoint", REQUIRED),
        ("cred_path", REQUIRED),
        ("config_path", REQUIRED),
        ("tar_path", REQUIRED),
        ("index_path", REQUIRED),
        ("source_path", REQUIRED),
        ("index_only", False),
        ("cred_provider", None),
        ("region", ""),
    ]


@pytest.mark.parametrize("dataset", [OssIterableDataset, OssMapDataset])
@pytest.mark.parametrize("constructor", RECORDED)
def test_dataset_constructors(dataset: type, constructor: str) -> None:
    assert table_of(getattr(dataset, constructor)) == [*RECORDED[constructor], OURS, FURTHER]


@pytest.mark.parametrize("cls", [OssClient, OssSafetensor])
def test_client(cls: type) -> None:
    originals = [("uuid", POSITIONAL, ""), ("id", POSITIONAL, 0), ("total", POSITIONAL, 1)]
    assert table_of(cls) == [
        ("endpoint", POSITIONAL, REQUIRED),
        ("cred_path", POSITIONAL, ""),
        ("config_path", POSITIONAL, ""),
        *(originals if cls is OssClient else []),
        ("cred_provider", POSITIONAL, None),
        ("region", POSITIONAL, ""),
        OURS,
    ]


@pytest.mark.parametrize(
    ("method", "names"),
    [
        ("get_object", ["bucket", "key", "size", "type", "label"]),
        ("put_object", ["bucket", "key"]),
        ("head_object", ["bucket", "key"]),
        ("rename_object", ["bucket", "key", "new_bucket", "new_key"]),
        ("remove_object", ["bucket", "key"]),
        ("list_objects", ["bucket", "prefix"]),
    ],
)
def test_client_methods(method: str, names: list[str]) -> None:
    assert list(inspect.signature(getattr(OssClient, method)).parameters) == ["self", *names]


def test_new_data_object_takes_positional_arguments() -> None:
    item = new_data_object("/bucket/key", 3, "label")
    assert (item.key, item.size, item.label) == ("/bucket/key", 3, "label")


def test_safetensor_methods() -> None:
    def names(method: Callable[..., Any]) -> list[str]:
        return list(inspect.signature(method).parameters)

    assert names(OssSafetensor.safe_open)[:3] == ["self", "oss_uri", "device"]
    assert names(OssSafetensor.load_file)[:3] == ["self", "oss_uri", "device"]
    assert names(OssSafetensor.save_file)[:4] == ["self", "tensors", "oss_uri", "metadata"]


def test_checkpoint() -> None:
    assert table_of(OssCheckpoint) == table_of(OssSafetensor)
    assert list(inspect.signature(OssCheckpoint.reader).parameters)[:2] == ["self", "oss_uri"]
    assert list(inspect.signature(OssCheckpoint.writer).parameters)[:2] == ["self", "oss_uri"]
