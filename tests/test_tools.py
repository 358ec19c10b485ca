"""The checks of the source find what they must, and an installation has what its commands need."""

import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

TOOLS = Path(__file__).parents[1] / "tools"


def tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("module", "line", "finding"),
    [
        ("files/opening.py", "from osstorchconnector.connection.client import OssClient", ""),
        ("files/opening.py", "from osstorchconnector.dataset import manifest", "must not import dataset.manifest"),
        ("files/opening.py", "import osstorchconnector.cli.cp", "must not import cli.cp"),
        ("archive/writer.py", "from osstorchconnector.dataset.listing import SharedListing", ""),
        ("archive/index.py", "from osstorchconnector.dataset.rows import Row", "must not import dataset.rows.Row"),
        ("dataset/sources.py", "def f():\n    from osstorchconnector import checkpoint", "must not import checkpoint"),
        ("novel.py", "", "novel belongs to no layer"),
    ],
)
def test_an_import_that_runs_up_is_found(tmp_path: Path, module: str, line: str, finding: str) -> None:
    path = tmp_path / module
    path.parent.mkdir(exist_ok=True)
    path.write_text(line)
    found = tool("check_layers").python_findings(tmp_path)
    assert len(found) == bool(finding)
    assert all(finding in text for text in found)


@pytest.mark.parametrize(
    ("module", "line", "name"),
    [
        ("dcp/reader.py", "from torch.distributed.checkpoint.filesystem import FileSystemReader", None),
        ("dcp/reader.py", "from torch.distributed.checkpoint.filesystem import _StorageInfo as Info", "_StorageInfo"),
        ("dcp/reader.py", "from torch._utils import ExceptionWrapper", "torch._utils.ExceptionWrapper"),
        ("dcp/reader.py", "import torch._utils", "torch._utils"),
        ("dcp/reader.py", "def f():\n    torch.serialization._load(1)", "torch.serialization._load"),
        ("dcp/reader.py", "torch.__version__", None),
        ("_torch/distributed.py", "from torch._utils import ExceptionWrapper", None),
    ],
)
def test_a_private_name_of_torch_is_found(tmp_path: Path, module: str, line: str, name: str | None) -> None:
    path = tmp_path / module
    path.parent.mkdir()
    path.write_text(line)
    found = tool("check_layers").torch_findings(tmp_path)
    assert len(found) == (name is not None)
    assert all(f"{name} is private" in text for text in found)


@pytest.mark.parametrize(
    ("module", "text", "finding"),
    [
        ("transport/body.rs", "use crate::error::Result;", ""),
        (
            "transport/body.rs",
            "use crate::{\n    error::{self, Result},\n    client::Client,\n};",
            "body.rs:3: transport must not use",
        ),
        ("transport/mod.rs", "fn f() {\n    crate::ops::get::verify();\n}", "mod.rs:2: transport must not use ops"),
        ("ops/get.rs", "use crate::{client::Client, transport::{Body, Response}};", ""),
        ("error.rs", '//! See [`crate::ops`].\nconst TEXT: &str = "crate::ops";', ""),
        ("error.rs", "#[cfg(test)]\nmod tests {\n    use crate::ops;\n}", ""),
        ("error.rs", "#[cfg(test)]\nmod tests {}\nuse crate::ops;", "error.rs:3: error must not use ops"),
        ("listing/parallel.rs", "use crate::Client;", "crate::Client is no module"),
        ("novel.rs", "", "novel belongs to no layer"),
    ],
)
def test_a_path_of_the_core_that_runs_up_is_found(tmp_path: Path, module: str, text: str, finding: str) -> None:
    path = tmp_path / module
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    found = tool("check_layers").rust_findings(tmp_path)
    assert len(found) == bool(finding)
    assert all(finding in line for line in found)


def test_files_of_tests_may_use_every_layer(tmp_path: Path) -> None:
    (tmp_path / "catalogue").mkdir()
    (tmp_path / "catalogue" / "mod.rs").write_text("#[cfg(test)]\nmod tests;\n")
    (tmp_path / "catalogue" / "tests.rs").write_text("use crate::ops;\n")
    assert tool("check_layers").rust_findings(tmp_path) == []


