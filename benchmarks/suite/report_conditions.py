"""The part of the report about conditions: a heat map, and every cell that misses its target."""

import json
import math
import statistics
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.suite.contenders import FLOOR, OURS
from benchmarks.suite.measure import Row, Run

#: The least share of the best peer's rate, and of the floor's for small and for large objects.
OF_PEER, OF_FLOOR_SMALL, OF_FLOOR_LARGE = 0.97, 0.75, 0.8
_FLOOR_WORKS = {
    "100 KB, iterable": OF_FLOOR_SMALL,
    "large, pieces of 1 MiB": OF_FLOOR_LARGE,
    "large, at once": OF_FLOOR_LARGE,
}


_HEAD = """Each of these rows ran in each named condition (`make bench-conditions`), beside 1.2.3, the S3 connector
where it runs, and the floor: a bare client with the best number of connections.

![How many times the rate of the best peer, and which share of the floor](conditions.png)
"""


class Cell(NamedTuple):
    """This package's rate as a multiple of another's, the median of the rounds; None if nothing else ran."""

    times: float | None
    other: str = ""


def read_conditions(folder: Path) -> dict[str, dict[str, Any]]:
    """Return what was measured in each condition, in the order of the suite."""
    from benchmarks.suite.conditions import CONDITIONS

    found = {}
    for name in CONDITIONS:
        path = folder / "conditions" / f"{name}.json"
        if path.exists():
            measured = json.loads(path.read_text())
            rows = [Row(**{**row, "runs": [Run(**run) for run in row["runs"]]}) for row in measured["rows"]]
            found[name] = {**measured, "rows": {(row.work, row.contender): row for row in rows}}
    return found


def _times(own: Row, other: Row) -> float:
    # A slow contender has fewer rounds.
    return statistics.median(
        (mine.amount / mine.seconds) / (theirs.amount / theirs.seconds)
        for mine, theirs in zip(own.runs, other.runs, strict=False)
    )


def beside_peer(rows: dict[tuple[str, str], Row], work: str) -> Cell:
    """Compare with the best peer that ran."""
    own = rows.get((work, OURS))
    peers = [row for (name, who), row in rows.items() if name == work and who not in {OURS, FLOOR}]
    if own is None or not peers:
        return Cell(None)
    best = max(peers, key=lambda row: row.rate)
    return Cell(_times(own, best), best.contender)


def beside_floor(rows: dict[tuple[str, str], Row], work: str) -> Cell:
    """Compare with the floor."""
    own, floor = rows.get((work, OURS)), rows.get((work, FLOOR))
    return Cell(None) if own is None or floor is None else Cell(_times(own, floor), FLOOR)


def conditions_text(folder: Path) -> list[str]:
    """Draw the heat map, and return the text of the report."""
    found = read_conditions(folder)
    if not found:
        return []
    works = list(dict.fromkeys(work for one in found.values() for work, _ in one["rows"]))
    peers = {name: [beside_peer(one["rows"], work) for work in works] for name, one in found.items()}
    floors = {name: [beside_floor(one["rows"], work) for work in works] for name, one in found.items()}
    _draw(folder / "conditions.png", works, peers, floors)
    lines = [
        "\n## Conditions\n",
        _HEAD,
        "| condition | what it is | rounds | others used | what else limits it |",
        "| --- | --- | --: | --: | --- |",
    ]
    for name, one in found.items():
        busy = f"{one['used_by_others']:.0%} of the processors"
        lines.append(f"| {name} | {one['text']} | {one['rounds']} | {busy} | {one['limits']} |")
    lines += ["", *_missed(found, works, peers, floors)]
    machines = list(dict.fromkeys(one["machine"] for one in found.values()))
    lines.append(f"\nMeasured on {'; and on '.join(machines)}. The servers run on the last processor.")
    return lines


def _missed(
    found: dict[str, Any], works: list[str], peers: dict[str, list[Cell]], floors: dict[str, list[Cell]]
) -> list[str]:
    lines = []
    for name in found:
        for work, peer, floor in zip(works, peers[name], floors[name], strict=True):
            if peer.times is not None and peer.times < OF_PEER:
                lines.append(f"| {name} | {work} | {peer.times:.2f} times the rate of {peer.other} | {OF_PEER} |")
            least = _FLOOR_WORKS.get(work)
            if floor.times is not None and least is not None and floor.times < least:
                lines.append(f"| {name} | {work} | {floor.times:.2f} of the floor | {least} |")
    if not lines:
        return ["No cell misses its target."]
    return ["| condition | row | measured | target |", "| --- | --- | --: | --: |", *lines]


def _draw(path: Path, works: list[str], peers: dict[str, list[Cell]], floors: dict[str, list[Cell]]) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, both = plt.subplots(
        1, 2, figsize=(13, 1.6 + 0.42 * len(peers)), layout="constrained", width_ratios=[len(works), len(_FLOOR_WORKS)]
    )
    figure.suptitle("This package in each condition, two-core machine", fontsize=14)
    floor_works = [work for work in works if work in _FLOOR_WORKS]
    kept = [works.index(work) for work in floor_works]
    panels = (
        ("times the rate of the best peer", works, peers),
        ("share of the floor", floor_works, {name: [row[at] for at in kept] for name, row in floors.items()}),
    )
    for axes, (title, columns, cells) in zip(both, panels, strict=True):
        # Red below 1, green above, each doubling one step of colour.
        shades = [[math.nan if cell.times is None else math.log2(cell.times) for cell in row] for row in cells.values()]
        axes.imshow(shades, cmap="RdYlGn", vmin=-2, vmax=2, aspect="auto")
        for y, row in enumerate(cells.values()):
            for x, cell in enumerate(row):
                text = "" if cell.times is None else f"{cell.times:.2f}"
                axes.text(x, y, text, ha="center", va="center", fontsize=10)
        axes.set_title(title)
        axes.set_xticks(range(len(columns)), columns, rotation=30, ha="right")
        axes.set_yticks(range(len(cells)), list(cells))
    figure.savefig(path, dpi=110)
    plt.close(figure)
