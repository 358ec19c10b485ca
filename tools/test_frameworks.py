"""Run the whole table of frameworks, and write its result into docs/guides/frameworks.md.

``python tools/test_frameworks.py [--python PYTHON] [GROUP...]`` runs some groups of ways, by default all. Other rows of
the page stay. Some groups have no rows: ``epochs`` runs trainings whose ranks are out of step, ``checkpoints`` the
tests and the examples of the integrations that keep checkpoints, ``models`` those of models that Transformers and
Diffusers build, ``files`` the tests of libraries that open ``oss://`` with fsspec, ``openmmlab`` those of MMEngine and
MMDetection, ``ultralytics`` those of YOLO, ``torchtitan`` that of its checkpointer. Without ``--python`` it installs
what is missing into an environment of its own, and for ``torchtitan`` into another one, because that needs older
libraries.
"""

import argparse
import functools
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import tomllib
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.frameworks.cells import LOADINGS, WAYS, WORLDS, Cell, all_cells, expects_error, findings  # noqa: E402
from tests.frameworks.running import run  # noqa: E402

PAGE: Final = ROOT / "docs" / "guides" / "frameworks.md"
ENVIRONMENT: Final = ".venv-frameworks"
BEGIN: Final = "<!-- The table is written by make test-frameworks. -->\n"
END: Final = "<!-- Here the table ends. -->\n"
_SECONDS: Final = 1800.0
#: Groups of tests that are left out if their framework is not installed.
TESTS: Final = {
    "epochs": ("tests/frameworks/test_epochs.py",),
    "checkpoints": (
        *("tests/test_accelerate.py", "tests/test_ray.py", "tests/test_transformers.py"),
        "tests/test_examples.py::test_an_example_of_a_framework_runs",
        "tests/docs/test_pages.py::test_the_python_of_a_page_runs[guides/accelerate.md]",
    ),
    "models": ("tests/model/test_diffusers.py", "tests/model/test_transformers.py"),
    "files": (
        "tests/fsspec/test_libraries.py",
        "tests/docs/test_pages.py::test_the_python_of_a_page_runs[guides/fsspec.md]",
    ),
    "openmmlab": ("tests/integrations/test_mmengine.py", "tests/integrations/test_mmdetection.py"),
    "ultralytics": ("tests/integrations/test_ultralytics.py",),
    "torchtitan": ("tests/fsspec/test_torchtitan.py",),
}
#: Groups that cannot share an environment with the others, and what each installs besides the test extras.
APART: Final = {"torchtitan": ("torchtitan>=0.3,<0.4", "datasets<4.8")}
#: Each number of ranks has a column.
HEADING: Final = (
    "way",
    "among ranks",
    "among workers",
    *(f"{world} rank{'s'[: world - 1]}" for world in WORLDS),
    "with",
)


def line(values: Sequence[str]) -> str:
    """Return a line of the table."""
    return f"| {' | '.join(values)} |"


def row(way: str, entries: Sequence[str], versions: str) -> str:
    """Return the line of a way."""
    ranks, workers = WAYS[way].divided_by
    return line([way, ranks, workers if WAYS[way].workers else "-", *entries, versions])


def rows_of(page: str) -> dict[str, str]:
    """Return the line of each way in the page."""
    table = page[page.index(BEGIN) + len(BEGIN) : page.index(END)]
    lines = [line for line in table.splitlines() if line.startswith("| ")]
    return {line.split(" | ")[0].removeprefix("| "): line for line in lines[2:]}


def entry(results: list[tuple[Cell, list[Any]]], world: int) -> str:
    """Return what the table says of a number of ranks: each result, with the starts of workers that have it."""
    said: dict[str, list[str]] = {}
    for method, _ in LOADINGS:
        cells = [(cell, got) for cell, got in results if (cell.world, cell.method) == (world, method)]
        if cells:
            said.setdefault(_result(cells), []).append(method or "0")
    return "; ".join(f"{result}: {', '.join(methods)}" for result, methods in said.items())


