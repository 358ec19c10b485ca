"""The script that makes releases does what it says, in a repository of its own."""

import datetime as dt
import os
import subprocess
from pathlib import Path

import pytest

from tests.test_tools import tool

ROOT = Path(__file__).parents[1]
CARGO = '[workspace.package]\nversion = "2.1.0-rc.1"\n'
LOCK = (
    '[[package]]\nname = "oss-client"\nversion = "{}"\n\n[[package]]\nname = "tokio"\nversion = "1.0.0"\nsource = "r"\n'
)
CHANGELOG = "# Changelog\n\n## [Unreleased]\n\n### Added\n\n- A line.\n\n## [2.0.0] - 2026-01-01\n\n- An older line.\n"


def git(repository: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=repository, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository that is ready for a release, and a `make` that writes down what it is asked for."""
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "tests")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "tests@example.com")
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "make").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/made\n')
    (programs / "make").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    folder = tmp_path / "checkout"
    folder.mkdir()
    for name, text in {"Cargo.toml": CARGO, "Cargo.lock": LOCK.format("2.1.0-rc.1"), "CHANGELOG.md": CHANGELOG}.items():
        (folder / name).write_text(text)
    git(folder, "init", "--quiet", "--initial-branch", "main")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "Begin")
    return folder


def test_without_make_nothing_is_changed(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = git(repository, "rev-parse", "HEAD")
    assert tool("release").main([], repository) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == ["2.1.0rc1 can be released. With --make:", "- make wheel", "- make sdist"]
    assert (git(repository, "rev-parse", "HEAD"), git(repository, "tag"), git(repository, "status", "--short")) == (
        before,
        "",
        "",
    )
    assert not (repository.parent / "made").exists()


def test_a_release_builds_dates_the_changelog_and_tags(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tool("release").main(["--make"], repository) == 0
    assert (repository.parent / "made").read_text() == "wheel\nsdist\n"
    today = dt.datetime.now(dt.UTC).date()
    changelog = (repository / "CHANGELOG.md").read_text()
    assert f"## [Unreleased]\n\n## [2.1.0rc1] - {today}\n\n### Added\n\n- A line.\n" in changelog
    assert git(repository, "log", "-1", "--format=%s") == "Release 2.1.0rc1\n"
    assert git(repository, "rev-parse", "v2.1.0rc1^{commit}") == git(repository, "rev-parse", "HEAD")
    assert git(repository, "status", "--short") == ""
    capsys.readouterr()
    # The notes of the release, also after it.
    assert tool("release").main(["--notes"], repository) == 0
    assert capsys.readouterr().out == "### Added\n\n- A line.\n"
    # A second time there is nothing to release.
    assert tool("release").main(["--make"], repository) == 1
    errors = capsys.readouterr().err
    assert "the tag v2.1.0rc1 exists" in errors
    assert "has a section for 2.1.0rc1 already" in errors


def test_a_build_that_fails_leaves_no_tag(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "programs" / "make").write_text("#!/bin/sh\nexit 2\n")
    with pytest.raises(subprocess.CalledProcessError):
        tool("release").main(["--make"], repository)
    assert (git(repository, "tag"), git(repository, "status", "--short")) == ("", "")


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        ({"CHANGELOG.md": CHANGELOG.replace("### Added\n\n- A line.\n", "")}, "says nothing below [Unreleased]"),
        ({"Cargo.lock": LOCK.format("2.0.0")}, "Cargo.lock has oss-client 2.0.0, and Cargo.toml 2.1.0-rc.1"),
    ],
)
def test_what_stands_against_a_release_is_said(
    repository: Path, capsys: pytest.CaptureFixture[str], change: dict[str, str], finding: str
) -> None:
    for name, text in change.items():
        (repository / name).write_text(text)
    git(repository, "commit", "--quiet", "--all", "--message", "Change")
    assert tool("release").main(["--make"], repository) == 1
    assert finding in capsys.readouterr().err
    assert git(repository, "tag") == ""


def test_a_changed_file_and_another_branch_stand_against_a_release(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    git(repository, "switch", "--quiet", "--create", "work")
    (repository / "new").touch()
    assert tool("release").main(["--make"], repository) == 1
    errors = capsys.readouterr().err
    assert "the branch is work: releases are made from main" in errors
    assert "?? new" in errors


def test_this_changelog_has_sections_that_the_script_understands() -> None:
    assert tool("release").Release(ROOT).notes().startswith("### ")
