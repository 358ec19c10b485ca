"""Plots as SVG, without any library and any script."""

import html
from collections.abc import Sequence

_WIDTH = 520
_ROW = 30
_LABEL = 150
# Room for the text at the end of the longest bar, also in the larger letters of a narrow page.
_VALUE = 140


def bars(items: Sequence[tuple[str, float, str]], title: str) -> str:
    """Return horizontal bars.

    Args:
        items: For each bar its label, its length, and the text at its end.
        title: What the bars show, for people who do not see them.
    """
    longest = max((value for _, value, _ in items), default=0.0) or 1.0
    room = _WIDTH - _LABEL - _VALUE
    parts = []
    for number, (label, value, text) in enumerate(items):
        top = number * _ROW
        length = max(1.0, room * value / longest)
        parts.append(
            f'<text x="{_LABEL - 8}" y="{top + 20}" class="label" text-anchor="end">{html.escape(label)}</text>'
            f'<rect x="{_LABEL}" y="{top + 6}" width="{length:.1f}" height="{_ROW - 12}" rx="3" class="bar"/>'
            f'<text x="{_LABEL + length + 6:.1f}" y="{top + 20}" class="value">{html.escape(text)}</text>'
        )
    height = max(1, len(items)) * _ROW
    return f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{html.escape(title)}">{"".join(parts)}</svg>'


def histogram(values: Sequence[float], marks: Sequence[float], title: str) -> str:
    """Return a histogram of times.

    Args:
        values: Seconds.
        marks: Seconds, at which to draw a line.
        title: What it shows.
    """
    width, height, bottom, columns = _WIDTH, 150, 30, 48
    ordered = sorted(values)
    if not ordered:
        return ""
    # A few slow requests would press all others into one column.
    most = max(ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)] * 1.1, 1e-9)
    counts = [0] * columns
    for value in ordered:
        counts[min(columns - 1, int(value / most * columns))] += 1
    highest = max(counts)
    step = width / columns
    parts = [
        f'<rect x="{index * step + 0.5:.1f}" y="{height - count / highest * (height - 24):.1f}" '
        f'width="{step - 1:.1f}" height="{count / highest * (height - 24):.1f}" class="bar"/>'
        for index, count in enumerate(counts)
        if count
    ]
    for value in marks:
        place = min(width - 1.0, value / most * width)
        parts.append(f'<line x1="{place:.1f}" y1="0" x2="{place:.1f}" y2="{height}" class="mark"/>')
    parts.append(
        f'<line x1="0" y1="{height}" x2="{width}" y2="{height}" class="axis"/>'
        f'<text x="0" y="{height + 18}" class="label">0 ms</text>'
        f'<text x="{width}" y="{height + 18}" class="label" text-anchor="end">{most * 1000:.1f} ms</text>'
    )
    return (
        f'<svg viewBox="0 0 {width} {height + bottom}" role="img" aria-label="{html.escape(title)}">'
        f"{''.join(parts)}</svg>"
    )
