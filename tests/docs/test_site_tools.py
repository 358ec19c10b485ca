"""What makes and checks the site finds what it must."""

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.test_tools import tool

pytest.importorskip("mkdocs", reason="needs the extra docs")
from mkdocs.config import load_config
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import Files

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def check_site() -> ModuleType:
    return tool("check_site")


@pytest.mark.parametrize(
    ("page", "finding"),
    [
        ('<a href="other.html#there">', None),
        ('<a href="#here">', None),
        ('<a href="./">', None),
        ('<a href="%E4%B8%AD.html">', None),
        ('<a href="https://example.com/">', None),
        ('<a href="gone.html">', "index.html: gone.html leads to no file"),
        ('<img src="gone.png">', "index.html: gone.png leads to no file"),
        ('<a href="other.html#gone">', "index.html: other.html#gone leads to no anchor"),
        ('<a href="#gone">', "index.html: #gone leads to no anchor"),
        ('<script src="https://example.com/a.js"></script>', "index.html: loads https://example.com/a.js"),
        ('<link rel="stylesheet" href="//example.com/a.css">', "index.html: loads //example.com/a.css"),
        ('<link rel="canonical" href="https://example.com/">', None),
    ],
)
def test_a_link_that_leads_nowhere_is_found(
    check_site: ModuleType, tmp_path: Path, page: str, finding: str | None
) -> None:
    (tmp_path / "index.html").write_text(f'<h1 id="here">{page}</h1>')
    (tmp_path / "other.html").write_text('<h1 id="there"></h1>')
    (tmp_path / "中.html").write_text("")
    assert check_site.findings(tmp_path) == ([] if finding is None else [finding])


def test_a_style_that_loads_from_the_network_is_found(check_site: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("")
    (tmp_path / "a.css").write_text("@import url(https://example.com/b.css);\na{background:url(b.png)}")
    assert check_site.findings(tmp_path) == ["a.css: loads https://example.com/b.css"]


def test_an_empty_site_is_a_finding(check_site: ModuleType, tmp_path: Path) -> None:
    assert check_site.findings(tmp_path) == [f"{tmp_path} has no page: run make docs"]


@pytest.mark.parametrize(
    ("docstring", "markdown"),
    [
        (
            "Like :meth:`get`, of :class:`~osstorchconnector.OssClient`.",
            (
                'Like <autoref identifier="a.B.get" optional><code>get</code></autoref>, of '
                '<autoref identifier="osstorchconnector.OssClient" optional><code>OssClient</code></autoref>.'
            ),
        ),
        ("Use it so::\n\n    x = 1", "Use it so:\n\n    x = 1"),
        ("::\n\n    x = 1", "\n\n    x = 1"),
        (
            "Args:\n    a, b: Two\n        lines.\n    c: One.",
            "Args:\n    a: Two\n        lines.\n    b: Two\n        lines.\n    c: One.",
        ),
    ],
)
def test_a_docstring_becomes_markdown(docstring: str, markdown: str) -> None:
    assert tool("site_docstrings").as_markdown(docstring, "a.B") == markdown


LINKS = """[a](../guides/b.md#c) [d](../../CHANGELOG.md) [e](https://example.com) [f](#g) `[h](../../i)`

```python
[j](../../k)
```

[l](../../Makefile)
"""


@pytest.fixture
def files() -> Files:
    return Files([])


@pytest.fixture
def places(files: Files) -> Any:
    config = load_config(str(ROOT / "mkdocs.yml"))
    # mkdocs sets it while it calls a hook, and a generated file keeps it.
    config.plugins._current_plugin = "tools/site_hooks.py"
    return tool("site_hooks").Places(files, config)


def test_links_out_of_the_folder_lead_to_pages(files: Files, places: Any) -> None:
    assert places.relinked(LINKS, "concepts/x.md") == LINKS.replace(
        "](../../CHANGELOG.md", "](../project/changelog.md"
    ).replace("](../../Makefile", "](../files/Makefile.md")
    (makefile,) = [file for file in files if file.src_uri == "files/Makefile.md"]
    assert (ROOT / "Makefile").read_text() in makefile.content_string


def test_links_of_a_text_outside_of_the_folder_begin_there(places: Any) -> None:
    text = "[a](docs/GLOSSARY.md) [b](docs/decisions) [c](CONTRIBUTING.md)"
    assert (
        places.relinked(text, "project/changelog.md")
        == "[a](../GLOSSARY.md) [b](../decisions/README.md) [c](contributing.md)"
    )


def test_a_link_to_no_file_ends_the_build(places: Any) -> None:
    with pytest.raises(PluginError, match=r"links to tools/gone\.py, which is no file"):
        places.relinked("[a](../tools/gone.py)", "x.md")
