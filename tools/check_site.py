"""Check the built site: every link and anchor leads somewhere, and no page loads anything from the network.

mkdocs checks the links of Markdown. This also sees those of the reference, which are made from docstrings, and those of
the theme.
"""

import re
import sys
import urllib.parse
from html.parser import HTMLParser
from pathlib import Path
from typing import Final

# What a browser fetches by itself; the address of <a> is fetched if a reader clicks on it.
_FETCHED: Final = {"audio", "embed", "iframe", "img", "link", "object", "script", "source", "video"}
# These <link>s are addresses that nothing is fetched from.
_NOT_FETCHED: Final = {"canonical", "prev", "next", "edit"}
_REMOTE: Final = ("http:", "https:", "//")
_STYLE_ADDRESS: Final = re.compile(r"""(?:url\(|@import\s*)["']?((?:https?:)?//[^"')\s]+)""")


class _Addresses(HTMLParser):
    """The anchors of a page, and the addresses that it names."""

    def __init__(self) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.linked: list[str] = []
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value for name, value in attrs if value is not None}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        for name in ("href", "src", "data", "poster"):
            if name not in given or (tag == "link" and given.get("rel") in _NOT_FETCHED):
                continue
            (self.fetched if tag in _FETCHED else self.linked).append(given[name])


def findings(site: Path) -> list[str]:
    """Return one line for each link that leads nowhere, and for each address of the network that a page loads from."""
    pages = {}
    for path in sorted(site.rglob("*.html")):
        pages[path] = _Addresses()
        pages[path].feed(path.read_text(encoding="utf-8"))
    if not pages:
        return [f"{site} has no page: run make docs"]
    found = []
    for path, page in pages.items():
        name = path.relative_to(site)
        found += [f"{name}: loads {address}" for address in page.fetched if address.startswith(_REMOTE)]
        for address in [*page.linked, *page.fetched]:
            problem = _problem(address, path, site, pages)
            if problem is not None:
                found.append(f"{name}: {address} leads to no {problem}")
    for path in sorted(site.rglob("*.css")):
        addresses = _STYLE_ADDRESS.findall(path.read_text(encoding="utf-8"))
        found += [f"{path.relative_to(site)}: loads {address}" for address in addresses]
    return found


def _problem(address: str, path: Path, site: Path, pages: dict[Path, _Addresses]) -> str | None:
    """Return what an address of this site lacks: the file or the anchor."""
    parts = urllib.parse.urlsplit(address)
    if parts.scheme or parts.netloc:
        return None
    target = path
    if parts.path:
        # A server gives 404.html anywhere, so its addresses begin at the root.
        folder = site if parts.path.startswith("/") else path.parent
        target = (folder / urllib.parse.unquote(parts.path).lstrip("/")).resolve()
    if target.is_dir():
        target /= "index.html"
    if not target.exists():
        return "file"
    anchor = urllib.parse.unquote(parts.fragment)
    return "anchor" if anchor and target in pages and anchor not in pages[target].anchors else None


def main() -> int:
    """Print each finding; exit status 1 if there is one."""
    (site,) = sys.argv[1:]
    found = findings(Path(site).resolve())
    for line in found:
        print(line, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
