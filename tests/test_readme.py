"""The lines of the README, in both languages, and the quick start work when they are pasted in their order."""

import re
from pathlib import Path

import pytest

from osstorchconnector.testing import Emulator
from tests.docs.pages import ROOT, Block, blocks, free_port, pasted
from tests.docs.scenes import PASTED

README = ROOT / "README.md"
WITHOUT_AN_ACCOUNT = "## A first batch without an account"
WITH_AN_ACCOUNT = "## The same with an account"
BATCHES = [str([b"sample %d\n" % number for number in numbers]) for numbers in ((1, 2, 3, 4), (5, 6, 7, 8))]


def section(heading: str) -> list[Block]:
    return blocks(README.read_text().partition(f"{heading}\n")[2].partition("\n## ")[0])


@pytest.mark.slow(120)
def test_the_first_batch_comes_without_an_account(tmp_path: Path) -> None:
    result = pasted(section(WITHOUT_AN_ACCOUNT), tmp_path, _9400=free_port())
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-2:] == BATCHES


@pytest.mark.slow(120)
def test_the_first_batch_comes_with_an_account(emulator: Emulator, bucket: str, tmp_path: Path) -> None:
    _, program = section(WITHOUT_AN_ACCOUNT)
    (lines,) = section(WITH_AN_ACCOUNT)
    files = Block("sh", "mkdir samples\n" + "".join(f"echo sample {n} > samples/{n}.txt\n" for n in range(1, 9)))
    # A reader who comes from the section before has the region of its server.
    before = Block("sh", "export OSS_REGION=cn-elsewhere\n")
    values = {
        # The documented endpoint names its region, but a server on this machine does not.
        "unset OSS_REGION": f"export OSS_REGION={emulator.region}",
        "https://oss-cn-hangzhou.aliyuncs.com": emulator.endpoint,
        "YOUR-ID": emulator.access_key_id,
        "YOUR-SECRET": emulator.access_key_secret,
        "YOUR-BUCKET": bucket,
    }
    assert all(name in lines.text for name in values)
    result = pasted([files, before, lines, program], tmp_path, **values)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-2:] == BATCHES


@pytest.mark.slow(200)
def test_the_quick_start_trains_saves_and_resumes(tmp_path: Path) -> None:
    given = blocks(ROOT / "docs" / "start" / "quick-start.md")
    test = Block("sh", "python -m pytest -q -p no:cacheprovider -c /dev/null test_train.py\n")
    result = pasted([*given, test], tmp_path, _9400=free_port())
    assert result.returncode == 0, result.stderr + result.stdout
    epochs = [float(loss) for loss in re.findall(r"^epoch \d: loss (\d\.\d+)$", result.stdout, re.MULTILINE)]
    assert len(epochs) == 6
    assert epochs[-1] < epochs[0]
    assert "resuming from oss://numbers/run/epoch-2.pt" in result.stdout
    assert "oss://numbers/run/epoch-5.pt" in result.stdout.partition("epoch 5: loss")[2]
    assert "1 passed" in result.stdout


TRANSLATED = {"README.md": "README.zh.md", "docs/start/quick-start.md": "docs/zh/quick-start.md"}


@pytest.mark.parametrize("page", TRANSLATED)
def test_the_translation_has_the_same_code(page: str) -> None:
    assert blocks(ROOT / TRANSLATED[page]) == blocks(ROOT / page)


def targets(page: str) -> set[str]:
    """Return the files that a page links to, each translated one under the name of its original."""
    originals = {translation: original for original, translation in TRANSLATED.items()}
    folder = (ROOT / page).parent
    addresses = re.findall(r"\]\((?!https?:)([^)#\s]+)", (ROOT / page).read_text())
    found = {str((folder / address).resolve().relative_to(ROOT)) for address in addresses}
    return {originals.get(name, name) for name in found}


@pytest.mark.parametrize("page", TRANSLATED)
def test_the_translation_has_the_same_links(page: str) -> None:
    assert targets(TRANSLATED[page]) == targets(page)


def test_each_page_that_is_pasted_has_a_folder_of_its_own() -> None:
    """A reader follows one page after the other in one folder, where the samples of one are wrong for another."""
    uploaded = [
        folder
        for page in ("README.md", "docs/start/quick-start.md", *(f"docs/{name}" for name in PASTED))
        for folder in {
            found
            for block in blocks(ROOT / page)
            for found in re.findall(r"^osst cp -r (\S+) oss:", block.text, re.MULTILINE)
        }
    ]
    assert len(uploaded) >= 5
    assert len(set(uploaded)) == len(uploaded), uploaded
