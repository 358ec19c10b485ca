"""The pictures are those that their programs draw, and say what was measured and what holds."""

import re
import xml.etree.ElementTree as ET
from pathlib import Path
from types import ModuleType

import pytest

from tests.dataset.order_model import key_of, permuted
from tests.docs.pages import ROOT
from tests.test_tools import TOOLS, tool

IMAGES = ROOT / "docs" / "images"


@pytest.fixture
def diagrams(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(TOOLS))
    return tool("draw_diagrams")


@pytest.fixture
def rates(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(TOOLS))
    return tool("draw_rates")


def test_the_diagrams_are_drawn_by_their_program(diagrams: ModuleType) -> None:
    for name, draw in diagrams.DIAGRAMS.items():
        assert (IMAGES / name).read_text() == draw(), f"{name}: run python tools/draw_diagrams.py"


def test_the_order_of_the_diagram_is_that_of_the_formula(diagrams: ModuleType) -> None:
    assert [permuted(place, 16, key_of(1, 0)) for place in range(16)] == diagrams.PLACES


def test_the_rates_are_those_of_the_report(rates: ModuleType) -> None:
    assert (IMAGES / "rates.svg").read_text() == rates.picture(), "run python tools/draw_rates.py"
    report = (ROOT / "benchmarks" / "report" / "README.md").read_text()
    shown = re.findall(r">([\d,]+ objects/s|\d\.\d\d GB/s)", rates.picture())
    assert len(shown) == 15
    assert [rate for rate in shown if rate not in report] == []


@pytest.mark.parametrize("path", sorted(IMAGES.glob("*.svg")), ids=lambda path: path.name)
def test_a_picture_is_described_and_loads_nothing(path: Path) -> None:
    text = path.read_text()
    root = ET.fromstring(text)
    names = [child.tag.rpartition("}")[2] for child in root]
    assert names[:2] == ["title", "desc"]
    assert re.findall(r'(?:href|src)="|url\((?!#)', text) == []
