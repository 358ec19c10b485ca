"""The crates that the native module is compiled from, as cargo resolves them. Other tools of this folder import it."""

import re
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

#: The platforms that the package is compiled for.
TARGETS: Final = tuple(
    f"{processor}-{system}"
    for processor in ("aarch64", "x86_64")
    for system in ("apple-darwin", "unknown-linux-gnu", "unknown-linux-musl")
)


class Crate(NamedTuple):
    """A crate of the registry."""

    name: str
    version: str
    licence: str


def compiled(
    folder: Path, targets: Iterable[str] = TARGETS, *, edges: str = "normal,build", offline: bool = False
) -> set[Crate]:
    """Return the crates that are compiled for any of the platforms, without those of this project.

    Args:
        folder: The checkout, or an unpacked source distribution.
        targets: Platforms.
        edges: "normal" for what is in the module, "normal,build" for what builds it too.
        offline: Whether to do without the registry: then cargo knows what it compiled or downloaded before.
    """
    found = set()
    for target in targets:
        command = ["cargo", "tree", "--locked", "--package", "oss-python", "--target", target, "--edges", edges]
        command += ["--prefix", "none", "--format", "{p}\t{l}", *(["--offline"] if offline else [])]
        lines = subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
        for line in filter(None, lines):
            package, licence = line.removesuffix(" (*)").split("\t")
            name, version, *_ = package.split()
            # The crates of this project have a folder behind their version.
            if not re.search(r"\(/.*\)$", package):
                found.add(Crate(name, version[1:], licence))
    return found
