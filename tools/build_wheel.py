"""Build a wheel with everything that belongs to it: the texts of the licences, and the list of what it contains (SBOM).

``python tools/build_wheel.py [--here] OPTION...`` gives the options to ``maturin build``. The module names no folder of
the machine that builds it, except with ``--here``: that takes what ``make build`` has compiled for this machine.
"""

import json
import os
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

from check_wheel import SBOM, version_of  # noqa: E402
from third_party import TEXTS, texts  # noqa: E402

from crates import Crate, compiled  # noqa: E402


def sbom(crates: Iterable[Crate], lock: str, version: str) -> dict[str, Any]:
    """Return a list of what a wheel contains, in the form of CycloneDX 1.5, with the checksums of Cargo.lock."""
    checksums = {
        (package["name"], package["version"]): package["checksum"]
        for package in tomllib.loads(lock)["package"]
        if "checksum" in package
    }
    package = f"pkg:pypi/osstorchconnector@{version}"
    components = [
        {
            "type": "library",
            "bom-ref": f"pkg:cargo/{crate.name}@{crate.version}",
            "name": crate.name,
            "version": crate.version,
            "purl": f"pkg:cargo/{crate.name}@{crate.version}",
            "licenses": [{"expression": crate.licence.replace("/", " OR ")}],
            "hashes": [{"alg": "SHA-256", "content": checksums[crate.name, crate.version]}],
        }
        for crate in sorted(crates)
    ]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "component": {
                "type": "library",
                "bom-ref": package,
                "name": "osstorchconnector",
                "version": version,
                "purl": package,
                "licenses": [{"license": {"id": "MIT"}}],
            }
        },
        "components": components,
        "dependencies": [{"ref": package, "dependsOn": [component["bom-ref"] for component in components]}],
    }


def flags(cargo_home: Path) -> str:
    """Return the flags for rustc that take the folders of this machine out of the messages of panics."""
    registry = cargo_home / "registry" / "src"
    prefixes = dict.fromkeys(registry.glob("*"), "crates") | {ROOT: "osstorchconnector"}
    return " ".join(f"--remap-path-prefix={folder}={name}" for folder, name in prefixes.items())


def main() -> int:
    """Build; return the exit status."""
    options = sys.argv[1:]
    here = "--here" in options
    crates = compiled(ROOT, edges="normal")
    TEXTS.write_text(texts(crates), encoding="utf-8")
    version = version_of((ROOT / "Cargo.toml").read_text(encoding="utf-8"))
    lock = (ROOT / "Cargo.lock").read_text(encoding="utf-8")
    environment = dict(os.environ)
    if not here:
        home = Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo"))
        environment["RUSTFLAGS"] = f"{os.environ.get('RUSTFLAGS', '')} {flags(home)}".strip()
    with tempfile.TemporaryDirectory() as folder:
        listing = Path(folder, SBOM)
        listing.write_text(json.dumps(sbom(crates, lock, version), indent=1), encoding="utf-8")
        given = [option for option in options if option != "--here"]
        command = ["maturin", "build", "--release", "--quiet", "--sbom-include", str(listing), *given]
        return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
