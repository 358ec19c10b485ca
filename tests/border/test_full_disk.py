"""A full disk raises an error that says so, at once, in every process. With free space, everything works again."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from osstorchconnector.testing import Emulator
from tests.border.running import Program

COUNT = 1500
PREFIX = "oss://bucket/"
KINDS = ("OssIterableDataset", "OssMapDataset")


@pytest.fixture
def server() -> Iterator[Emulator]:
    with Emulator(buckets=["bucket"]) as server:
        client = server.client()
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda number: client.put(f"{PREFIX}{number:04}", b""), range(COUNT)))
        yield server


def run(server: Emulator, directory: Path, cases: list[Any], expected: str) -> None:
    directory.mkdir()
    with Program("full_disk", json.dumps([str(directory), server.connection, cases])) as program:
        for _ in cases:
            program.expect(f"{expected} names TMPDIR: True; then {COUNT}")
        status, errors = program.end()
        assert status == 0, errors


@pytest.mark.slow(120)
def test_no_room_for_the_listing(server: Emulator, tmp_path: Path) -> None:
    manifest = tmp_path / "manifest"
    manifest.write_text("".join(f"{number:04}\n" for number in range(COUNT)))
    # There is no space for the header; for a part of a page; for a second page.
    sources = [
        *(("from_prefix", [PREFIX], limit) for limit in (40, 200, 40_000)),
        *(("from_manifest_file", [str(manifest), None, PREFIX], limit) for limit in (40, 200, 14_000)),
    ]
    cases = [
        (kind, source, where, "fork", workers, limit)
        for kind, (source, where, limit), workers in product(KINDS, sources, (0, 2))
    ]
    run(server, tmp_path / "temporary", cases, "OssError")


@pytest.mark.slow(120)
def test_no_room_for_the_table_of_started_processes(server: Emulator, tmp_path: Path) -> None:
    uris = [f"{PREFIX}{number:04}" for number in range(COUNT)]
    cases = [(kind, "from_objects", [uris], "spawn", 2, 10_000) for kind in KINDS]
    run(server, tmp_path / "temporary", cases, "OssConfigError")
