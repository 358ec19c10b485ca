"""In every framework each object comes exactly once in each epoch, apart from padding, or the first batch is an error.

This runs a part of the table: each pair of way, ranks, workers and number of objects, for the frameworks that the
tests of the project install, and two ways with started workers. `make test-frameworks` runs all of it.
"""

import re
from pathlib import Path

import pytest

from osstorchconnector.dataset import dividers
from tests.frameworks.cells import COUNTS, TESTED, WAYS, WORLDS, Cell, all_cells, cells_of_make_test, findings
from tests.frameworks.programs import ways
from tests.frameworks.running import ROOT, run


@pytest.mark.slow(280)
@pytest.mark.parametrize("world", WORLDS)
def test_each_object_comes_once_or_an_error_says_what_to_set(world: int, tmp_path: Path) -> None:
    cells = [cell for cell in cells_of_make_test() if cell.world == world]
    wrong = {cell.title: found for cell, got in run(tmp_path, cells, 270) if (found := findings(cell, got))}
    assert not wrong


def test_every_way_has_a_program_and_a_pair_with_every_value() -> None:
    assert set(WAYS) == set(ways.WAYS)
    cells = cells_of_make_test()
    for way in WAYS.values():
        if way.framework in TESTED:
            found = [cell for cell in cells if cell.way == way.name]
            assert {cell.world for cell in found} == set(WORLDS)
            assert {cell.count for cell in found} == set(COUNTS)
            assert len({cell.method for cell in found}) >= (2 if way.workers else 1)


def test_the_table_of_the_guide_has_every_cell() -> None:
    page = (ROOT / "docs" / "guides" / "frameworks.md").read_text()
    table = {line.split(" | ")[0].removeprefix("| "): line.split(" | ") for line in page.splitlines()}
    assert "wrong" not in page
    for way in WAYS.values():
        for column, world in enumerate(WORLDS, start=3):
            tried = {cell.method or "0" for cell in all_cells(world, way.framework) if cell.way == way.name}
            entries = table[way.name][column].split("; ")
            said = [method for entry in entries for method in entry.partition(": ")[2].split(", ")]
            assert (way.name, world, sorted(said)) == (way.name, world, sorted(tried))


def test_the_newest_version_of_a_package_is_the_one_in_the_guide() -> None:
    page = (ROOT / "docs" / "guides" / "frameworks.md").read_text()
    for package in dividers._PACKAGES:
        found = set(re.findall(rf"\b{package.name} ([\d.]+)[,| ]", page.partition("| way |")[2]))
        assert {".".join(version.split(".")[:2]) for version in found} == {package.newest}, package.name


@pytest.mark.parametrize(
    ("way", "even", "ranks", "wrong"),
    [
        ("DataLoader", "none", [[[0, 2, 4]], [[1, 3]]], ""),
        ("DataLoader", "none", [[[0, 2, 4]], [[1, 3, 0]]], "repeated"),
        ("DataLoader", "pad", [[[0, 2, 4]], [[1, 3, 0]]], ""),
        ("DataLoader", "pad", [[[0, 2, 4]], [[1, 3, 0, 2]]], "repeated"),
        ("DataLoader", "pad", [[[0, 2, 4]], [[1, 0]]], r"\[3\] are missing"),
        ("DataLoader", "pad", [[[0, 2, 4]], "OssConfigError"], "OssConfigError"),
        ("Accelerate, prepared", "pad", [[[0, 1, 2, 3]], [[4, 0, 1, 2]]], ""),
        ("Accelerate, prepared", "pad", [[[0, 1, 2, 3]], [[4]]], "different numbers"),
        ("wrapper that divides among ranks", "pad", ["OssConfigError: shard=None", [[0]]], "rank 1: no error"),
    ],
)
def test_the_harness_finds_what_is_wrong(way: str, even: str, ranks: list[object], wrong: str) -> None:
    found = findings(Cell(way, 2, "", 0, 5, even), ranks)
    assert bool(found) == bool(wrong)
    assert re.search(wrong, "\n".join(found))
