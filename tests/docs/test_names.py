"""What pages say of installing, and where their links lead in a viewer of the repository."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.docs.pages import ROOT

LISTED = subprocess.run(["git", "ls-files"], check=True, capture_output=True, text=True, cwd=ROOT).stdout.splitlines()
PAGES = [name for name in LISTED if name.endswith(".md") and not name.startswith("tests/")]
PROGRAMS = [name for name in LISTED if name.startswith(("examples/", "deploy/"))]


@pytest.mark.parametrize("name", [*PAGES, *PROGRAMS])
def test_no_page_installs_by_a_name_that_belongs_to_another_package(name: str) -> None:
    """`pip install osstorchconnector` installs the original."""
    text = (ROOT / name).read_text(encoding="utf-8", errors="replace")
    assert re.findall(r"pip3? install[^\n`]*[ \"']osstorchconnector\b(?![-\w./]*(?:\.whl|/))[^\n`]*", text) == []


def test_no_docstring_and_no_error_does() -> None:
    for path in [*(ROOT / "python").rglob("*.py"), *(ROOT / "crates").glob("*/src/**/*.rs")]:
        assert re.findall(r"pip install [\\\"']*osstorchconnector.*", path.read_text()) == [], path


@pytest.mark.parametrize("name", PAGES)
def test_links_to_files_lead_to_files(name: str) -> None:
    page = ROOT / name
    text = re.sub(r"```.*?```|`[^`\n]+`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    addresses = [address for address in re.findall(r"\]\(([^)\s]+)\)", text) if not re.match(r"[a-z]+:|#", address)]
    assert [address for address in addresses if not (page.parent / Path(address.partition("#")[0])).exists()] == []


def test_the_first_page_links_to_every_guide_tutorial_and_concept() -> None:
    text = (ROOT / "docs" / "README.md").read_text()
    pages = [
        f"{folder}/{path.name}"
        for folder in ("concepts", "guides", "start", "tutorials")
        for path in sorted((ROOT / "docs" / folder).glob("*.md"))
    ]
    assert [page for page in pages if f"]({page}" not in text] == []
