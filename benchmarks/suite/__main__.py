"""Run parts of the suite, each in less than ten minutes, and draw the report: ``python -m benchmarks.suite small``."""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from benchmarks.suite import (
    background,
    checkpoint,
    distributed,
    growth,
    instructions,
    large,
    latency,
    listing,
    models,
    pictures,
    small,
    start,
)
from benchmarks.suite.contenders import install_peers
from benchmarks.suite.measure import ROOT, write
from benchmarks.suite.report import write_report

PARTS = {
    "pictures": pictures.run,
    "small": small.run,
    "tiny": small.run_tiny,
    "latency": latency.run,
    "large": large.run,
    "checkpoint": checkpoint.run,
    "models": models.run,
    "background": background.run,
    "listing": listing.run,
    "distributed": distributed.run,
    "start": start.run,
    "instructions": instructions.run,
    "growth": growth.run,
}
_TOOLS = ("nginx", "wrk", "taskset")


def main() -> int:
    """Run the named parts and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"parts to run: {', '.join(PARTS)} (default: all)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model-bytes", type=int, default=models.SIZE, help="bytes of the model of the part models")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "report")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"unknown part: {', '.join(sorted(unknown))}. The parts are {', '.join(PARTS)}")
    if missing := [tool for tool in _TOOLS if shutil.which(tool) is None]:
        sys.stderr.write(f"missing: {', '.join(missing)}; on Debian: apt-get install nginx-light wrk util-linux\n")
        return 1
    install_peers()
    arguments.output.mkdir(parents=True, exist_ok=True)
    for part in arguments.parts or PARTS:
        options = {"size": arguments.model_bytes} if part == "models" else {}
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            write(arguments.output / f"{part}.json", PARTS[part](Path(folder), arguments.rounds, **options))
        write_report(arguments.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
