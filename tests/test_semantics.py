"""Every promise names a test that exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROMISES = re.findall(
    r"^- .*?(?=^- |^#|\Z)", (ROOT / "docs" / "SEMANTICS.md").read_text(), flags=re.MULTILINE | re.DOTALL
)


def test_there_are_promises() -> None:
    assert len(PROMISES) > 10


@pytest.mark.parametrize("promise", PROMISES)
def test_a_promise_names_a_test_that_exists(promise: str) -> None:
    named = re.findall(r"`([\w/.-]+)::(\w+)`", promise)
    assert named, promise
    for file, test in named:
        assert re.search(rf"\b(def|fn) {test}\(", (ROOT / file).read_text()), f"{file}::{test}"
