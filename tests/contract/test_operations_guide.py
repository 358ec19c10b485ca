"""The guide that puts our operations beside those of the SDKs names all of both sides, and nothing else."""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import alibabacloud_oss_v2
import oss2
import pytest

import osstorchconnector
from osstorchconnector import OssClient
from osstorchconnector.testing import Emulator

GUIDE = (Path(__file__).parents[2] / "docs/guides/operations.md").read_text()


def public(cls: type) -> set[str]:
    return {name for name, member in inspect.getmembers(cls) if not name.startswith("_") and callable(member)}


def rows() -> Iterator[list[str]]:
    for line in GUIDE.splitlines():
        if line.startswith("| ") and "---" not in line and not line.startswith("| to do"):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def names_in(text: str) -> set[str]:
    return set(re.findall(r"`(\w+)`", text))


def not_offered(label: str) -> list[str]:
    paragraphs = re.findall(rf"^`{re.escape(label)}`: (.*?)\.\n", GUIDE, re.MULTILINE | re.DOTALL)
    return [name for paragraph in paragraphs for name in sorted(names_in(paragraph))]


@pytest.mark.parametrize(
    ("cls", "label", "column"),
    [(oss2.Bucket, "oss2.Bucket", 2), (alibabacloud_oss_v2.Client, "alibabacloud_oss_v2.Client", 3)],
)
def test_every_method_of_an_sdk_is_in_the_table_or_not_offered(cls: type, label: str, column: int) -> None:
    offered = set().union(*(names_in(row[column]) for row in rows()))
    missing = not_offered(label)
    assert len(missing) == len(set(missing))
    assert offered.isdisjoint(missing)
    assert offered | set(missing) == public(cls)


def test_every_operation_of_ours_that_is_named_exists_and_all_are_named() -> None:
    named: set[str] = set()
    for row in rows():
        for code in re.findall(r"`([^`]+)`", row[1]):
            name, _, _ = code.partition("(")
            if code.startswith("osst ") or name in {"part_size", "readinto"}:
                continue
            owner, _, method = name.rpartition(".")
            holder = getattr(osstorchconnector, owner) if owner else OssClient
            assert hasattr(holder, method) or hasattr(osstorchconnector, method), code
            named.add(method)
    assert public(OssClient) <= named | names_in(GUIDE)


def test_an_object_can_be_copied_to_itself_with_another_description(emulator: Emulator) -> None:
    client = emulator.client()
    client.create_bucket("described")
    uri = "oss://described/k"
    client.put(uri, b"bytes")
    client.copy(uri, uri, options=osstorchconnector.WriteOptions(metadata={"step": "1"}))
    assert client.get(uri) == b"bytes"
    assert client.stat(uri).metadata == {"step": "1"}
