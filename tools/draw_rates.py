"""Draw docs/images/rates.svg from the recorded measurements: this package beside the original and the S3 connector."""

import json
import statistics
from pathlib import Path
from typing import Final, NamedTuple

from svg import BLUE, GREY, INK, Drawing

ROOT: Final = Path(__file__).resolve().parent.parent
PICTURE: Final = ROOT / "docs" / "images" / "rates.svg"

OWN: Final = "osstorchconnector 2"
CONTENDERS: Final = {
    OWN: ("this package", BLUE),
    "osstorchconnector 1.2.3": ("osstorchconnector 1.2.3", "#9aa4d8"),
    "s3torchconnector": ("s3torchconnector", "#c4c8cc"),
}
# File of the report, work, and what the picture calls it.
WORKS: Final = [
    ("small", "100 KB, iterable, 0 workers", "Images of 100 KB, one process"),
    ("small", "100 KB, map, 2 workers", "Images of 100 KB, map dataset, 2 workers"),
    ("tiny", "4 KB, iterable, 2 workers", "Samples of 4 KB, 2 workers"),
    ("large", "2 GiB into given memory", "One object of 2 GiB into memory"),
    ("checkpoint", "torch.load of 2 GiB", "torch.load of 2 GiB"),
]
_WIDTH: Final = 760
_BAR: Final = 17
_LEFT: Final = 24
_LONGEST: Final = 460


class Measured(NamedTuple):
    """What one contender reached, as benchmarks/report/README.md states it."""

    rate: float
    unit: str
    #: The median of how many times as long as this package it took, in the same round.
    times: float


def measured(part: str, work: str) -> dict[str, Measured]:
    """Return what each contender reached."""
    entries = json.loads((ROOT / "benchmarks" / "report" / f"{part}.json").read_text(encoding="utf-8"))
    of = {entry["contender"]: entry for entry in entries if entry["work"] == work}
    rates = {who: [run["amount"] / run["seconds"] for run in of[who]["runs"]] for who in CONTENDERS}
    own = rates[OWN]
    return {
        who: Measured(
            statistics.median(rates[who]),
            of[who]["unit"],
            statistics.median(first / second for first, second in zip(own, rates[who], strict=True)),
        )
        for who in CONTENDERS
    }


def _shown(one: Measured) -> str:
    rate = f"{one.rate / 1e9:.2f} GB/s" if one.unit == "bytes" else f"{one.rate:,.0f} objects/s"
    return rate if one.times == 1 else f"{rate}, takes {one.times:.1f} times as long"


def picture() -> str:
    """Return the picture as SVG."""
    groups = {name: measured(part, work) for part, work, name in WORKS}
    group = 28 + len(CONTENDERS) * (_BAR + 3)
    title = "Rates, measured side by side on one machine"
    said = "; ".join(
        f"{name}: " + ", ".join(f"{CONTENDERS[who][0]} {_shown(one)}" for who, one in of.items())
        for name, of in groups.items()
    )
    # The median of quotients is not the quotient of medians: a reader who divides gets another number.
    note = 'Rates are medians over several rounds. "Times as long" is the median of the ratios of each round.'
    drawing = Drawing(_WIDTH, 100 + group * len(groups), title, f"{said}. {note}")
    drawing.text(_LEFT, 32, title, 16, bold=True)
    x = float(_LEFT)
    for name, colour in CONTENDERS.values():
        drawing.bar(x, 46, 12, 12, colour)
        drawing.text(x + 18, 57, name, 12)
        x += 42 + 7 * len(name)
    y = 76.0
    for name, of in groups.items():
        drawing.text(_LEFT, y + 14, name, 13, bold=True)
        most = max(one.rate for one in of.values())
        for index, (who, one) in enumerate(of.items()):
            top = y + 22 + index * (_BAR + 3)
            length = _LONGEST * one.rate / most
            drawing.bar(_LEFT, top, length, _BAR, CONTENDERS[who][1])
            drawing.text(_LEFT + length + 8, top + 13, _shown(one), 12, INK if who == OWN else GREY)
        y += group
    drawing.text(_LEFT, y + 10, note, 11, GREY)
    return drawing.finished()


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
