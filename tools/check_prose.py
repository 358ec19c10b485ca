"""Check that the project's prose avoids phrases that a reader with school English must read twice.

CONTRIBUTING.md lists the phrases, with examples of what to write instead. Names are read as sentences too:
``test_a_worker_is_told`` contains "is told". A phrase may begin on one line and end on the next.
"""

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
SUFFIXES: Final = {".md", ".py", ".pyi", ".rs", ".sh", ".toml", ".yml", ".yaml"}
# Files without a suffix.
NAMES: Final = {".ci/run", "Makefile"}
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
# A space of a phrase may be the end of a line.
_PATTERNS: Final = [
    (re.compile(phrase.replace(" ", r"[ \n]"), re.IGNORECASE | re.MULTILINE), advice)
    for phrase, advice in PHRASES.items()
]
# What surrounds the text of a line: marks of comments and lists, quotes of texts, a backslash that continues the line.
_LEADING: Final = re.compile(r"^(?:[\s#/!*>]|[bfr]?\"+)+")
_TRAILING: Final = re.compile(r"[\s\"\\]+$")


def findings(text: str) -> list[tuple[int, str, str]]:
    """Return line number, phrase and advice for each phrase to avoid."""
    lines = [_TRAILING.sub("", _LEADING.sub("", line)) for line in text.splitlines()]
    sentences = "\n".join(lines).replace("_", " ")
    found = []
    for pattern, advice in _PATTERNS:
        for match in pattern.finditer(sentences):
            phrase = match[0].lstrip('.;:" \n')
            # "Where" is a finding at the beginning of a sentence only, with its capital.
            if phrase.startswith("where"):
                continue
            begin = match.end() - len(phrase)
            found.append((sentences.count("\n", 0, begin) + 1, phrase.replace("\n", " "), advice))
    return sorted(found)


def main() -> int:
    """Print each finding; exit status 1 if there is one."""
    listed = subprocess.run(["git", "ls-files"], check=True, capture_output=True, text=True, cwd=ROOT).stdout
    count = 0
    for name in listed.splitlines():
        path = ROOT / name
        if (path.suffix not in SUFFIXES and name not in NAMES) or name in EXEMPT or not path.is_file():
            continue
        for number, phrase, advice in findings(path.read_text(encoding="utf-8")):
            print(f"{name}:{number}: {phrase!r}: {advice}", file=sys.stderr)
            count += 1
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
