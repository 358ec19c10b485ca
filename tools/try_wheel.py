"""Install a wheel into an empty environment without Rust, and run the client and the main job from it.

``python tools/try_wheel.py [--without-torch] FILE``. A source distribution is built first, with no network: pip may ask
no index, and cargo finds no registry.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
#: Everything that works without torch.
WITHOUT_TORCH: Final = """
import importlib.util
from osstorchconnector.testing import Emulator
assert importlib.util.find_spec("torch") is None
with Emulator(buckets=["bucket"]) as emulator:
    client = emulator.client()
    client.put("oss://bucket/key", b"bytes")
    assert client.get("oss://bucket/key") == b"bytes"
"""


def build(sdist: Path, folder: Path) -> Path:
    """Build a source distribution offline; return the wheel."""
    environment = folder / "build"
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "maturin>=1.12,<2"], check=True)
    # rustup's cargo needs the home of rustup, which is beside the usual CARGO_HOME.
    rustup = os.environ.get("RUSTUP_HOME", str(Path.home() / ".rustup"))
    offline = {
        **{name: value for name, value in os.environ.items() if name != "CARGO_TARGET_DIR"},
        "CARGO_HOME": str(folder / "no-registry"),
        "CARGO_NET_OFFLINE": "true",
        "PATH": f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "RUSTUP_HOME": rustup,
    }
    options = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder)]
    subprocess.run([python, "-m", "pip", "wheel", *options, sdist], check=True, cwd=folder, env=offline)
    (wheel,) = folder.glob("*.whl")
    return wheel


def main() -> int:
    """Run both with the file given as argument; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--without-torch", action="store_true", help="leave out the job that needs torch")
    parser.add_argument("file", type=Path, help="a wheel, or a source distribution")
    given = parser.parse_args()
    path = given.file.resolve()
    example = ROOT / "examples" / "train_digits.py"
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        wheel = path if path.suffix == ".whl" else build(path, folder)
        environment = folder / "venv"
        venv.create(environment, with_pip=True)
        python = environment / "bin" / "python"
        # Only the environment and the system's own programs: no cargo, and nothing of this checkout on the path.
        bare = {"PATH": f"{environment / 'bin'}{os.pathsep}/usr/bin{os.pathsep}/bin", "HOME": temporary}
        subprocess.run([python, "-m", "pip", "install", "--quiet", wheel], check=True)
        subprocess.run([python, "-P", "-c", WITHOUT_TORCH], check=True, cwd=folder, env=bare)
        subprocess.run([environment / "bin" / "osst", "--version"], check=True, cwd=folder, env=bare)
        if given.without_torch:
            return 0
        subprocess.run([python, "-m", "pip", "install", "--quiet", f"{wheel}[demo]"], check=True)
        return subprocess.run([python, "-P", example], check=False, cwd=folder, env=bare).returncode


if __name__ == "__main__":
    sys.exit(main())
