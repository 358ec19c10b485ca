"""Check that dependencies point one way only: between crates, modules of the core, and Python packages.

Private names of torch are a dependency too: only the package `_torch` may use them.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "python" / "osstorchconnector"
CORE = ROOT / "crates" / "oss-client" / "src"

# Each crate, and what must not appear anywhere below it.
FORBIDDEN = {
    "oss-protocol": {"hyper", "mio", "oss-client", "oss-emulator", "pyo3", "rustls", "tokio"},
    "oss-client": {"oss-emulator", "pyo3"},
    "oss-emulator": {"oss-client", "pyo3"},
}


def dependencies(crate: str) -> set[str]:
    """Return the names of all crates that `crate` is built from, development dependencies left out."""
    command = ["cargo", "tree", "--package", crate, "--edges", "normal", "--prefix", "none", "--format", "{p}"]
    tree = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {line.split()[0] for line in tree.splitlines() if line} - {crate}


# From the bottom to the top: a module may import its own layer and those before it. The longest name that fits counts,
# so that the writer of archives, which lists a dataset, stands above the format of archives, which datasets read.
PYTHON_LAYERS = [
    ["_closing", "_json", "_lazy", "_native", "_printable", "_second_names", "_tested_versions", "_torch"],
    ["exceptions"],
    ["process"],
    ["credentials"],
    ["connection"],
    ["files"],
    ["archive", "model_files"],
    ["dataset"],
    ["archive.writer"],
    ["safetensor"],
    ["dcp"],
    ["checkpoint"],
    ["conversion"],
    ["fsspec"],
    ["testing"],
    ["model"],
    ["accelerate", "diffusers", "integrations", "lightning", "metrics", "sglang", "transformers", "vllm"],
    ["cli"],
]
# Packages that list names load them lazily, and old places of modules import the new ones: they have no layer.
WITHOUT_LAYER = {
    "__init__",
    "iterable_dataset",
    "map_dataset",
    "oss_checkpoint",
    "oss_dcp_filesystem",
    "oss_iterable_dataset",
    "oss_map_dataset",
    "oss_safetensor",
    "testing_plugin",
}


def layer_of(module: str) -> int | None:
    """Return how far from the bottom a module is, or None if it belongs to no layer."""
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        name = ".".join(parts[:length])
        for layer, names in enumerate(PYTHON_LAYERS):
            if name in names:
                return layer
    return None


def imports_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the line and the name of each module of this package that a file imports, for types or lazily too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            # An imported name may be a module itself.
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name.startswith("osstorchconnector."):
                yield node.lineno, name.removeprefix("osstorchconnector.")


def python_findings(package: Path = PACKAGE) -> list[str]:
    """Return each import that runs up, and each module that belongs to no layer."""
    found = []
    for path in sorted(package.rglob("*.py")):
        module = ".".join(path.relative_to(package).with_suffix("").parts)
        if module in WITHOUT_LAYER or module.endswith(".__init__"):
            continue
        layer = layer_of(module)
        if layer is None:
            found.append(f"{module} belongs to no layer: add it to PYTHON_LAYERS")
            continue
        for line, name in imports_of(path):
            imported = layer_of(name)
            if imported is not None and imported > layer:
                found.append(f"{path}:{line}: {module} must not import {name}, which is above it")
    return found


def private_names_of_torch(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the line and the name of each private name of torch that a file imports, or reaches by dots from `torch`.

    Ruff (SLF001) finds private attributes of other objects.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Attribute):
            names = [ast.unparse(node)]
        else:
            continue
        for name in names:
            first, *others = name.split(".")
            if first == "torch" and any(re.match("_(?!_)", other) for other in others):
                yield node.lineno, name


def torch_findings(package: Path = PACKAGE) -> list[str]:
    """Return each use of a private name of torch outside of the package `_torch`."""
    return [
        f"{path}:{line}: {name} is private: use it in _torch only"
        for path in sorted(package.rglob("*.py"))
        if "_torch" not in path.relative_to(package).parts
        for line, name in private_names_of_torch(ast.parse(path.read_text(encoding="utf-8")))
    ]


# The modules of oss-client from the bottom to the top: a module may name its own layer and those before it.
RUST_LAYERS = [
    ["proxy", "sync"],
    ["error"],
    ["backoff", "buffer", "coalesce", "concurrency", "credentials", "descriptors", "headers", "memory", "metrics"],
    ["attempt", "audit"],
    ["config"],
    ["order", "sizes"],
    ["catalogue"],
    ["advice", "local", "retry", "tls"],
    ["request", "transport"],
    ["pool"],
    ["client"],
    ["ops"],
    ["paginate"],
    ["listing"],
    ["prefetch", "reader", "upload"],
]
# Comments and texts, which may name any module: a link in documentation is no dependency.
_RUST_TEXT = re.compile(r"""//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])'""", re.DOTALL)
_RUST_TEST = re.compile(r"#\[cfg\(test\)\]\s*(?:mod (?P<file>\w+);)?")
_RUST_PATH = re.compile(r"\bcrate::(?:(?P<name>\w+)|\{)")


