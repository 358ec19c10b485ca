"""ARCHITECTURE.md names every package and every module of a crate, and dependencies.md every dependency."""

import re
import tomllib
from pathlib import Path

import pytest

from tests.docs.pages import ROOT

PAGE = (ROOT / "ARCHITECTURE.md").read_text()
CRATES = sorted(path.name for path in (ROOT / "crates").iterdir())
DEPENDENCIES = (ROOT / "docs" / "decisions" / "dependencies.md").read_text()


def modules(folder: Path, suffix: str) -> set[str]:
    """Return the modules of a folder, and its folders with a slash."""
    files = {path.stem for path in folder.glob(f"*{suffix}")}
    folders = {path.name for path in folder.iterdir() if path.is_dir() and any(path.glob(f"*{suffix}"))}
    # A file and a folder of the same name are one module.
    return {name for name in files if name not in folders} | {f"{name}/" for name in folders}


def named(first_cell: str) -> set[str]:
    """Return the code of the first cells of the table with this head."""
    table = PAGE.partition(f"| {first_cell}")[2].partition("\n\n")[0]
    cells = [line.split(" | ")[0] for line in table.splitlines()[2:]]
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


@pytest.mark.parametrize("crate", CRATES)
def test_the_modules_of_a_crate_are_named(crate: str) -> None:
    found = modules(ROOT / "crates" / crate / "src", ".rs")
    assert named(f"`{crate}`") == found - {"lib"}


def test_the_packages_are_named() -> None:
    found = modules(ROOT / "python" / "osstorchconnector", ".py") - {"__init__"}
    text = PAGE.partition("## The Python package")[2].partition("### ")[0]
    assert [name for name in sorted(found) if not re.search(rf"`{name.removesuffix('/')}/?`", text)] == []


def listed(section: str) -> set[str]:
    """Return the names in the first cells of a section of dependencies.md."""
    rows = re.findall(r"^\| (.+?) \|", DEPENDENCIES.partition(f"## {section}\n")[2].partition("\n## ")[0], re.MULTILINE)
    return {name for row in rows for name in row.split(", ")}


def test_every_crate_has_its_line() -> None:
    manifest = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["dependencies"]
    used = "".join((ROOT / "crates" / crate / "Cargo.toml").read_text() for crate in CRATES)
    assert [name for name in manifest if not re.search(rf"^{name}(?:\.| =)", used, re.MULTILINE)] == []
    assert {name for name in manifest if not name.startswith("oss-")} == listed("Rust") - {"crate", "---"}


def test_every_package_has_its_line() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    names = {re.split(r"[\[><=]", requirement)[0] for group in groups for requirement in group}
    assert names - listed("Python") == set()
