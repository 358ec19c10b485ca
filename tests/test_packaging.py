"""The tools that make, check and describe packages find what they must."""

import json
import os
import pwd
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import osstorchconnector
from tests.test_tools import tool

ROOT = Path(__file__).parents[1]
NATIVE = Path(osstorchconnector.__file__).with_name("_native.abi3.so")
VERSION = osstorchconnector.__version__


@pytest.mark.parametrize(
    ("expression", "allowed"),
    [
        ("MIT", True),
        ("MIT/Apache-2.0", True),
        ("GPL-3.0", False),
        ("MIT OR GPL-3.0", True),
        ("GPL-3.0 OR MIT", True),
        ("MIT AND GPL-3.0", False),
        ("(MIT OR Apache-2.0) AND Unicode-3.0", True),
        ("(MIT OR Apache-2.0) AND GPL-3.0", False),
        ("GPL-3.0 AND (MIT OR Apache-2.0)", False),
        ("Apache-2.0 WITH LLVM-exception OR GPL-3.0", True),
        ("GPL-2.0 WITH Classpath-exception", False),
        ("(MIT", False),
        ("MIT)", False),
        ("", False),
    ],
)
def test_a_licence_is_allowed_if_allowed_licences_fulfil_it(expression: str, allowed: object) -> None:
    assert tool("third_party").is_allowed(expression) is allowed


def test_cargo_deny_allows_the_same_licences_and_platforms() -> None:
    deny = tomllib.loads((ROOT / "deny.toml").read_text())
    assert set(deny["licenses"]["allow"]) == tool("third_party").ALLOWED
    assert tuple(deny["graph"]["targets"]) == tool("crates").TARGETS


@pytest.mark.skipif(shutil.which("cargo") is None, reason="cargo is not installed")
def test_the_page_of_licences_has_every_crate_that_is_compiled_here(monkeypatch: pytest.MonkeyPatch) -> None:
    # Tests have a home of their own, and rustup's cargo looks for Rust in the user's.
    monkeypatch.setenv("HOME", pwd.getpwuid(os.getuid()).pw_dir)
    host = re.search(
        r"host: (\S+)", subprocess.run(["rustc", "-vV"], capture_output=True, text=True, check=True).stdout
    )
    assert host is not None
    crates = tool("crates").compiled(ROOT, [host[1]], edges="normal", offline=True)
    assert len(crates) > 50
    rows = [line for line in tool("third_party").page(crates).splitlines() if re.match(r"\| \S+ \| \d", line)]
    assert set(rows) <= set((ROOT / "THIRD-PARTY.md").read_text().splitlines()), "run python tools/third_party.py"


def test_the_page_of_licences_has_no_crate_that_is_not_locked() -> None:
    packages = tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]
    locked = {(package["name"], package["version"]) for package in packages}
    named = set(re.findall(r"^\| (\S+) \| (\d\S*) \|", (ROOT / "THIRD-PARTY.md").read_text(), flags=re.MULTILINE))
    assert named < locked


def wheel(folder: Path, platform: str = "manylinux_2_17_x86_64", **files: str) -> Path:
    """Make a wheel of the native module that is tested."""
    path = folder / f"osstorchconnector-{VERSION}-cp311-abi3-{platform}.whl"
    description = f"osstorchconnector-{VERSION}.dist-info"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(NATIVE, "osstorchconnector/_native.abi3.so")
        for name in ("__init__.py", "_native.pyi", "py.typed"):
            archive.writestr(f"osstorchconnector/{name}", "")
        for name in ("METADATA", "RECORD", "entry_points.txt", "licenses/LICENSE", "licenses/THIRD-PARTY-TEXTS.txt"):
            archive.writestr(f"{description}/{name}", "")
        archive.writestr(f"{description}/sboms/{tool('check_wheel').SBOM}", "{}")
        archive.writestr(f"{description}/WHEEL", f"Wheel-Version: 1.0\nTag: cp311-abi3-{platform}\n")
        for name, text in files.items():
            archive.writestr(name, text)
    return path