@pytest.mark.parametrize(
    ("line", "phrase"),
    [
        ("# The reader is told.", "is told"),
        ("def test_a_worker_is_told() -> None:", "is told"),
        ("//! A cursor is gone on with.", "gone on with"),
        ("# Where there is none, it raises.", "Where there"),
        ("the places where it looks", None),
        ("a worker tells its parent", None),
    ],
)
def test_a_phrase_to_avoid_is_found(line: str, phrase: str | None) -> None:
    found = tool("check_prose").findings(f"first line\n{line}\n")
    assert [(number, text) for number, text, _ in found] == ([] if phrase is None else [(2, phrase)])


@pytest.mark.parametrize(
    ("text", "findings"),
    [
        ("# The reader is\n# told.", [(1, "is told")]),
        ("/// Whoever reads. It\n/// is told.", [(1, "Whoever"), (2, "is told")]),
        ('    "the list of what "\n    f"is there"', [(1, "what is there")]),
        ("It ends.\nWhere it stands, it reads.", [(2, "Where it")]),
        ("The place is\n\ntold apart.", []),
    ],
)
def test_a_phrase_across_a_line_break_is_found(text: str, findings: list[tuple[int, str]]) -> None:
    found = tool("check_prose").findings(text)
    assert [(number, phrase) for number, phrase, _ in found] == findings


def test_the_listed_files_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_prose = tool("check_prose")
    monkeypatch.setattr(check_prose, "ROOT", tmp_path)
    (tmp_path / ".ci").mkdir()
    for name in ("Makefile", "tools.sh", ".ci/run"):
        (tmp_path / name).write_text("# Whoever runs this.\n")
    subprocess.run(["git", "init", "--quiet"], check=True, cwd=tmp_path)
    assert check_prose.main() == 0
    subprocess.run(["git", "add", "."], check=True, cwd=tmp_path)
    assert check_prose.main() == 1


def test_contributing_lists_each_phrase_to_avoid() -> None:
    rows = (TOOLS.parent / "CONTRIBUTING.md").read_text()
    for phrase in ("is told", "goes on with", "for want of", "whoever", "what is there", "of that which", "Where it"):
        assert tool("check_prose").findings(phrase)
        assert phrase in rows


def test_a_demonstration_installs_no_tools_of_tests() -> None:
    install = tool("install")
    project = tomllib.loads((TOOLS.parent / "pyproject.toml").read_text())
    demo = install.requirements(project, ["demo"])
    everything = install.requirements(project, list(project["project"]["optional-dependencies"]))
    assert {"maturin>=1.12,<2", "torch>=2.6", "tqdm>=4.66"} < set(demo) < set(everything)
    assert not any(requirement.startswith("pytest") for requirement in demo)


@pytest.mark.parametrize(
    ("system", "environment", "size"),
    [
        ("linux", {}, "3 GB"),
        ("linux", {"PIP_EXTRA_INDEX_URL": ""}, "3 GB"),
        ("linux", {"PIP_EXTRA_INDEX_URL": "https://packages.example/cpu"}, "400 MB"),
        ("linux", {"PIP_INDEX_URL": "https://mirror.example/simple"}, "400 MB"),
        ("darwin", {}, "400 MB"),
    ],
)
def test_the_size_of_the_download_is_shown(system: str, environment: dict[str, str], size: str) -> None:
    assert f"about {size}" in tool("install").download_notice(system, environment).splitlines()[0]


def test_a_package_that_is_being_downloaded_counts(tmp_path: Path) -> None:
    (tmp_path / "pip-unpack-1").mkdir()
    (tmp_path / "pip-unpack-1" / "torch.whl").write_bytes(bytes(1000))
    # The copy that pip's cache gets is not counted twice.
    (tmp_path / "tmp1").write_bytes(bytes(700))
    assert tool("install").downloaded(tmp_path) == 1000