def _result(cells: list[tuple[Cell, list[Any]]]) -> str:
    if any(findings(cell, got) for cell, got in cells):
        return "**wrong**"
    cell, _ = cells[0]
    if expects_error(cell):
        return "error"
    # With one rank there is nothing to fill up.
    return "padded" if WAYS[cell.way].result == "padded" and cell.world > 1 else "once"


@functools.cache
def python_of_environment(name: str, *needed: str) -> str:
    """Install what is missing into an environment, and return its interpreter."""
    environment = ROOT / name
    python = environment / "bin" / "python"
    if not python.exists():
        venv.create(environment, with_pip=True)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    print(f"installing what is missing into {environment}: 7 GB at first, which takes minutes", flush=True)
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", *extras["test"], *needed], check=True)
    return str(python)


def python_of(group: str = "") -> str:
    """Return the interpreter of the environment in which a group runs, by default of the one that most share."""
    if group in APART:
        return python_of_environment(f"{ENVIRONMENT}-{group}", *APART[group])
    return python_of_environment(ENVIRONMENT, "-r", str(ROOT / "tests" / "frameworks" / "requirements.txt"))


def versions_in(python: str, packages: Sequence[str]) -> str:
    """Return the installed versions of packages, with their names."""
    program = (
        f"import importlib.metadata, json; print(json.dumps([importlib.metadata.version(n) for n in {packages!r}]))"
    )
    found = json.loads(subprocess.run([python, "-c", program], check=True, capture_output=True, text=True).stdout)
    return ", ".join(f"{name} {version}" for name, version in zip(packages, found, strict=True))


def tests_fail(python: str, tests: Sequence[str]) -> bool:
    """Run tests; return whether one failed or was left out."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "python")])
    command = [python, "-m", "pytest", "-q", "-n", "0", "-rs", *tests]
    result = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": path}, check=False, stdout=subprocess.PIPE, text=True
    )
    print(result.stdout, flush=True)
    return result.returncode != 0 or "skipped" in result.stdout


def main() -> int:
    """Run the groups; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--python", help="an interpreter that has the frameworks")
    parser.add_argument("--install", action="store_true", help="only install what the table needs")
    parser.add_argument("groups", nargs="*", help="groups of ways")
    given = parser.parse_args()
    if given.install:
        python_of()
        return 0
    known = [*dict.fromkeys(way.framework for way in WAYS.values()), *TESTS]
    if unknown := set(given.groups) - set(known):
        parser.error(f"unknown group: {', '.join(sorted(unknown))}. The groups are {', '.join(known)}")
    groups = given.groups or known
    failed = False
    for group in groups:
        python = given.python or python_of(group)
        if group in TESTS:
            failed = tests_fail(python, TESTS[group]) or failed
            continue
        results: list[tuple[Cell, list[Any]]] = []
        for world in WORLDS:
            cells = list(all_cells(world, group))
            began = time.monotonic()
            with tempfile.TemporaryDirectory() as folder:
                found = run(Path(folder), cells, _SECONDS, python)
            wrong = {cell.title: said for cell, got in found if (said := findings(cell, got))}
            print(
                f"{group}, {world} ranks: {len(cells)} cells, {len(wrong)} wrong, {time.monotonic() - began:.0f} s",
                flush=True,
            )
            for title, said in wrong.items():
                print(f"  {title}", *said, sep="\n    ", flush=True)
            failed = failed or bool(wrong)
            results += found
        page = PAGE.read_text(encoding="utf-8")
        rows = rows_of(page)
        for way in WAYS.values():
            if way.framework == group:
                own = [(cell, got) for cell, got in results if cell.way == way.name]
                entries = [entry(own, world) for world in WORLDS]
                rows[way.name] = row(way.name, entries, versions_in(python, ["torch", *way.needs]))
        table = "\n".join([line(HEADING), line(["---"] * len(HEADING)), *(rows[name] for name in WAYS if name in rows)])
        pattern = re.compile(re.escape(BEGIN) + ".*" + re.escape(END), re.DOTALL)
        PAGE.write_text(pattern.sub(lambda _: f"{BEGIN}\n{table}\n\n{END}", page), encoding="utf-8")  # noqa: B023 - used at once
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
