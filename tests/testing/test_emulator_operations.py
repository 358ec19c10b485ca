"""docs/guides/emulator-operations.md names what the emulator does, and tests that exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "guides" / "emulator-operations.md"
EMULATOR = ROOT / "crates" / "oss-emulator"


def rows() -> list[tuple[str, str, str]]:
    lines = [line for line in GUIDE.read_text().splitlines() if line.startswith("| ") and " --- " not in line]
    cells = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines]
    return [(names, extent, tests) for names, extent, tests in cells if names != "operation"]


def test_each_operation_of_the_emulator_has_its_row() -> None:
    source = (EMULATOR / "src" / "route.rs").read_text()
    listed = re.search(r"^operations! \{\n(.*?)^\}", source, re.DOTALL | re.MULTILINE)
    assert listed is not None
    known = [name.strip() for name in listed[1].split(",") if name.strip()]
    assert len(known) > 70
    named = [name for names, _, _ in rows() for name in names.split(", ")]
    assert sorted(named) == sorted(known)


def test_each_row_says_how_much_it_is() -> None:
    assert [extent for _, extent, _ in rows() if not re.match(r"(whole|partly: )", extent)] == []


def test_the_tests_of_each_row_exist() -> None:
    missing = []
    for names, _, tests in rows():
        found = re.findall(r"`(\w+\.rs)::(\w+)`", tests)
        assert found, names
        for file, test in found:
            path = EMULATOR / "tests" / "it" / file
            if not path.exists() or f"async fn {test}(" not in path.read_text():
                missing.append(f"{names}: {file}::{test}")
    assert missing == []
    for path in re.findall(r"`(tests/[\w/]+(?:\.py)?)`", GUIDE.read_text()):
        assert (ROOT / path).exists(), path
