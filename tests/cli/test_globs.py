import re

import pytest

from osstorchconnector.cli.globs import compiled, has_magic, literal_start, matches


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("*.pt", "a.pt", True),
        ("*.pt", "below/a.pt", True),
        ("*.pt", "a.pth", False),
        ("a/*.pt", "a/b.pt", True),
        ("a/*.pt", "a/b/c.pt", False),
        ("a/**", "a/b/c.pt", True),
        ("a/**/c", "a/c", True),
        ("a/**/c", "a/x/y/c", True),
        ("a/**/c", "a/xc", False),
        ("**/c", "c", True),
        ("?", "ab", False),
        ("?", "é", True),
        ("[ab]", "b", True),
        ("[!ab]", "b", False),
        ("[!ab]", "c", True),
        ("a[!b]c/d", "a/c/d", False),
        ("[0-9][0-9]", "42", True),
        ("[^]]", "]", False),
        ("[]]", "]", True),
        ("[", "[", True),
        ("a.b", "axb", False),
        ("*", "two\nlines", True),
        ("a+(b)", "a+(b)", True),
        ("**.pt", "a/b.pt", True),
        ("**.pt", "b.pt", True),
        ("a/**/b/**/c", "a/1/b/2/3/c", True),
        ("a/**/b/**/c", "a/1/c/2/b", False),
        ("**/b/*/c", "b/b/x/c", True),
        ("**/**", "a/b", True),
        ("a*b*c", "a1bb2bc", True),
        ("a**c", "abc", True),
        ("*/", "dir/", True),
    ],
)
def test_matching(pattern: str, path: str, expected: bool) -> None:  # noqa: FBT001 - a table
    assert matches(pattern, path) is expected


@pytest.mark.parametrize("pattern", ["a*", "a?b", "a[b]", "**"])
def test_patterns_and_where_they_begin(pattern: str) -> None:
    assert has_magic(pattern)
    assert not has_magic(literal_start(pattern))
    assert pattern.startswith(literal_start(pattern))


def test_no_pattern_is_slow_or_wrong_for_the_module_re() -> None:
    with pytest.raises(ValueError, match=re.escape("'[z-a]' is no pattern")):
        compiled("[z-a]")
    # A backtracking pattern of 12 stars over a long name.
    assert not matches("*a" * 12 + "b", "a" * 40)
    assert not matches("**/a/" * 8 + "b", "a/" * 100 + "c")