@pytest.mark.skipif(sys.platform != "linux", reason="readelf reads modules of Linux")
def test_the_native_module_needs_the_libraries_of_every_system() -> None:
    libraries, glibc = tool("check_wheel").needs_of(NATIVE.read_bytes())
    assert "libc.so.6" in libraries
    assert glibc >= (2, 14)
    assert list(tool("check_wheel").findings_of_needs("manylinux_2_99_x86_64", libraries, glibc)) == []
    (finding,) = tool("check_wheel").findings_of_needs("manylinux_2_5_x86_64", libraries, glibc)
    assert "its tag promises 2.5" in finding
    (finding,) = tool("check_wheel").findings_of_needs("manylinux_2_99_x86_64", {*libraries, "libssl.so.3"}, glibc)
    assert finding == "it needs libssl.so.3, which not every system has"
    assert "it needs libc.so.6, which not every system has" in tool("check_wheel").findings_of_needs(
        "musllinux_1_2_x86_64", libraries, glibc
    )


@pytest.mark.skipif(sys.platform != "linux", reason="readelf reads modules of Linux")
def test_a_wheel_of_the_native_module_is_as_it_should_be(tmp_path: Path) -> None:
    assert tool("check_wheel").findings(wheel(tmp_path, "manylinux_2_99_x86_64"), here=True) == []


@pytest.mark.skipif(sys.platform != "linux", reason="readelf reads modules of Linux")
@pytest.mark.parametrize(
    ("platform", "finding"),
    [
        ("manylinux_2_99_x86_64", "it does not run on images with glibc 2.28"),
        ("linux_x86_64", "linux_x86_64 is not a platform that an index of packages takes"),
        ("musllinux_1_2_x86_64", "it needs libc.so.6, which not every system has"),
    ],
)
def test_a_wheel_for_a_wrong_platform_is_found(tmp_path: Path, platform: str, finding: str) -> None:
    assert finding in tool("check_wheel").findings(wheel(tmp_path, platform))


@pytest.mark.parametrize(
    ("name", "finding"),
    [
        (f"osstorchconnector-{VERSION}-cp311-abi3-macosx_11_0_arm64", None),
        ("osstorchconnector-1.2.3-cp311-abi3-macosx_11_0_arm64", f"its version is not {VERSION}, as in Cargo.toml"),
        (f"osstorchconnector-{VERSION}-cp312-cp312-macosx_11_0_arm64", "it is not for the stable ABI"),
    ],
)
def test_a_name_of_a_wheel_that_is_wrong_is_found(name: str, finding: str | None) -> None:
    found = list(tool("check_wheel").findings_of_name(f"{name}.whl", VERSION))
    assert len(found) == (finding is not None)
    assert all(str(finding) in text for text in found)


@pytest.mark.parametrize(
    ("added", "finding"),
    [
        ("tests/test_x.py", "tests/test_x.py does not belong into it"),
        ("osstorchconnector/__pycache__/x.pyc", "osstorchconnector/__pycache__/x.pyc does not belong into it"),
        ("osstorchconnector/_other.so", "osstorchconnector/_other.so is a second native module"),
    ],
)
def test_a_file_that_no_wheel_has_is_found(tmp_path: Path, added: str, finding: str) -> None:
    path = wheel(tmp_path, **{added: ""})
    with zipfile.ZipFile(path) as archive:
        assert list(tool("check_wheel").findings_of_files(archive, path.name)) == [finding]


def test_a_file_that_a_wheel_lacks_is_found(tmp_path: Path) -> None:
    path = wheel(tmp_path)
    smaller = tmp_path / "smaller.whl"
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(smaller, "w") as other:
        for name in archive.namelist():
            if "py.typed" not in name:
                other.writestr(name, archive.read(name))
    with zipfile.ZipFile(smaller) as archive:
        found = list(tool("check_wheel").findings_of_files(archive, path.name))
    assert found == ["osstorchconnector/py.typed is missing"]


