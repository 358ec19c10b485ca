"""The examples and tables of docs/guides/emulator.md are right."""

import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import yaml

from osstorchconnector import OssClient, OssConfig
from osstorchconnector.cli.__main__ import main
from osstorchconnector.testing import Emulator, FaultRule

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "emulator.md"


def code_blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", GUIDE.read_text(), flags=re.DOTALL)


@pytest.mark.slow(90)
def test_the_pytest_example_passes(tmp_path: Path) -> None:
    (block,) = code_blocks("python")
    (tmp_path / "test_example.py").write_text(block)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null", "test_example.py"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"{block.count('def test_')} passed" in result.stdout


def test_the_rules_are_rules() -> None:
    (block,) = code_blocks("yaml")
    rules = yaml.safe_load(block)
    with Emulator(buckets=["bucket"], faults=rules) as server:
        client = server.client()
        client.put("oss://bucket/train/1", b"content")
        assert client.get("oss://bucket/train/1") == b"content"
        listed = [status["rule"] for status in server._running().call("GET", "faults")]
    assert [rule.keys() for rule in listed] == [rule.keys() for rule in rules]


def test_every_option_and_argument_exists(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["emulator", "--help"])
    known = capsys.readouterr().out
    named = set(re.findall(r"`(?:osst emulator )?(--[a-z-]+)", GUIDE.read_text()))
    assert {"--tls", "--faults", "--admin"} < named
    assert [option for option in named if option not in known] == []
    (table,) = re.findall(r"an argument of `Emulator`:\n\n((?:\|.*\n)+)", GUIDE.read_text())
    arguments = re.findall(r"`([a-z_]+)(?:=[^`]*)?`", table)
    assert set(arguments) <= set(inspect.signature(Emulator).parameters)


def test_every_field_has_its_row() -> None:
    rules = GUIDE.read_text().partition("## Failing on purpose")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.*?`) \|", rules, flags=re.MULTILINE)
    documented = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert sorted(documented) == sorted(get_type_hints(FaultRule))


def test_the_server_knows_the_fields_that_python_knows(emulator: Emulator) -> None:
    # The refusal of an unknown field lists the known ones.
    with pytest.raises(ValueError, match="unknown field `nothing`, expected one of") as caught:
        emulator.fault(nothing=1)  # type: ignore[call-arg]
    known = set(re.findall(r"`(\w+)`", str(caught.value))) - {"nothing"}
    assert known == set(get_type_hints(FaultRule))


@pytest.mark.slow(60)
def test_the_shell_example_adds_a_rule_and_prints_the_log(tmp_path: Path) -> None:
    (block,) = [block for block in code_blocks("sh") if "--admin" in block]
    # As written, except for another port, which is free, and a wait, because a person types more slowly.
    started = "osst emulator --bucket reports --admin &\n"
    assert started in block
    osst = f"mkfifo started; {sys.executable} -m osstorchconnector.cli emulator --port 0 --bucket reports --admin"
    wait = "trap 'kill $!' EXIT; read -r url <started\n"
    script = block.replace(started, f"{osst} >started &\n{wait}").replace("http://127.0.0.1:9400", '"$url"')
    result = subprocess.run(
        ["bash", "-euc", script], cwd=tmp_path, env=dict(os.environ), capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    added, log = result.stdout.replace("]{", "]\n{").splitlines()
    assert json.loads(added) == [1]
    assert json.loads(log) == {"total": 0, "peak_concurrency": 0, "requests": []}


def test_positions_are_what_the_types_say(client: OssClient, bucket: str, emulator: Emulator) -> None:
    literals = [argument for argument in get_args(get_type_hints(FaultRule)["reset"]) if argument is not int]
    connection: dict[str, Any] = {**emulator.connection, "config": OssConfig(max_attempts=2)}
    reader = OssClient(**connection)
    client.put(f"oss://{bucket}/a", b"content")
    for position in [*get_args(literals[0]), 3]:
        with emulator.fault(bucket=bucket, nth=1, reset=position) as fault:
            assert reader.get(f"oss://{bucket}/a") == b"content"
            assert fault.acted == 1