@pytest.mark.parametrize(
    ("programs", "message"),
    [
        ({}, "python is not installed; install Python 3.11 or newer, or run make PYTHON="),
        ({"python": "exit 1"}, "but 3.11 or newer is needed; run make PYTHON="),
        ({"python": "exit 0"}, "cargo is missing; install Rust with rustup"),
        ({"python": "exit 0", "cargo": "exit 0"}, "a C compiler is missing"),
    ],
)
def test_a_missing_tool_is_reported_before_anything_is_downloaded(
    tmp_path: Path, programs: dict[str, str], message: str
) -> None:
    for name, script in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    for name in ("bash", "dirname", "env"):
        (tmp_path / name).symlink_to(f"/usr/bin/{name}")
    done = subprocess.run(
        [TOOLS / "toolchain.sh", "python"],
        env={**os.environ, "PATH": str(tmp_path)},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert message in done.stderr


WINDOWS = "osstorchconnector does not run on Windows: install it in WSL, the Windows Subsystem for Linux"


@pytest.mark.parametrize("system", ["MINGW64_NT-10.0-22631", "MSYS_NT-10.0", "CYGWIN_NT-10.0"])
def test_make_on_windows_names_wsl(tmp_path: Path, system: str) -> None:
    (tmp_path / "uname").write_text(f"#!/bin/sh\necho {system}\n")
    (tmp_path / "uname").chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    command = [str(TOOLS / "toolchain.sh"), "python"]
    done = subprocess.run(command, env={**os.environ, "PATH": path}, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, f"error: {WINDOWS}\n")


def test_pip_on_windows_names_wsl() -> None:
    # The way in which pip calls it: by the names in pyproject.toml.
    build = tomllib.loads((TOOLS.parent / "pyproject.toml").read_text())["build-system"]
    program = (
        f"import sys; sys.platform = 'win32'; sys.path[:0] = {build['backend-path']}; import {build['build-backend']}"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=TOOLS.parent, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, f"{WINDOWS}\n")


def test_cargo_on_windows_names_wsl() -> None:
    lowest = (TOOLS.parent / "crates" / "oss-protocol" / "src" / "lib.rs").read_text()
    assert f'#[cfg(windows)]\ncompile_error!("{WINDOWS}");' in lowest


def test_pip_elsewhere_gets_the_functions_of_maturin() -> None:
    pytest.importorskip("maturin")
    import maturin  # noqa: PLC0415 - it is one of the tools of developers

    backend = tool("build_backend")
    assert {name for name in vars(maturin) if name.startswith(("build_", "get_requires_", "prepare_"))} == set(
        backend.__all__
    )
    assert all(getattr(backend, name) is getattr(maturin, name) for name in backend.__all__)


def test_foreign_suites_need_a_folder_that_holds_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suites = tool("test_suites")
    assert suites.main([]) == 2
    assert "SUITES=DIR" in capsys.readouterr().out
    assert suites.main([str(tmp_path / "missing")]) == 2
    assert "missing is not a directory" in capsys.readouterr().out
    assert suites.main([str(tmp_path)]) == 2
    assert (
        "holds none of: alibabacloud-oss-python-sdk-v2, aliyun-oss-python-sdk, opendal, ossfs"
        in capsys.readouterr().out
    )


def test_an_absent_suite_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    suites = tool("test_suites")
    ran = []

    def run(suite: Any, repository: Path) -> bool:
        ran.append((suite.title, repository))
        return True

    monkeypatch.setattr(suites, "run", run)
    (tmp_path / "opendal").mkdir()
    assert suites.main([str(tmp_path)]) == 0
    assert ran == [(f"opendal, {style} style", tmp_path / "opendal") for style in ("path", "virtual")]
    skipped = [line.split(":")[0] for line in capsys.readouterr().out.splitlines() if "skipped" in line]
    assert skipped == ["alibabacloud-oss-python-sdk-v2", "aliyun-oss-python-sdk", "ossfs"]


def test_the_outcomes_of_a_suite_are_counted() -> None:
    lines = ["test_b[x y] PASSED [ 1%]", "test_c FAILED", "test_d SKIPPED", "test_b[x y] ERROR"]
    report = "\n".join(f"tests/a.py::{line}" for line in lines)
    assert tool("test_suites").outcomes(report) == {"tests/a.py::test_b[x y]": False, "tests/a.py::test_c": False}


# They try pyarrow, scipy and tifffile beside what is installed for the tests, as docs/decisions/dependencies.md says.
PARTLY_LEFT_OUT = {"tests/files/test_consumers.py", "tests/fsspec/test_speed.py"}


def test_what_is_left_out_without_a_framework_belongs_to_a_group() -> None:
    root = TOOLS.parent
    groups = tool("test_frameworks").TESTS.values()
    named = {test.partition("::")[0] for tests in groups for test in tests}
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    installed = {
        re.split(r"[\[><=]", requirement)[0]
        for extra in ("test", "demo", "dev", "docs", "bench", "contract")
        for requirement in project[extra]
    }
    # The names that their packages are imported by, if these differ.
    installed |= {"kubernetes_validate", "opentelemetry", "prometheus_client", "PIL", "yaml", "numpy"}
    found = {
        str(path.relative_to(root))
        for path in (root / "tests").rglob("test_*.py")
        for module in re.findall(r'importorskip\("(\w+)', path.read_text())
        if module not in installed
    }
    assert found - named == PARTLY_LEFT_OUT
