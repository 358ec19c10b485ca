"""The reference shows every public name once, and nothing else."""

import ast
import re
from collections import Counter
from pathlib import Path

import osstorchconnector

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "python" / "osstorchconnector"
REFERENCE = ROOT / "docs" / "reference"
# Packages and modules of public names that are not at the top.
PUBLIC = [
    "accelerate",
    "conversion",
    "credentials",
    "dcp",
    "fsspec",
    "integrations",
    "integrations.ultralytics",
    "lightning",
    "metrics",
    "model",
    "safetensor",
    "testing",
    "transformers",
    # It has a function of the module before.
    "diffusers",
]
# The second names of classes, which the pages mention in a sentence.
SECOND_NAMES = {"OssDCPFileSystem", "testing.Connection"}
# Names that stand for another function in each module.
HOMONYMS = {"load_pretrained"}


def all_of(module: str) -> list[str]:
    """Return `__all__` of a module, without importing what it needs."""
    place = PACKAGE.joinpath(*module.split("."))
    path = place.with_suffix(".py")
    tree = ast.parse((path if path.is_file() else place / "__init__.py").read_text())
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            names: list[str] = ast.literal_eval(node.value)
            return names
    raise AssertionError(f"{module} has no __all__")


def public_names() -> set[str]:
    found = {name: name for name in osstorchconnector.__all__ if name != "__version__"}
    for module in PUBLIC:
        for name in all_of(module):
            # A name is shown at its place that is nearest to the top.
            found.setdefault(f"{module}.{name}" if name in HOMONYMS else name, f"{module}.{name}")
    return set(found.values()) - SECOND_NAMES


def shown_names() -> list[str]:
    texts = [path.read_text() for path in sorted(REFERENCE.glob("*.md"))]
    return [name for text in texts for name in re.findall(r"^::: osstorchconnector\.(\S+)$", text, re.MULTILINE)]


def test_every_public_name_is_shown_once() -> None:
    assert Counter(shown_names()) == Counter(public_names())


def test_second_names_are_mentioned() -> None:
    text = "".join(path.read_text() for path in REFERENCE.glob("*.md"))
    assert all(f"`{name.rpartition('.')[2]}`" in text for name in SECOND_NAMES)


def test_the_index_lists_every_page_with_its_names() -> None:
    rows = dict(re.findall(r"^- \[[^]]*\]\((\w+)\.md\): (.*)$", (REFERENCE / "README.md").read_text(), re.MULTILINE))
    pages = {path.stem: path.read_text() for path in REFERENCE.glob("*.md") if path.stem != "README"}
    assert rows == {
        page: ", ".join(f"`{name}`" for name in re.findall(r"^::: osstorchconnector\.(\S+)$", text, re.MULTILINE))
        for page, text in pages.items()
    }


def test_no_public_package_is_forgotten() -> None:
    """Every package and module that lists names is in PUBLIC, repeats names of the top, or is an old place."""
    unlisted = set()
    for path in sorted(PACKAGE.glob("*.py")) + sorted(PACKAGE.glob("*/__init__.py")):
        module = path.stem if path.parent == PACKAGE else path.parent.name
        if module.startswith("_") or module in PUBLIC or "__all__ = [" not in path.read_text():
            continue
        if not set(all_of(module)) <= set(osstorchconnector.__all__):
            unlisted.add(module)
    assert unlisted == {"oss_safetensor", "testing_plugin"}
