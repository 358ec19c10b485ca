"""The report: tables and plots of the figures that the parts have written."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.suite.bars import BARS, Rows
from benchmarks.suite.contenders import ORIGINAL, OURS
from benchmarks.suite.measure import Row, read
from benchmarks.suite.report_conditions import conditions_text

_COLOURS = {OURS: "#d9480f", ORIGINAL: "#495057"}
# Published for the original: 10 million images of about 100 KB, 128 processors, 160 Gbit/s.
_PUBLISHED_IMAGES = 99_920
# How the names of their files begin: the extension, the C library, Python.
_LIBRARIES = ("_native.", "libc.", ("libpython", "python"))
_PROCESSORS, _NETWORK_BYTES = 128, 100e9 / 8


def write_report(folder: Path) -> None:
    """Write ``README.md`` and the plots from the JSON files of a folder."""
    # Pictures first: they are what a training feels.
    paths = sorted(folder.glob("*.json"), key=lambda path: (path.stem != "pictures", path.stem))
    parts = {path.stem: read(path) for path in paths}
    growth, instructions = parts.pop("growth", []), parts.pop("instructions", [])
    rows = {(row.work, row.contender): row for part in parts.values() for row in part}
    text = [_HEAD, "## Targets\n", *_bars(rows)]
    if parts:
        _draw_ratios(rows, folder / "ratios.png")
        text.append("\n![Rates of this package, as a multiple of those of 1.2.3](ratios.png)\n")
    for name, part in parts.items():
        text += [f"\n## {name.capitalize()}\n", *_table(part)]
    text += conditions_text(folder)
    if instructions:
        text += ["\n## Instructions\n", *_instructions(instructions)]
    if growth:
        text += ["\n## Growth\n", *_growth(growth, folder)]
    text += _model(rows)
    (folder / "README.md").write_text("\n".join(text) + "\n")


_HEAD = """# Measured

`make bench` writes this page. The machine has two processors, and the server runs on one of them. All contenders run in
turn on the same bytes, with default settings on both sides.

- The figures are medians of the rounds. Ratios are medians of the ratios within each round.
- CPU is the processor time of all processes of the contender. Memory is the peak beyond what the interpreter held with
  torch imported.
- nginx sends each object's CRC-64, and this package has compared every delivered byte with it.
- The floor is the least that the work takes: `wrk` for small objects, a bare loop of `recv` or `send` on one connection
  for large ones, files of the page cache for pictures, and the copy alone for saves in the background.