def _blank(match: re.Match[str]) -> str:
    return "\n" * match.group().count("\n")


def end_of_braces(text: str, start: int) -> int:
    """Return the position after the brace that closes the first one after `start`."""
    depth = 0
    for position in range(start, len(text)):
        depth += (text[position] == "{") - (text[position] == "}")
        if depth == 0 and text[position] == "}":
            return position + 1
    return len(text)


def without_tests(text: str) -> tuple[str, set[str]]:
    """Return Rust code without comments, texts and tests, and the names of the test modules that are files."""
    text = _RUST_TEXT.sub(_blank, text)
    files = set()
    while match := _RUST_TEST.search(text):
        end = match.end()
        if match["file"] is not None:
            files.add(match["file"])
        else:
            end = end_of_braces(text, end)
        text = text[: match.start()] + "\n" * text.count("\n", match.start(), end) + text[end:]
    return text, files


def rust_imports_of(text: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the module of each path below `crate`."""
    for match in _RUST_PATH.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        if match["name"] is not None:
            yield line, match["name"]
            continue
        start = match.end() - 1
        depth, expected = 0, False
        for token in re.finditer(r"\w+|[{},]|::", text[start : end_of_braces(text, start)]):
            if token.group() in "{}":
                depth += 1 if token.group() == "{" else -1
                expected = depth == 1
            elif token.group() == ",":
                expected = depth == 1
            elif expected:
                yield line + text.count("\n", start, start + token.start()), token.group()
                expected = False


def rust_findings(source: Path = CORE) -> list[str]:
    """Return each path of the core that runs up, and each module that belongs to no layer."""
    layers = {name: layer for layer, names in enumerate(RUST_LAYERS) for name in names}
    texts = {}
    tests = set()
    for path in sorted(source.rglob("*.rs")):
        texts[path], files = without_tests(path.read_text(encoding="utf-8"))
        folder = path.parent if path.stem in ("lib", "mod") else path.with_suffix("")
        tests |= {folder / f"{name}.rs" for name in files}
    found = []
    for path, text in texts.items():
        module = path.relative_to(source).with_suffix("").parts[0]
        if path in tests or module == "lib":
            continue
        if module not in layers:
            found.append(f"{path}: {module} belongs to no layer: add it to RUST_LAYERS")
            continue
        for line, name in rust_imports_of(text):
            if name not in layers:
                found.append(f"{path}:{line}: crate::{name} is no module: name the module that defines it")
            elif layers[name] > layers[module]:
                found.append(f"{path}:{line}: {module} must not use {name}, which is above it")
    return found


def main() -> int:
    """Print each forbidden dependency; exit status 1 if there is one."""
    wrong = [
        f"{crate} must not depend on {name}"
        for crate, forbidden in FORBIDDEN.items()
        for name in sorted(dependencies(crate) & forbidden)
    ]
    wrong += python_findings()
    wrong += torch_findings()
    wrong += rust_findings()
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
