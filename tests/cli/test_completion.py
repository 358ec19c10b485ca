"""What bash, zsh and fish offer after Tab."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pexpect
import pytest

from osstorchconnector import OssClient
from osstorchconnector.testing import Emulator
from tests.cli.conftest import PROGRAM

PROMPT = "ready> "


@pytest.fixture
def environment(client: OssClient, bucket: str, tmp_path: Path, emulator: Emulator) -> dict[str, str]:
    """An environment with the command `osst`, a profile, and some objects."""
    for key in ("images/cat.jpg", "images/dog.jpg", "index"):
        client.put(f"oss://{bucket}/{key}", b"")
    tool = tmp_path / "bin" / "osst"
    tool.parent.mkdir()
    tool.write_text(f'#!/bin/sh\nexec {" ".join(PROGRAM)} "$@"\n')
    tool.chmod(0o755)
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "file-of-mine").touch()
    environment = {
        **os.environ,
        "PATH": f"{tool.parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "TERM": "dumb",
        "PS1": PROMPT,
    }
    places = ["--credentials", f"file:{emulator.cred_path}", "--region", emulator.region, "--endpoint"]
    subprocess.run([tool, "configure", "training", *places, emulator.endpoint], env=environment, check=True)
    return environment


def expectations(bucket: str) -> Iterator[tuple[str, str]]:
    """Yield what is typed, and what its last word becomes."""
    yield "osst pres", "presign"
    yield "osst ls --rec", "--recursive"
    yield "osst checkpoint ver", "verify"
    yield "osst presign --method DEL", "DELETE"
    yield "osst ls --profile tra", "training"
    yield f"osst ls --profile training oss://{bucket[:-2]}", f"oss://{bucket}/"
    yield f"osst ls --profile training oss://{bucket}/im", f"oss://{bucket}/images/"
    yield f"osst cat --profile training oss://{bucket}/images/c", f"oss://{bucket}/images/cat.jpg"
    yield "osst cp file-of", "file-of-mine"


def needed(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")


INTERACTIVE = {
    "bash": (
        ["--norc", "--noprofile"],
        ["bind 'set bell-style none' 'set enable-bracketed-paste off'", 'eval "$(osst completion bash)"'],
    ),
    "zsh": (
        ["-f"],
        ["autoload -Uz compinit; compinit -u -D; unsetopt beep zle_bracketed_paste", "source <(osst completion zsh)"],
    ),
    # As the help recommends: in a file that the first Tab loads.
    "zsh-fpath": (
        ["-f"],
        [
            "mkdir -p ~/functions; osst completion zsh > ~/functions/_osst; fpath=(~/functions $fpath)",
            "autoload -Uz compinit; compinit -u -D; unsetopt beep zle_bracketed_paste",
        ],
    ),
}


@pytest.mark.slow(60)
@pytest.mark.parametrize("kind", INTERACTIVE)
def test_a_shell_completes_commands_options_profiles_buckets_keys_and_files(
    environment: dict[str, str], bucket: str, tmp_path: Path, kind: str
) -> None:
    name = kind.partition("-")[0]
    needed(name)
    options, lines = INTERACTIVE[kind]
    place: Any = environment
    shell = pexpect.spawn(name, options, env=place, cwd=str(tmp_path / "files"), encoding="utf-8", timeout=25)
    shell.setwinsize(24, 200)
    shell.expect_exact(PROMPT)
    for line in lines:
        shell.sendline(line)
        shell.expect_exact(PROMPT)
    for typed, expected in expectations(bucket):
        shell.send(f"{typed}\t")
        # A word that cannot go on has a space after it.
        shell.expect_exact(typed.rpartition(" ")[0])
        shell.expect_exact(expected if expected.endswith("/") else f"{expected} ")
        # Away with the line.
        shell.sendcontrol("u")
        shell.sendline("")
        shell.expect_exact(PROMPT)
    shell.close()


@pytest.mark.slow(60)
def test_fish_completes_the_same(environment: dict[str, str], bucket: str, tmp_path: Path) -> None:
    needed("fish")
    found = {}
    script = ["osst completion fish | source"]
    expected = dict(expectations(bucket))
    for typed in expected:
        script += [f"complete -C '{typed}'", "echo end"]
    command = ["fish", "--no-config", "-c", "\n".join(script)]
    shown = subprocess.run(
        command, env=environment, cwd=tmp_path / "files", check=True, capture_output=True, text=True, timeout=60
    )
    answers = shown.stdout.split("end\n")
    found = {typed: answer.split("\t")[0].strip() for typed, answer in zip(expected, answers, strict=False)}
    assert found == expected
