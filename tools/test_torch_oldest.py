"""Run the Python tests with the oldest torch that each part supports, in environments of their own."""

import os
import re
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Distributed checkpoints need it: see python/osstorchconnector/_torch/distributed.py.
DISTRIBUTED = "2.7.0"
# The tests of everything else that uses torch.
WITHOUT_DISTRIBUTED = ["tests/checkpoint/test_torch_zip.py", "tests/dataset", "tests/native", "tests/safetensor"]


def oldest_torch() -> str:
    """Return the lower bound of the torch requirement."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for requirement in project["optional-dependencies"]["torch"]:
        if found := re.fullmatch(r"torch>=(\d+\.\d+)", requirement):
            return f"{found[1]}.0"
    message = "pyproject.toml states no lower bound of torch"
    raise SystemExit(message)


def run(version: str, tests: list[str]) -> int:
    """Create the environment once, then run pytest in it; return its exit status."""
    environment = ROOT / ".venv" / f"torch-{version}"
    python = environment / "bin" / "python"
    if not python.exists():
        venv.create(environment, with_pip=True)
    install = [str(python), "-m", "pip", "install", "--quiet", f"torch=={version}", "numpy", f"{ROOT}[demo,test]"]
    subprocess.run(install, check=True)
    print(f"torch {version}", flush=True)
    pytest = [str(python), "-P", "-m", "pytest", "--numprocesses", "auto", "--dist", "worksteal", *tests]
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(pytest, check=False, cwd=ROOT, env=environ).returncode


def main() -> int:
    """Run both; return the exit status."""
    return max(run(DISTRIBUTED, []), run(oldest_torch(), WITHOUT_DISTRIBUTED))


if __name__ == "__main__":
    sys.exit(main())
