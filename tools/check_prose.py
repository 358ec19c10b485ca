"""Check that the project's prose avoids phrases that a reader with school English must read twice.

The phrases are listed in CONTRIBUTING.md with examples of what to write instead. Names are read as sentences too:
``test_a_worker_is_told`` contains "is told".
"""

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
SUFFIXES: Final = {".md", ".py", ".pyi", ".rs", ".toml", ".yml", ".yaml"}
# This file lists the phrases; CONTRIBUTING.md and a test quote them; others wrote the examples of the original.
EXEMPT: Final = {"tools/check_prose.py", "CONTRIBUTING.md", "tests/test_tools.py", "tests/original_examples.md"}

# Each pattern, and what to write instead.
PHRASES: Final = {
    r"\b(?:is|are|was|were|be|been|being) told\b": "say who tells whom: 'raises', 'reports', 'you set'",
    r"\b(?:goes|go|going|gone) on with\b": "'continues', 'resumes from'",
    r"\bfor want of\b": "'because there is no'",
    r"\bwhoever\b": "name the person or the program",
    r"\bwhat is there\b": "name the thing",
    r"\bof (?:that|those) which\b": "name the thing",
    r"(?:^|[.;:] |\")Where (?:a|an|the|it|its|there|no|nothing|nobody|neither|none|one|they|this|that|several|two)\b": (
        "'If …'"
    ),
}
_PATTERNS: Final = [(re.compile(phrase, re.IGNORECASE), advice) for phrase, advice in PHRASES.items()]
# "Where" is a finding at the beginning of a sentence only, with its capital.
_LEADING: Final = re.compile(r"^[\s#/!*\"]+")


def findings(text: str) -> list[tuple[int, str, str]]:
    """Return line number, phrase and advice for each phrase to avoid."""
    found = []
    for number, line in enumerate(text.splitlines(), start=1):
        sentence = _LEADING.sub("", line).replace("_", " ")
        for pattern, advice in _PATTERNS:
            match = pattern.search(sentence)
            if match and not ("where" in match[0].lower() and "Where" not in match[0]):
                found.append((number, match[0].strip(), advice))
    return found


def main() -> int:
    """Print each finding; exit status 1 if there is one."""
    listed = subprocess.run(["git", "ls-files"], check=True, capture_output=True, text=True, cwd=ROOT).stdout
    count = 0
    for name in listed.splitlines():
        path = ROOT / name
        if path.suffix not in SUFFIXES or name in EXEMPT or not path.is_file():
            continue
        for number, phrase, advice in findings(path.read_text(encoding="utf-8")):
            print(f"{name}:{number}: {phrase!r}: {advice}", file=sys.stderr)
            count += 1
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
