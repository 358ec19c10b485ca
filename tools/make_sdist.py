"""Build the source distribution into dist/, with all crates that the package is made of, so that it builds offline.

``python tools/make_sdist.py [FOLDER]``. ``cargo vendor`` copies every crate that Cargo.lock names. Those that no
supported platform compiles are reduced to their manifests, which cargo reads in any case: they are most of the bytes.
"""

import gzip
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

from crates import compiled  # noqa: E402

#: What cargo reads instead of the registry. A crate that is missing is an error, not a download.
CONFIG: Final = """\
[source.crates-io]
replace-with = "vendored-sources"

[source.vendored-sources]
directory = "vendor"

[net]
offline = true
"""
#: Every file of an archive has this time, so that the same sources make the same bytes: 2020-01-01.
TIME: Final = 1577836800


def targets_of(manifest: dict[str, Any]) -> Iterator[str]:
    """Yield the paths of the source files that a manifest names."""
    build = manifest["package"].get("build")
    if isinstance(build, str):
        yield build
    yield manifest.get("lib", {}).get("path", "src/lib.rs")
    for kind in ("bin", "example", "test", "bench"):
        for target in manifest.get(kind, []):
            if "path" in target:
                yield target["path"]


def reduce(crate: Path) -> None:
    """Leave of a crate its manifest, its licences, and empty files where the manifest names some."""
    manifest = tomllib.loads((crate / "Cargo.toml").read_text(encoding="utf-8"))
    checksums = json.loads((crate / ".cargo-checksum.json").read_text(encoding="utf-8"))
    for path in sorted(crate.rglob("*"), reverse=True):
        if path.is_dir():
            path.rmdir() if not any(path.iterdir()) else None
        elif path.name != "Cargo.toml" and not path.name.upper().startswith(("LICENSE", "COPYING")):
            path.unlink()
    for name in targets_of(manifest):
        path = crate / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    checksums["files"] = {}
    (crate / ".cargo-checksum.json").write_text(json.dumps(checksums), encoding="utf-8")


def vendor(tree: Path) -> tuple[int, int]:
    """Put the crates into an unpacked source distribution; return how many are whole and how many are reduced."""
    needed = {f"{crate.name}-{crate.version}" for crate in compiled(tree)}
    command = ["cargo", "vendor", "--locked", "--versioned-dirs", "--quiet", "vendor"]
    subprocess.run(command, cwd=tree, check=True, stdout=subprocess.DEVNULL)
    crates = sorted((tree / "vendor").iterdir())
    others = [crate for crate in crates if crate.name not in needed]
    for crate in others:
        reduce(crate)
    (tree / ".cargo").mkdir()
    (tree / ".cargo" / "config.toml").write_text(CONFIG, encoding="utf-8")
    return len(crates) - len(others), len(others)


def pack(tree: Path, files: Iterable[Path], archive: Path) -> None:
    """Write an archive that depends on the names and the bytes of files alone."""
    with (
        archive.open("wb") as raw,
        gzip.GzipFile("", "wb", 9, raw, TIME) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for path in sorted(files):
            data = path.read_bytes()
            info = tarfile.TarInfo(path.relative_to(tree.parent).as_posix())
            info.size, info.mtime = len(data), TIME
            info.mode = 0o755 if os.access(path, os.X_OK) else 0o644
            tar.addfile(info, io.BytesIO(data))


def main() -> int:
    """Build it; return the exit status."""
    folder = Path(*sys.argv[1:] or [str(ROOT / "dist")]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        # It warns of parts of Cargo.toml that are not for it, and has no option against that.
        done = subprocess.run(["maturin", "sdist", "--out", temporary], cwd=ROOT, check=False, capture_output=True)
        if done.returncode:
            raise SystemExit(f"maturin sdist failed:\n{done.stderr.decode(errors='replace')}")
        (made,) = Path(temporary).glob("*.tar.gz")
        with tarfile.open(made) as tar:
            tar.extractall(temporary, filter="data")
        tree = Path(temporary, made.name.removesuffix(".tar.gz"))
        whole, reduced = vendor(tree)
        archive = folder / made.name
        pack(tree, (path for path in tree.rglob("*") if path.is_file()), archive)
    size = archive.stat().st_size / 2**20
    print(f"{archive.name}: {size:.1f} MiB, {whole} crates, and the manifests of {reduced} that are not compiled")
    return 0


if __name__ == "__main__":
    sys.exit(main())
