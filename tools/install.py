"""Create the virtual environment, install what extras of this package need, and build the native module.

``python tools/install.py ENVIRONMENT EXTRA...`` installs nothing that an earlier run installed, and says how far it is.
"""

import hashlib
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
import tomllib
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
MB: Final = 1_000_000
# Often enough to be seen moving on a terminal; a log gets a line less often.
_TERMINAL_SECONDS: Final = 0.5
_LOG_SECONDS: Final = 15.0

_LARGE_DOWNLOAD: Final = """\
download: about 3 GB, because PyTorch from the index of Python packages brings the CUDA libraries with it.
  The CPU build needs less than 400 MB: press Ctrl-C, choose "CPU" in the selector of PyTorch's "Get started" page,
  set PIP_INDEX_URL or PIP_EXTRA_INDEX_URL to the address of the command it shows, and run make again."""
_SMALL_DOWNLOAD: Final = "download: about 400 MB, most of it PyTorch."


def requirements(project: dict[str, Any], extras: list[str]) -> list[str]:
    """Return what has to be installed to build the package and to use these extras."""
    table = project["project"]
    found = [*project["build-system"]["requires"], *table["dependencies"]]
    for extra in extras:
        found += table["optional-dependencies"][extra]
    return sorted(set(found))


def package_digest(project: dict[str, Any], cargo: str) -> str:
    """Return a digest of what the installed description of the package is made from: its commands, its version."""
    description = {"project": project["project"], "maturin": project["tool"]["maturin"], "cargo": cargo}
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()


def downloaded(folder: Path) -> int:
    """Return the bytes of the packages that pip has below its folder for temporary files."""
    total = 0
    for path in folder.glob("pip-unpack-*/*"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue
    return total


def _from_first(log: str, word: str) -> str:
    """Return what a program wrote from its first error or warning on."""
    found = re.search(rf"^{word}\b.*", log, flags=re.MULTILINE | re.IGNORECASE | re.DOTALL)
    return found[0].rstrip() if found else ""


class Progress:
    """One line that says what is being done: rewritten on a terminal, repeated now and then in a log."""

    def __init__(self, stage: str) -> None:
        """Begin a stage."""
        self._stage = stage
        self._began = time.monotonic()
        self._terminal = sys.stdout.isatty()
        # What is done at once needs no progress.
        self._next = self._began + 2
        self._shown = ""

    def show(self, text: str) -> None:
        """Say how far the stage is."""
        now = time.monotonic()
        if now < self._next or (text == self._shown and not self._terminal):
            return
        self._shown = text
        self._next = now + (_TERMINAL_SECONDS if self._terminal else _LOG_SECONDS)
        line = f"{self._stage}: {text}, {now - self._began:.0f} s"
        print(f"\r\x1b[K{line}" if self._terminal else line, end="" if self._terminal else "\n", flush=True)

    def end(self, text: str) -> None:
        """Say how the stage ended."""
        line = f"{self._stage}: {text}, {time.monotonic() - self._began:.0f} s"
        print(f"\r\x1b[K{line}" if self._terminal else line, flush=True)


class Environment:
    """A virtual environment, with a record of what was installed into it."""

    def __init__(self, folder: Path) -> None:
        """Refer to an environment, which may not exist yet."""
        self.python = folder / "bin" / "python"
        self._folder = folder
        self._record = folder / "installed.json"

    def create(self) -> None:
        """Create it if it does not exist."""
        if not self.python.exists():
            progress = Progress("environment")
            venv.create(self._folder, with_pip=True)
            progress.end(f"created {self._folder} with Python {platform.python_version()}")

    def has_torch(self) -> bool:
        """Tell whether the largest download is done."""
        return any(self._folder.glob("lib/python*/site-packages/torch/version.py"))

    def installed(self) -> dict[str, Any]:
        """Return the requirements and the digest of the package that are installed."""
        if not self._record.exists():
            return {"requirements": [], "package": ""}
        record: dict[str, Any] = json.loads(self._record.read_text())
        return record

    def note(self, **changes: object) -> None:
        """Add to the record what has been installed."""
        self._record.write_text(json.dumps({**self.installed(), **changes}, indent=1))

    def install(self, wanted: list[str]) -> None:
        """Install requirements with pip."""
        if not self.has_torch():
            print(_LARGE_DOWNLOAD if sys.platform == "linux" else _SMALL_DOWNLOAD, flush=True)
        # On the disk of the environment: the system's folder for temporary files may be memory.
        with tempfile.TemporaryDirectory(dir=self._folder, prefix="download-") as temporary:
            packages = set(self._folder.glob("lib/python*/site-packages/*.dist-info"))

            def describe(log: str) -> str:
                names = re.findall(r"^Collecting ([\w.-]+)", log, flags=re.MULTILINE)
                begun = log.rpartition("Installing collected packages: ")[2]
                if begun != log:
                    now = set(self._folder.glob("lib/python*/site-packages/*.dist-info"))
                    count = len(begun.splitlines()[0].split(", "))
                    return f"unpacking, {min(len(now - packages), count)} of {count} packages"
                have = f"{downloaded(Path(temporary)) / MB:,.0f} MB so far"
                return f"downloading {names[-1]}, {have}" if names else have

            pip = [str(self.python), "-m", "pip", "install", "--progress-bar", "off", *wanted]
            environment = {"TMPDIR": temporary, "PYTHONUNBUFFERED": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
            self._run("packages", "installed", pip, environment, describe)

    def build(self, *, description: bool) -> None:
        """Build the native module into the package; with `description`, install the package's commands too."""
        maturin = [str(self.python.with_name("maturin")), "develop", "--release"]
        if not description:
            maturin.append("--skip-install")

        def describe(log: str) -> str:
            return f"compiling, {log.count('Compiling ')} crates so far"

        self._run("native module", "built", maturin, {"VIRTUAL_ENV": str(self._folder)}, describe)

    def _run(
        self, stage: str, past: str, command: list[str], environment: dict[str, str], describe: Callable[[str], str]
    ) -> None:
        """Run a program with its output in a log; show progress until it ends; exit with a message if it fails."""
        path = self._folder / f"{stage.replace(' ', '-')}.log"
        progress = Progress(stage)
        with path.open("w") as log:
            process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, cwd=ROOT, env={**os.environ, **environment}
            )
            try:
                while True:
                    try:
                        status = process.wait(_TERMINAL_SECONDS)
                        break
                    except subprocess.TimeoutExpired:
                        progress.show(describe(path.read_text(errors="replace")))
            except KeyboardInterrupt:
                process.wait()
                raise SystemExit(f"\n{stage}: interrupted; the next run begins this stage anew") from None
        if status:
            print(f"\nerror: {stage}: {command[0]} failed; its log is {path}", file=sys.stderr)
            print(_from_first(path.read_text(errors="replace"), "error"), file=sys.stderr)
            raise SystemExit(1)
        progress.end(past)
        if warnings := _from_first(path.read_text(errors="replace"), "warning"):
            print(warnings)


def main() -> None:
    """Bring the environment up to date."""
    folder, *extras = sys.argv[1:]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    environment = Environment(ROOT / folder)
    environment.create()
    installed = environment.installed()
    wanted = requirements(project, extras)
    if set(wanted) - set(installed["requirements"]):
        environment.install(wanted)
        environment.note(requirements=sorted({*wanted, *installed["requirements"]}))
    digest = package_digest(project, (ROOT / "Cargo.toml").read_text())
    if digest == installed["package"]:
        environment.build(description=False)
    else:
        environment.build(description=True)
        environment.note(package=digest)


if __name__ == "__main__":
    main()
