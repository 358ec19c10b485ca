"""Lines of Rust that the Rust tests run: ``python tools/rust_coverage.py [CRATE...]``, by default all crates.

It compiles the crates into a folder of their own, counts, and prints a line for each file, the least covered first. The
tools that read the counts must be of the LLVM that rustc has: those of ``rustup component add llvm-tools``, or those in
the folder that ``LLVM_BIN`` names.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
FOLDER: Final = ROOT / "build" / "rust-coverage"
#: Code of others, and the tests themselves.
NOT_OURS: Final = r"/\.cargo/|/rustc/|/rustlib/|/tests/|/examples/"


def llvm_tools() -> Path:
    """Return the folder of the tools of rustc's LLVM."""
    host, llvm = re.findall(r"^(?:host|LLVM version): (\S+)", _output("rustc", "-vV"), re.MULTILINE)
    major = llvm.partition(".")[0]
    found = [os.environ.get("LLVM_BIN"), f"{_output('rustc', '--print', 'sysroot').strip()}/lib/rustlib/{host}/bin"]
    if tool := shutil.which("llvm-cov"):
        found.append(str(Path(tool).parent))
    for folder in filter(None, found):
        program = Path(folder, "llvm-cov")
        if program.exists() and f"LLVM version {major}." in _output(str(program), "--version"):
            return Path(folder)
    raise SystemExit(
        f"llvm-profdata and llvm-cov of LLVM {major} are missing: run rustup component add llvm-tools, or set LLVM_BIN "
        "to their folder"
    )


def _output(*command: str, environment: dict[str, str] | None = None) -> str:
    return subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout


def measured(crates: list[str], tools: Path) -> dict[str, tuple[int, int]]:
    """Run the tests; return for each file how many of how many lines they ran."""
    shutil.rmtree(FOLDER / "counts", ignore_errors=True)
    environment = {
        **os.environ,
        "RUSTFLAGS": f"{os.environ.get('RUSTFLAGS', '')} -C instrument-coverage".strip(),
        "CARGO_TARGET_DIR": str(FOLDER / "target"),
        "LLVM_PROFILE_FILE": str(FOLDER / "counts" / "%p-%m.profraw"),
    }
    chosen = [option for crate in crates for option in ("--package", crate)] or ["--workspace"]
    built = _output(
        *("cargo", "test", "--quiet", "--no-run", "--message-format", "json", *chosen), environment=environment
    )
    programs = [
        message["executable"]
        for message in map(json.loads, built.splitlines())
        if message.get("profile", {}).get("test") and message.get("executable")
    ]
    subprocess.run(
        ["cargo", "test", "--quiet", "--no-fail-fast", "--lib", "--bins", "--tests", *chosen],
        cwd=ROOT,
        env=environment,
        check=True,
    )
    counts = FOLDER / "counts.profdata"
    raw = sorted(map(str, (FOLDER / "counts").glob("*.profraw")))
    subprocess.run([tools / "llvm-profdata", "merge", "--sparse", *raw, "--output", counts], check=True)
    objects = [part for program in programs for part in ("--object", program)]
    report = json.loads(
        _output(
            *(str(tools / "llvm-cov"), "export", "--summary-only", f"--ignore-filename-regex={NOT_OURS}"),
            *(f"--instr-profile={counts}", *objects),
        )
    )
    return {
        str(Path(file["filename"]).relative_to(ROOT)): (
            file["summary"]["lines"]["covered"],
            file["summary"]["lines"]["count"],
        )
        for file in report["data"][0]["files"]
    }


def main() -> int:
    """Print the table; return the exit status."""
    crates = sys.argv[1:]
    files = measured(crates, llvm_tools())
    totals: dict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
    for name, (ran, lines) in sorted(files.items(), key=lambda item: item[1][0] / max(item[1][1], 1)):
        crate = name.split("/")[1]
        if not crates or crate in crates:
            totals[crate] = (totals[crate][0] + ran, totals[crate][1] + lines)
            print(f"{ran / max(lines, 1):7.1%} {lines - ran:5} missed  {name}")
    print()
    for crate, (ran, lines) in sorted(totals.items()):
        print(f"{ran / max(lines, 1):7.1%} {lines - ran:5} missed  {crate}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