@pytest.mark.parametrize(
    ("cargo", "python"),
    [("2.0.0-alpha.1", "2.0.0a1"), ("2.0.0-beta.12", "2.0.0b12"), ("2.1.0-rc.1", "2.1.0rc1"), ("2.0.0", "2.0.0")],
)
def test_the_version_of_cargo_is_written_as_python_does(cargo: str, python: str) -> None:
    manifest = f'[workspace.package]\nversion = "{cargo}"\n'
    assert tool("check_wheel").version_of(manifest) == python


def test_the_list_of_crates_has_the_checksums_of_the_lock() -> None:
    crate = tool("crates").Crate("tokio", "1.0.0", "MIT/Apache-2.0")
    lock = '[[package]]\nname = "tokio"\nversion = "1.0.0"\nchecksum = "abc"\n'
    listing = tool("build_wheel").sbom({crate}, lock, "2.0.0a1")
    assert listing["metadata"]["component"]["purl"] == "pkg:pypi/osstorchconnector@2.0.0a1"
    (component,) = listing["components"]
    assert component["purl"] == "pkg:cargo/tokio@1.0.0"
    assert component["hashes"] == [{"alg": "SHA-256", "content": "abc"}]
    assert component["licenses"] == [{"expression": "MIT OR Apache-2.0"}]
    (dependencies,) = listing["dependencies"]
    assert dependencies["dependsOn"] == [component["bom-ref"]]


def test_a_module_that_names_the_checkout_is_found(tmp_path: Path) -> None:
    check = tool("check_wheel")
    path = wheel(tmp_path, "macosx_11_0_arm64")
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    # Not an ELF module, so only the name of the folder can be wrong.
    for text, findings in ((b"panic in crates/x.rs", []), (f"panic in {ROOT}/x.rs".encode(), [str(ROOT)])):
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in {**contents, "osstorchconnector/_native.abi3.so": text}.items():
                archive.writestr(name, data)
        found = check.findings(path)
        assert len(found) == len(findings)
        assert all(name in text for name in findings for text in found)


MANIFEST = """\
[package]
name = "windows"
version = "1.0.0"
build = "make/build.rs"

[lib]
path = "src/lib.rs"

[[test]]
name = "all"
path = "tests/all.rs"
"""


def test_a_crate_that_no_platform_compiles_is_reduced_to_its_manifest(tmp_path: Path) -> None:
    crate = tmp_path / "windows-1.0.0"
    texts = {"LICENSE-MIT": "text", "src/lib.rs": "code", "src/deep/mod.rs": "code", "data/table.bin": "bytes"}
    for name, text in {**texts, "Cargo.toml": MANIFEST, "make/build.rs": "code"}.items():
        (crate / name).parent.mkdir(parents=True, exist_ok=True)
        (crate / name).write_text(text)
    (crate / ".cargo-checksum.json").write_text(json.dumps({"files": {"src/lib.rs": "sum"}, "package": "whole"}))
    tool("make_sdist").reduce(crate)
    left = {path.relative_to(crate).as_posix(): path.read_text() for path in crate.rglob("*") if path.is_file()}
    assert json.loads(left.pop(".cargo-checksum.json")) == {"files": {}, "package": "whole"}
    assert left == {
        "Cargo.toml": MANIFEST,
        "LICENSE-MIT": "text",
        "make/build.rs": "",
        "src/lib.rs": "",
        "tests/all.rs": "",
    }


def test_the_same_sources_make_the_same_archive(tmp_path: Path) -> None:
    made = []
    for number in range(2):
        tree = tmp_path / f"{number}" / "package-1"
        tree.mkdir(parents=True)
        for name in ("b", "a") if number else ("a", "b"):
            (tree / name).write_text(name)
            os.utime(tree / name, (number, number))
        (tree / "a").chmod(0o755)
        archive = tmp_path / f"{number}.tar.gz"
        tool("make_sdist").pack(tree, tree.iterdir(), archive)
        made.append(archive.read_bytes())
    assert made[0] == made[1]
    with tarfile.open(tmp_path / "0.tar.gz") as tar:
        assert [(item.name, item.mode) for item in tar] == [("package-1/a", 0o755), ("package-1/b", 0o644)]
