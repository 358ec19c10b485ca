"""Run the Python tests with the oldest torch that pyproject.toml allows, in an environment of its own."""

import re
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def oldest_torch() -> str:
    """Return the lower bound of the torch requirement."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for requirement in project["optional-dependencies"]["torch"]:
        if found := re.fullmatch(r"torch>=(\d+\.\d+)", requirement):
            return f"{found[1]}.0"
    message = "pyproject.toml states no lower bound of torch"
    raise SystemExit(message)


def main() -> int:
    """Create the environment once, then run pytest in it; return its exit status."""
    version = oldest_torch()
    environment = ROOT / ".venv" / f"torch-{version}"
    python = environment / "bin" / "python"
    if not python.exists():
        venv.create(environment, with_pip=True)
    install = [str(python), "-m", "pip", "install", "--quiet", f"torch=={version}", "numpy", f"{ROOT}[demo,test]"]
    subprocess.run(install, check=True)
    pytest = [str(python), "-P", "-m", "pytest", "--numprocesses", "auto", "--dist", "worksteal"]
    return subprocess.run(pytest, check=False, cwd=ROOT).returncode


if __name__ == "__main__":
    sys.exit(main())
