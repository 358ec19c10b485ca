"""Check that dependencies between the crates point one way only."""

import subprocess
import sys

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


def main() -> int:
    """Print each forbidden dependency; exit status 1 if there is one."""
    wrong = [
        f"{crate} must not depend on {name}"
        for crate, forbidden in FORBIDDEN.items()
        for name in sorted(dependencies(crate) & forbidden)
    ]
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
