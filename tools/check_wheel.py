"""Check what is in wheels, without running them: their tags, their size, their files, and what the native module needs.

``python tools/check_wheel.py WHEEL...`` prints a line for each and exits with 1 if one is not as it should be.
"""

import email.parser
import os
import re
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
MODULE: Final = "osstorchconnector/_native.abi3.so"
#: The list of crates that it is made of.
SBOM: Final = "osstorchconnector.cyclonedx.json"
#: Above it, something came in that users do not need, such as symbols for debuggers.
LARGEST: Final = 6 * 2**20
#: What current training images have: glibc of Debian 10, of RHEL 8 and of Ubuntu 18.10.
NEWEST_GLIBC: Final = (2, 28)
#: Libraries that every system with glibc has, by PEP 599; and the one that every system with musl has.
GLIBC_LIBRARIES: Final = re.compile(r"lib(c|m|dl|rt|pthread)\.so\.\d|libgcc_s\.so\.1|ld-linux-[\w-]+\.so\.\d")
MUSL_LIBRARIES: Final = re.compile(r"libc\.so|libc\.musl-\w+\.so\.1|libgcc_s\.so\.1")
#: Of each wheel, below its folders of the package and of its description.
NEEDED: Final = (
    ("osstorchconnector/", ("__init__.py", "_native.pyi", "py.typed", "_native.abi3.so")),
    (
        ".dist-info/",
        (
            *("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE", "licenses/THIRD-PARTY-TEXTS.txt"),
            f"sboms/{SBOM}",
        ),
    ),
)


def version_of(cargo: str) -> str:
    """Return how Python writes the version in Cargo.toml: 2.0.0-alpha.1 is 2.0.0a1."""
    version: str = tomllib.loads(cargo)["workspace"]["package"]["version"]
    return re.sub(r"-(a)lpha\.|-(b)eta\.|-(rc)\.", lambda found: "".join(filter(None, found.groups())), version)


def needs_of(module: bytes) -> tuple[set[str], tuple[int, int]]:
    """Return the libraries that an ELF module needs, and the version of glibc."""
    with tempfile.NamedTemporaryFile(suffix=".so") as file:
        file.write(module)
        file.flush()
        command = ["readelf", "--wide", "--dynamic", "--version-info", file.name]
        text = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    libraries = set(re.findall(r"\(NEEDED\)\s+Shared library: \[([^\]]+)\]", text))
    versions = [(int(major), int(minor)) for major, minor in re.findall(r"Name: GLIBC_(\d+)\.(\d+)", text)]
    return libraries, max(versions, default=(0, 0))


def findings_of_name(name: str, version: str) -> Iterator[str]:
    """Yield what is wrong with the name of a wheel."""
    parts = name.removesuffix(".whl").split("-")
    if parts[:2] != ["osstorchconnector", version]:
        yield f"its version is not {version}, as in Cargo.toml"
    if parts[2:4] != ["cp311", "abi3"]:
        yield "it is not for the stable ABI of Python 3.11 and newer: cp311-abi3"
    platform = parts[-1]
    glibc = re.search(r"manylinux_(\d+)_(\d+)", platform)
    if "manylinux" in platform and (glibc is None or (int(glibc[1]), int(glibc[2])) > NEWEST_GLIBC):
        yield f"it does not run on images with glibc {NEWEST_GLIBC[0]}.{NEWEST_GLIBC[1]}"
    if not platform.startswith(("manylinux", "musllinux_1_2", "macosx")):
        yield f"{platform} is not a platform that an index of packages takes"


def findings_of_needs(name: str, libraries: set[str], glibc: tuple[int, int]) -> Iterator[str]:
    """Yield what a native module needs and its wheel does not promise."""
    allowed = MUSL_LIBRARIES if "musllinux" in name else GLIBC_LIBRARIES
    for library in sorted(libraries):
        if not allowed.fullmatch(library):
            yield f"it needs {library}, which not every system has"
    promised = re.search(r"manylinux_(\d+)_(\d+)", name)
    if promised and glibc > (int(promised[1]), int(promised[2])):
        yield f"it needs glibc {glibc[0]}.{glibc[1]}, and its tag promises {promised[1]}.{promised[2]}"


def findings_of_files(wheel: zipfile.ZipFile, name: str) -> Iterator[str]:
    """Yield what is missing in a wheel, or should not be in it."""
    names = wheel.namelist()
    for folder, files in NEEDED:
        for file in files:
            if not any(f"{folder}{file}" in have for have in names):
                yield f"{folder}{file} is missing"
    for have in names:
        if not have.startswith(("osstorchconnector/", "osstorchconnector-")) or "__pycache__" in have:
            yield f"{have} does not belong into it"
        elif have.endswith((".so", ".dylib")) and have != MODULE:
            yield f"{have} is a second native module"
    (description,) = [have for have in names if have.endswith(".dist-info/WHEEL")]
    tags = email.parser.Parser().parsestr(wheel.read(description).decode()).get_all("Tag", [])
    python, abi, platforms = name.removesuffix(".whl").split("-")[-3:]
    if sorted(tags) != sorted(f"{python}-{abi}-{platform}" for platform in platforms.split(".")):
        yield f"its tags are {tags}"


def findings(path: Path, *, here: bool = False) -> list[str]:
    """Return what is wrong with a wheel; with `here`, it need only run on systems as new as this one."""
    version = version_of((ROOT / "Cargo.toml").read_text(encoding="utf-8"))
    found = [text for text in findings_of_name(path.name, version) if not (here and "images with glibc" in text)]
    if path.stat().st_size > LARGEST:
        found.append(f"{path.stat().st_size / 2**20:.1f} MiB are more than {LARGEST / 2**20:.0f} MiB")
    with zipfile.ZipFile(path) as wheel:
        found += findings_of_files(wheel, path.name)
        module = wheel.read(MODULE)
    if not here and (folders := [name for name in map(os.fsencode, (ROOT, Path.home())) if name + b"/" in module]):
        found.append(f"the module names folders of this machine: {folders}")
    # Modules for macOS are in another format; the workflow that builds them runs them.
    if module.startswith(b"\x7fELF"):
        found += findings_of_needs(path.name, *needs_of(module))
    return found


def main() -> int:
    """Check the wheels; return the exit status."""
    arguments = sys.argv[1:]
    here = "--here" in arguments
    wheels = [Path(name) for name in arguments if name != "--here"]
    if not wheels:
        raise SystemExit("usage: python tools/check_wheel.py [--here] WHEEL...")
    failed = False
    for path in wheels:
        found = findings(path, here=here)
        failed = failed or bool(found)
        print(f"{path.name}: {path.stat().st_size / 2**20:.1f} MiB, {'; '.join(found) or 'as it should be'}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
