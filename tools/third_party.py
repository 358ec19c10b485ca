"""Write THIRD-PARTY.md, the crates that the native module contains, with their licences; and collect their texts.

``python tools/third_party.py`` writes it, and ``--check`` fails if it is not current or if a licence is not allowed.
``build_wheel.py`` puts the texts into THIRD-PARTY-TEXTS.txt, which every wheel carries.
"""

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

from crates import Crate, compiled  # noqa: E402

PAGE: Final = ROOT / "THIRD-PARTY.md"
TEXTS: Final = ROOT / "THIRD-PARTY-TEXTS.txt"
#: Licences that ask for a notice at most. deny.toml has the same list.
ALLOWED: Final = frozenset(
    {
        "0BSD",
        "Apache-2.0",
        "Apache-2.0 WITH LLVM-exception",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "CDLA-Permissive-2.0",
        "ISC",
        "MIT",
        "Unicode-3.0",
        "Unlicense",
        "Zlib",
    }
)
INTRODUCTION: Final = """\
# Third-party code

Every wheel contains code of these crates, compiled. All their licences allow that, and ask for a notice at most:
`tools/third_party.py` writes this page and refuses other licences. The file `THIRD-PARTY-TEXTS.txt` in a wheel's
`dist-info/licenses` has the texts.

The source distribution contains the sources of the crates, each with its own licence files.

| crate | version | licence |
| --- | --- | --- |
"""
_TEXT_NAMES: Final = ("LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE")


def is_allowed(expression: str) -> bool:
    """Return whether a licence expression can be fulfilled with allowed licences alone.

    "A OR B" needs one of both, and "A AND B" both; an old form of OR is "/".
    """
    tokens = re.findall(r"\(|\)|[^()\s]+(?: WITH [^()\s]+)?", expression.replace("/", " OR "))

    def either() -> bool:
        value = both()
        while tokens and tokens[0] == "OR":
            tokens.pop(0)
            # Both sides are read, also if the first one is enough.
            value = both() or value
        return value

    def both() -> bool:
        value = one()
        while tokens and tokens[0] == "AND":
            tokens.pop(0)
            value = one() and value
        return value

    def one() -> bool:
        if not tokens:
            return False
        first = tokens.pop(0)
        if first != "(":
            return first in ALLOWED
        value = either()
        return bool(tokens) and tokens.pop(0) == ")" and value

    return either() and not tokens


def page(crates: Iterable[Crate]) -> str:
    """Return the page."""
    rows = [f"| {crate.name} | {crate.version} | {crate.licence.replace('/', ' OR ')} |\n" for crate in sorted(crates)]
    return INTRODUCTION + "".join(rows)


def texts(crates: Iterable[Crate]) -> str:
    """Return the texts of all licences, each once, with the crates that have it."""
    command = ["cargo", "metadata", "--locked", "--format-version", "1"]
    packages = json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)["packages"]
    folders = {(package["name"], package["version"]): Path(package["manifest_path"]).parent for package in packages}
    owners: dict[str, list[str]] = {}
    for crate in sorted(crates):
        folder = folders[crate.name, crate.version]
        found = [
            path for path in sorted(folder.iterdir()) if path.is_file() and path.name.upper().startswith(_TEXT_NAMES)
        ]
        written = [path.read_text(encoding="utf-8", errors="replace").strip() for path in found]
        for text in written or [f"This crate has no licence file. Its licence is: {crate.licence}"]:
            owners.setdefault(text, []).append(f"{crate.name} {crate.version}")
    rule = "=" * 80
    return "\n".join(f"{rule}\n{', '.join(names)}\n{rule}\n\n{text}\n" for text, names in owners.items())


def main() -> int:
    """Write or check; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--check", action="store_true", help="fail if THIRD-PARTY.md is not current")
    given = parser.parse_args()
    crates = compiled(ROOT, edges="normal")
    refused = [f"{crate.name} {crate.version}: {crate.licence}" for crate in crates if not is_allowed(crate.licence)]
    if refused:
        print("no allowed licence:", *sorted(refused), sep="\n  ", file=sys.stderr)
        return 1
    if not given.check:
        PAGE.write_text(page(crates), encoding="utf-8")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != page(crates):
        print(f"{PAGE.name} is not current: run python tools/third_party.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
