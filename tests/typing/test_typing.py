"""Programs of users, checked by mypy: each must have exactly the errors that its comments name."""

import re
from pathlib import Path

import pytest
from mypy import api

PROGRAMS = sorted(Path(__file__).with_name("programs").glob("*.py"))
ROOT = Path(__file__).parents[2]


@pytest.mark.slow(300)
def test_programs_have_exactly_the_errors_that_they_name() -> None:
    expected = {
        (program.name, number, code)
        for program in PROGRAMS
        for number, line in enumerate(program.read_text().splitlines(), start=1)
        for code in re.findall(r"# error: \[([a-z-]+)\]", line)
    }
    assert expected, "no program tells an error, so nothing would be tested"
    options = ["--strict", "--config-file", str(ROOT / "pyproject.toml"), "--no-error-summary"]
    output, errors, _ = api.run([*options, *map(str, PROGRAMS)])
    assert errors == ""
    found = set()
    for line in output.splitlines():
        match = re.fullmatch(r"(?:.*/)?([^/]+\.py):(\d+): error: .*\[([a-z-]+)\]", line)
        if match is None:
            assert ": note: " in line, line
            continue
        found.add((match[1], int(match[2]), match[3]))
    assert found == expected
