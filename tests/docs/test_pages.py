"""All code of the pages runs."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from osstorchconnector.testing import Emulator
from tests.docs.pages import ROOT, Block, blocks, free_port, new_shell, pasted
from tests.docs.scenes import ELSEWHERE, PASTED, PROGRAMS, TESTS

DOCS = ROOT / "docs"
PAGES = {str(path.relative_to(DOCS)): blocks(path) for path in sorted(DOCS.rglob("*.md"))}


def of(page: str, language: str) -> list[Block]:
    return [block for block in PAGES[page] if block.language == language]


def environment(folder: Path, emulator: Emulator) -> dict[str, str]:
    return {
        **new_shell(folder),
        "OSS_ENDPOINT": emulator.endpoint,
        "OSS_REGION": emulator.region,
        "OSS_ACCESS_KEY_ID": emulator.access_key_id,
        "OSS_ACCESS_KEY_SECRET": emulator.access_key_secret,
        "ALIBABA_CLOUD_ECS_METADATA_DISABLED": "true",
    }


def with_values(text: str, replaced: dict[str, str], emulator: Emulator) -> str:
    for name, value in replaced.items():
        assert name in text, f"the page has no {name!r} any more"
        text = text.replace(name, value)
    text = text.replace("oss-cn-hangzhou-internal.aliyuncs.com", emulator.endpoint)
    return text.replace("/root/.alibabacloud/credentials", emulator.cred_path)


def test_every_block_is_run() -> None:
    code = {page for page, found in PAGES.items() if any(block.language in {"python", "sh"} for block in found)}
    assert code == {*PROGRAMS, *TESTS, *PASTED, *ELSEWHERE}
    assert {block.language for found in PAGES.values() for block in found} == {"json", "python", "sh", "text", "yaml"}


@pytest.mark.slow(200)
@pytest.mark.parametrize("page", [page for page in PROGRAMS if page not in TESTS and of(page, "python")])
def test_the_python_of_a_page_runs(page: str, tmp_path: Path) -> None:
    scene = PROGRAMS[page]
    for module in scene.needs:
        pytest.importorskip(module)
    with Emulator(buckets=list(scene.buckets)) as emulator:
        code = with_values("\n".join(block.text for block in of(page, "python")), scene.replaced, emulator)
        values = f"ENDPOINT, CRED_PATH = {emulator.endpoint!r}, {emulator.cred_path!r}\n"
        (tmp_path / "page.py").write_text(values + scene.python + code + scene.ends)
        result = subprocess.run(
            [sys.executable, "page.py"],
            cwd=tmp_path,
            env=environment(tmp_path, emulator),
            capture_output=True,
            text=True,
            check=False,
        )
    assert result.returncode == 0, result.stderr


@pytest.mark.slow(200)
@pytest.mark.parametrize("page", [page for page in PROGRAMS if of(page, "sh")])
def test_the_shell_lines_of_a_page_run(page: str, tmp_path: Path) -> None:
    scene = PROGRAMS[page]
    with Emulator(buckets=list(scene.buckets)) as emulator:
        lines = with_values("".join(block.text for block in of(page, "sh")), scene.replaced_in_shell, emulator)
        values = {"ID": emulator.access_key_id, "SECRET": emulator.access_key_secret}
        result = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", f"{scene.shell}{lines}\nls -R"],
            cwd=tmp_path,
            env={**environment(tmp_path, emulator), **values},
            capture_output=True,
            text=True,
            check=False,
        )
    assert result.returncode == 0, result.stderr
    assert [text for text in scene.printed if text not in result.stdout] == []


@pytest.mark.slow(120)
@pytest.mark.parametrize("page", TESTS)
def test_the_tests_of_a_page_pass(page: str, tmp_path: Path) -> None:
    code = "\n".join(block.text for block in of(page, "python"))
    (tmp_path / "test_example.py").write_text(code)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null", "test_example.py"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"{code.count('def test_')} passed" in result.stdout


@pytest.mark.slow(300)
@pytest.mark.parametrize("page", PASTED)
def test_the_lines_of_a_tutorial_work_when_they_are_pasted(page: str, tmp_path: Path) -> None:
    result = pasted(PAGES[page], tmp_path, _9400=free_port(), _29500=free_port())
    assert result.returncode == 0, result.stderr + result.stdout
    assert [text for text in PASTED[page] if text not in result.stdout] == []


@pytest.mark.slow(60)
def test_the_admin_lines_of_the_emulator_work(tmp_path: Path) -> None:
    start, admin = of("guides/emulator.md", "sh")
    port = free_port()
    assert subprocess.run(["bash", "-n", "-c", start.text], check=False).returncode == 0
    wait = Block("sh", f"until curl -sf http://127.0.0.1:{port}/-/health; do sleep 0.1; done\n")
    head, _, tail = admin.text.partition("admin() {")
    lines = head.replace("--admin &", f"--port {port} --admin &")
    result = pasted([Block("sh", lines), wait, Block("sh", f"admin() {{{tail}")], tmp_path, _9400=port)
    assert result.returncode == 0, result.stderr
    rules, end = json.JSONDecoder().raw_decode(text := result.stdout.rpartition("ok")[2].strip())
    assert (len(rules), json.loads(text[end:])["requests"]) == (1, [])


@pytest.mark.parametrize("page", [page for page in PAGES if of(page, "json") or of(page, "yaml")])
def test_the_json_and_yaml_of_a_page_can_be_read(page: str) -> None:
    for block in of(page, "json"):
        json.loads(block.text)
    for block in of(page, "yaml"):
        assert list(yaml.safe_load_all(block.text))


@pytest.mark.parametrize(("page", "test"), ELSEWHERE.items())
def test_the_other_tests_name_the_page(page: str, test: str) -> None:
    assert (ROOT / test).is_file()
    if test.startswith("tests/"):
        assert re.search(rf"\b{Path(page).stem}\b", (ROOT / test).read_text())
