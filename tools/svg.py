"""Drawing for the documentation: shapes and texts of an SVG that looks the same on a light and on a dark page."""

from html import escape
from typing import Final, Literal

# It has a ground of its own, so a viewer's colours do not matter, and no font that a reader may not have.
GROUND: Final = "#ffffff"
EDGE: Final = "#d0d7de"
INK: Final = "#1f2328"
GREY: Final = "#59636e"
BLUE: Final = "#3f51b5"
PALE: Final = "#e8eaf6"
_FONT: Final = "system-ui, 'Segoe UI', 'Noto Sans', 'PingFang SC', 'Microsoft YaHei', sans-serif"

Anchor = Literal["start", "middle", "end"]


class Drawing:
    """A picture of a fixed size, to which shapes are added from the back to the front."""

    def __init__(self, width: int, height: int, title: str, description: str) -> None:
        """Begin a picture; title and description are for readers who cannot see it."""
        size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        head = f'<path d="M0 0L8 4L0 8z" fill="{GREY}"/>'
        place = 'viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto-start-reverse"'
        edge = f'width="{width - 1}" height="{height - 1}" rx="8" fill="{GROUND}" stroke="{EDGE}"'
        self._parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" font-family="{_FONT}">',
            f"<title>{escape(title)}</title>",
            f"<desc>{escape(description)}</desc>",
            f'<defs><marker id="head" {place}>{head}</marker></defs>',
            f'<rect x="0.5" y="0.5" {edge}/>',
        ]

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        fill: str = PALE,
        edge: str = BLUE,
        *,
        dashed: bool = False,
    ) -> None:
        """Add a rectangle with round corners."""
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        self._parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="5" fill="{fill}" stroke="{edge}"'
            f"{dash}/>"
        )

    def bar(self, x: float, y: float, width: float, height: float, fill: str) -> None:
        """Add a bar of a chart."""
        self._parts.append(f'<rect x="{x:g}" y="{y:g}" width="{width:.1f}" height="{height:g}" fill="{fill}"/>')

    def text(
        self,
        x: float,
        y: float,
        text: str,
        size: int = 13,
        fill: str = INK,
        anchor: Anchor = "start",
        *,
        bold: bool = False,
    ) -> None:
        """Add one line of text; `y` is its baseline."""
        weight = ' font-weight="600"' if bold else ""
        self._parts.append(
            f'<text x="{x:g}" y="{y:g}" font-size="{size}" fill="{fill}" text-anchor="{anchor}"{weight}>'
            f"{escape(text)}</text>"
        )

    def arrow(self, *points: tuple[float, float], dashed: bool = False) -> None:
        """Add a line through the points, with a head at its end."""
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        path = "L".join(f"{x:g} {y:g}" for x, y in points)
        self._parts.append(
            f'<path d="M{path}" fill="none" stroke="{GREY}" stroke-width="1.5"{dash} marker-end="url(#head)"/>'
        )

    def finished(self) -> str:
        """Return the picture as the text of a file."""
        return "\n".join([*self._parts, "</svg>", ""])
