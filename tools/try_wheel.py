"""Install a wheel into an empty environment without Rust and run the main job from it."""

import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path


def main() -> int:
    """Run the main job with the wheel given as argument; return its exit status."""
    wheel = Path(sys.argv[1]).resolve()
    example = Path(__file__).resolve().parent.parent / "examples" / "train_digits.py"
    with tempfile.TemporaryDirectory() as folder:
        environment = Path(folder) / "venv"
        venv.create(environment, with_pip=True)
        python = environment / "bin" / "python"
        subprocess.run([python, "-m", "pip", "install", "--quiet", f"{wheel}[demo]"], check=True)
        # Only the environment and the system's own programs: no cargo, and nothing of this checkout on the path.
        bare = {"PATH": f"{environment / 'bin'}{os.pathsep}/usr/bin{os.pathsep}/bin", "HOME": folder}
        return subprocess.run([python, "-P", example], check=False, cwd=folder, env=bare).returncode


if __name__ == "__main__":
    sys.exit(main())
