"""The examples in the guides pass."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

GUIDES = Path(__file__).parents[1] / "docs" / "guides"


@pytest.mark.slow(90)
@pytest.mark.parametrize("guide", ["archives", "manifests"])
def test_the_examples_pass(guide: str, tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (GUIDES / f"{guide}.md").read_text(), flags=re.DOTALL)
    (tmp_path / "test_example.py").write_text("\n".join(blocks))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null", "test_example.py"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"{sum(block.count('def test_') for block in blocks)} passed" in result.stdout
