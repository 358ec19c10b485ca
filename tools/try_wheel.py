"""Install a wheel into an empty environment without Rust, and run the client and the main job from it."""

import os
import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

# What current training images have: glibc of Debian 10, of RHEL 8 and of Ubuntu 18.10.
NEWEST_GLIBC = (2, 28)

# Everything that works without torch.
WITHOUT_TORCH = """
import importlib.util
from osstorchconnector.testing import Emulator
assert importlib.util.find_spec("torch") is None
with Emulator(buckets=["bucket"]) as emulator:
    client = emulator.client()
    client.put("oss://bucket/key", b"bytes")
    assert client.get("oss://bucket/key") == b"bytes"
"""


def check_tag(name: str) -> None:
    """Exit with a message if a wheel for Linux needs a newer C library than training images have."""
    found = re.search(r"manylinux_(\d+)_(\d+)", name)
    if "linux" in name and (found is None or (int(found[1]), int(found[2])) > NEWEST_GLIBC):
        raise SystemExit(f"{name} does not run on images with glibc {NEWEST_GLIBC[0]}.{NEWEST_GLIBC[1]}")


def main() -> int:
    """Run both with the wheel given as argument; return the exit status."""
    wheel = Path(sys.argv[1]).resolve()
    check_tag(wheel.name)
    example = Path(__file__).resolve().parent.parent / "examples" / "train_digits.py"
    with tempfile.TemporaryDirectory() as folder:
        environment = Path(folder) / "venv"
        venv.create(environment, with_pip=True)
        python = environment / "bin" / "python"
        # Only the environment and the system's own programs: no cargo, and nothing of this checkout on the path.
        bare = {"PATH": f"{environment / 'bin'}{os.pathsep}/usr/bin{os.pathsep}/bin", "HOME": folder}
        subprocess.run([python, "-m", "pip", "install", "--quiet", wheel], check=True)
        subprocess.run([python, "-P", "-c", WITHOUT_TORCH], check=True, cwd=folder, env=bare)
        subprocess.run([environment / "bin" / "osst", "--version"], check=True, cwd=folder, env=bare)
        subprocess.run([python, "-m", "pip", "install", "--quiet", f"{wheel}[demo]"], check=True)
        return subprocess.run([python, "-P", example], check=False, cwd=folder, env=bare).returncode


if __name__ == "__main__":
    sys.exit(main())