If a target is missed, profiles show why: [the limits seen](../../docs/decisions/speed-log.md#limits-seen).
"""


def _bars(rows: Rows) -> list[str]:
    lines = ["| work | figure | target | measured | |", "| --- | --- | --- | --- | --- |"]
    for bar in BARS:
        try:
            value = bar.measure(rows)
        except (KeyError, ZeroDivisionError):
            lines.append(f"| {bar.work} | {bar.what} | {bar.text} | not measured | |")
            continue
        missed = bar.missed_by(value)
        verdict = f"missed by {missed:.1%}" if missed else ""
        lines.append(f"| {bar.work} | {bar.what} | {bar.text} | {value:.3g} | {verdict} |")
    return lines


def _table(rows: Iterable[Row]) -> list[str]:
    lines = ["| work | | rate | CPU | peak memory |", "| --- | --- | --: | --: | --: |"]
    for row in rows:
        match row.unit:
            case "bytes":
                rate, cpu = f"{row.rate / 1e9:.2f} GB/s", f"{row.cpu_each * 1e9:.2f} s per GB"
            case "times":
                rate, cpu = f"{row.seconds * 1e3:.0f} ms", ""
            case _:
                rate, cpu = f"{row.rate:,.0f} {row.unit}/s", f"{row.cpu_each * 1e6:.1f} µs each"
        memory = f"{row.memory / 1e6:,.0f} MB" if row.memory else ""
        facts = "".join(f", {value:g} {name}" for name, value in row.facts.items())
        lines.append(f"| {row.work}{facts} | {row.contender} | {rate} | {cpu} | {memory} |")
    return lines


def _pyplot() -> Any:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    return plt


def _draw_ratios(rows: Rows, path: Path) -> None:
    """Draw how many times faster than the original each piece of work is, and how much less processor time it takes."""
    # For imports and first batches, the processor time of the workers is not known.
    works = [
        work for (work, name), row in rows.items() if name == OURS and row.unit != "times" and (work, ORIGINAL) in rows
    ]
    pyplot = _pyplot()
    figure, axes = pyplot.subplots(figsize=(9, 0.42 * len(works) + 1.2), layout="constrained")
    places = range(len(works))
    rates = [rows[work, OURS].rate / rows[work, ORIGINAL].rate for work in works]
    costs = [rows[work, ORIGINAL].cpu_each / rows[work, OURS].cpu_each for work in works]
    axes.barh([place - 0.2 for place in places], rates, 0.38, label="rate", color="#d9480f")
    axes.barh([place + 0.2 for place in places], costs, 0.38, label="work per CPU second", color="#fab005")
    axes.axvline(1, color="#495057", linewidth=1)
    axes.set(yticks=list(places), yticklabels=works, xscale="log", xlabel="times those of 1.2.3")
    axes.set_xticks([1, 2, 5, 10, 20], ["1", "2", "5", "10", "20"])
    axes.invert_yaxis()
    axes.legend()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _instructions(rows: list[Row]) -> list[str]:
    """Return a table of the instructions that an object takes, and where."""
    lines = ["| object | instructions | the extension | the C library, which copies | Python | allocations |"]
    lines.append("| --- | --: | --: | --: | --: | --: |")
    for row in rows:
        parts = (sum(part for name, part in row.facts.items() if name.startswith(begin)) for begin in _LIBRARIES)
        counted = [f"{part:,.0f}" for part in (row.rate, *parts)] + [f"{row.facts['allocations']:.1f}"]
        lines.append(f"| {row.work} | {' | '.join(counted)} |")
    lines.append(
        "\nCallgrind counts the instructions in a stream of one process, without the kernel. The count is the same in"
        " each run, except for how often threads wake each other. Allocations are calls to the C library; Python makes"
        " most of its own elsewhere. The processor that callgrind simulates lacks the instructions for SHA-256: with"
        " them, signing takes 21,000 less."
    )
    return lines


def _growth(rows: list[Row], folder: Path) -> list[str]:
    """Draw one plot for each kind of growth."""
    titles = {
        "workers": ("DataLoader workers", "objects/s", "100 KB objects, two processors"),
        "objects": ("objects", "objects/s", "1 KB objects, 2 workers"),
        "size": ("bytes of an object", "bytes/s", "throughput over object sizes, one process"),
        "budget": ("bytes of prefetch budget", "bytes besides the interpreter", "peak memory of a slow reader"),
    }
    pyplot = _pyplot()
    text = []
    for kind, (abscissa, ordinate, title) in titles.items():
        found = [row for row in rows if row.work == kind]
        if not found:
            continue
        figure, axes = pyplot.subplots(figsize=(6, 3.6), layout="constrained")
        for name in dict.fromkeys(row.contender for row in found):
            points = sorted((row.facts["x"], row) for row in found if row.contender == name)
            values = [row.memory if kind == "budget" else row.rate for _, row in points]
            axes.plot([x for x, _ in points], values, marker="o", label=name, color=_COLOURS.get(name))
        if kind == "budget":
            budgets = [row.facts["x"] for row in found]
            axes.plot(budgets, budgets, linestyle="--", color="#868e96", label="the budget")
        axes.set(xlabel=abscissa, ylabel=ordinate, title=title, ylim=(0, None))
        if kind != "workers":
            axes.set_xscale("log")
        axes.legend()
        figure.savefig(folder / f"growth-{kind}.png", dpi=110)
        pyplot.close(figure)
        text.append(f"![{title}](growth-{kind}.png)")
    return text


def _model(rows: Rows) -> list[str]:
    """Return what a large machine would reach, and the assumptions."""
    row = rows.get(("100 KB, iterable, 2 workers", OURS))
    if row is None:
        return []
    network = _NETWORK_BYTES / 100_000
    processors = network * row.cpu_each
    rate = min(network, _PROCESSORS / row.cpu_each)
    text = f"""
## A machine of {_PROCESSORS} processors and 100 Gbit/s

Take 10 million objects of 100 KB. The network carries {network:,.0f} of them a second. An object takes
{row.cpu_each * 1e6:.0f} µs of CPU, as measured with two workers, so this rate takes {processors:.1f} processors. The
machine would reach {rate:,.0f} objects/s, and an epoch would take {1e7 / rate:,.0f} s, with
{_PROCESSORS - processors:,.0f} processors left to decode and transform. The original publishes
{_PUBLISHED_IMAGES:,} images/s, on 160 Gbit/s.

The model assumes three things. An object takes as much CPU as here, although the network here is the loopback
interface, without the interrupts of a network card. Memory bandwidth and OSS keep up. All workers together keep
{network * 0.035:,.0f} requests in flight at 35 ms to the first byte."""
    return text.splitlines()
