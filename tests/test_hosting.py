"""What a hosted repository runs calls commands that exist, and is marked as long as it has never run."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))


def missing(command: str) -> list[str]:
    """Return what a shell command calls of this checkout that is not in it."""
    targets = [target for words in re.findall(r"\bmake((?: [a-z-]+)+)", command) for target in words.split()]
    files = re.findall(r"(?:^|\s)((?:tools|tests|examples|\.ci)/[\w./-]+)", command)
    return [*(target for target in targets if target not in TARGETS), *(f for f in files if not (ROOT / f).exists())]


def test_a_command_that_is_missing_is_found() -> None:
    assert missing("make build wheel && python tools/check_wheel.py") == []
    assert missing("make build rocket && python tools/rocket.py") == ["rocket", "tools/rocket.py"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_calls_what_exists_and_is_marked(path: Path) -> None:
    text = path.read_text()
    assert text.startswith("# This workflow has never run")
    assert f"`.github/workflows/{path.name}`" in (ROOT / "RELEASING.md").read_text()
    jobs: dict[str, Any] = yaml.safe_load(text)["jobs"]
    steps = [step for job in jobs.values() for step in job["steps"]]
    commands = [step["run"] for step in steps if "run" in step]
    assert [name for command in commands for name in missing(command)] == []
    # A tag can be moved to other code.
    actions = [step["uses"] for step in steps if "uses" in step]
    assert all(re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", action) for action in actions), actions
    assert all("timeout-minutes" in job for job in jobs.values())


def test_the_workflow_installs_what_the_checks_need() -> None:
    """A runner is not root, and `.ci/run` fails if something is missing."""
    needed = set(re.findall(r"missing\+=\((\S+)\)", (ROOT / ".ci" / "run").read_text()))
    assert len(needed) == 3
    (installed,) = re.findall(
        r"sudo apt-get install ([^\n]*)", (ROOT / ".github" / "workflows" / "check.yml").read_text()
    )
    assert needed <= set(installed.split())


@pytest.mark.parametrize(
    ("tag", "kind"), [("v2.0.0a1", "--prerelease"), ("v2.0.0rc12", "--prerelease"), ("v2.0.0", "--latest")]
)
def test_only_what_is_no_release_for_everybody_is_marked(tag: str, kind: str, tmp_path: Path) -> None:
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "wheels.yml").read_text())["jobs"]
    (command,) = [step["run"] for step in jobs["release"]["steps"] if "gh release" in step.get("run", "")]
    (tmp_path / "gh").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "gh").chmod(0o755)
    environment = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "TAG": tag}
    done = subprocess.run(["bash", "-ec", command], env=environment, check=True, capture_output=True, text=True)
    assert done.stdout.startswith(f"release create {tag} --verify-tag {kind} --notes-file notes.md ")


def test_only_what_publishes_may_write() -> None:
    may_write = set()
    for path in WORKFLOWS:
        workflow = yaml.safe_load(path.read_text())
        assert workflow["permissions"] == {"contents": "read"}
        for name, job in workflow["jobs"].items():
            if "write" in job.get("permissions", {}).values():
                may_write.add(f"{path.stem}/{name}")
    assert may_write == {"docs/publish", "wheels/attest", "wheels/publish", "wheels/release"}


def test_packages_are_published_only_where_the_project_has_a_name() -> None:
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "wheels.yml").read_text())["jobs"]
    assert "vars.PACKAGE_INDEX_URL != ''" in jobs["publish"]["if"]
    assert jobs["publish"]["steps"][-1]["with"]["repository-url"] == "${{ vars.PACKAGE_INDEX_URL }}"
    # What is free-threaded has another prefix than the artifacts that are published.
    names = [step["with"]["name"] for step in jobs["free-threaded"]["steps"] if "name" in step.get("with", {})]
    patterns = [step["with"]["pattern"] for step in jobs["publish"]["steps"] if "pattern" in step["with"]]
    assert (names, patterns) == (["unpublished-free-threaded"], ["package-*"])


def test_the_hooks_call_what_exists() -> None:
    configuration = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    hooks = [hook for repository in configuration["repos"] for hook in repository["hooks"]]
    assert [name for hook in hooks for name in missing(hook["entry"])] == []
    # Another version than that of `make` would contradict it.
    assert {repository["repo"] for repository in configuration["repos"]} == {"local"}
