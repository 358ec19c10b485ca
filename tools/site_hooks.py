"""Hooks of mkdocs: files of the repository outside of docs/ become pages of the site, and links to them work.

Pages link to each other and to source files by relative paths, which a viewer of the repository follows. On the site a
text such as CHANGELOG.md is a page in the navigation, a source file is a page that shows it, and an image is copied.
"""

import posixpath
import re
from pathlib import Path
from typing import Final

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT: Final = Path(__file__).resolve().parent.parent

# Texts outside of docs/ that are pages of the site, and where they are.
TEXTS: Final = {
    "ARCHITECTURE.md": "project/architecture.md",
    "CHANGELOG.md": "project/changelog.md",
    "README.zh.md": "zh/README.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "SECURITY.md": "project/reporting.md",
    "deploy/README.md": "guides/deploy.md",
    "benchmarks/report/README.md": "benchmarks/report.md",
}
_IMAGES: Final = {".png", ".svg"}
_LANGUAGES: Final = {".py": "python", ".rs": "rust", ".toml": "toml", ".yaml": "yaml", ".yml": "yaml", ".sh": "sh"}
# A block of code, code in a line, or a link, of which the address is what follows.
_LINK: Final = re.compile(
    r"^(?P<fence>```+|~~~+).*?^(?P=fence)[ ]*$|(?P<ticks>`+).*?(?P=ticks)|(?<=\]\()(?P<address>[^)\s]+)",
    re.MULTILINE | re.DOTALL,
)


class Places:
    """Where each file of the repository that the site shows is, and which file each page comes from."""

    def __init__(self, files: Files, config: MkDocsConfig) -> None:
        """Add the texts outside of docs/ to the files of the site."""
        self._files = files
        self._config = config
        # For the site, the first page of docs/ is the README.
        self._page_of = {**TEXTS, "README.md": "README.md"}
        self._source_of = {page: source for source, page in TEXTS.items()}
        for source, page in TEXTS.items():
            files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))

    def relinked(self, markdown: str, page: str) -> str:
        """Return the text of a page with the addresses of files as they are on the site, and add the files to it."""
        source = self._source_of.get(page, f"docs/{page}")

        def replaced(match: re.Match[str]) -> str:
            address = match["address"]
            if address is None or re.match(r"[a-z]+:|#|/", address):
                return match[0]
            path, hash_, anchor = address.partition("#")
            target = self._target(posixpath.normpath(posixpath.join(posixpath.dirname(source), path)))
            return posixpath.relpath(target, posixpath.dirname(page) or ".") + hash_ + anchor

        return _LINK.sub(replaced, markdown)

    def _target(self, path: str) -> str:
        if path.startswith("docs/"):
            path = path.removeprefix("docs/")
            # A directory is shown by its index.
            return f"{path}/README.md" if (ROOT / "docs" / path).is_dir() else path
        if path not in self._page_of:
            self._add(path)
        return self._page_of[path]

    def _add(self, path: str) -> None:
        source = ROOT / path
        if not source.is_file():
            raise PluginError(f"a page links to {path}, which is no file of this repository")
        page = f"files/{path}"
        if source.suffix in _IMAGES:
            file = File.generated(self._config, page, abs_src_path=str(source))
        else:
            page += ".md"
            language = _LANGUAGES.get(source.suffix, "text")
            text = source.read_text(encoding="utf-8")
            head = f"---\ntitle: {path}\nsearch: {{exclude: true}}\n---\n\n# {path}\n\n"
            file = File.generated(
                self._config,
                page,
                content=f"{head}````{language}\n{text}````\n",
                inclusion=InclusionLevel.NOT_IN_NAV,
            )
        self._files.append(file)
        self._page_of[path] = page
        self._source_of[page] = path


_places: Places


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the texts outside of docs/, and everything outside of docs/ that a page links to."""
    global _places  # noqa: PLW0603 - mkdocs calls functions of this module, and gives them no place for a value
    _places = Places(files, config)
    # All files must be known before the first page is rendered. Pages that this adds show code, which has no links.
    for file in list(files.documentation_pages()):
        _places.relinked(file.content_string, file.src_uri)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001 - by name
    """Replace the addresses of links that leave docs/, or that begin outside of it."""
    return _places.relinked(markdown, page.file.src_uri)
