"""The result as one page that needs nothing else: no script, no font and no picture from elsewhere."""

import html
import platform
from datetime import UTC, datetime
from typing import Final

from osstorchconnector import __version__
from osstorchconnector._printable import printable
from osstorchconnector.cli.bench_runs.benchmark import Result
from osstorchconnector.cli.bench_runs.measured import PERCENTILES, Measured
from osstorchconnector.cli.bench_runs.svg import bars, histogram
from osstorchconnector.cli.output import human

# Below that, a rate in GB/s would have too few digits.
_GB_FROM: Final = 1e9
_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1c2733; --soft: #5b6b7b; --line: #d8e0e8; --card: #ffffff; --page: #f3f6f9;
  --bar: #1668c7; --mark: #c2410c; --good: #0f7b4f; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9aa8b5; --line: #33414e; --card: #18212b;
  --page: #0f151b; --bar: #58a6ff; --mark: #fb923c; --good: #4ade80; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 24px 16px 48px; }
h1 { font-size: 1.25rem; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1rem; margin: 0 0 12px; }
p { margin: 0; } .soft { color: var(--soft); }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; margin: 20px 0 12px; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 460px), 1fr)); gap: 12px; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 16px; min-width: 0; }
.big { font-size: clamp(1.35rem, 5vw, 1.9rem); font-weight: 650; line-height: 1.2; white-space: nowrap; }
.verdict { border-left: 4px solid var(--bar); margin-bottom: 12px; }
.verdict strong { color: var(--good); }
svg { display: block; width: 100%; height: auto; }
.bar { fill: var(--bar); } .mark { stroke: var(--mark); stroke-width: 1.5; } .axis { stroke: var(--line); }
.label { fill: var(--soft); font-size: 13px; } .value { fill: var(--ink); font-size: 13px; }
table { border-collapse: collapse; width: 100%; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 4px 6px; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; white-space: normal; }
th { color: var(--soft); font-weight: 500; }
@media (max-width: 520px) { .label, .value { font-size: 18px; } .card { padding: 12px; } }
"""


def page(result: Result) -> str:
    """Return the page as HTML."""
    main = result.main
    uri = _text(result.sample.uri)
    figures = [
        (f"{main.rate / 1e9:.2f} GB/s", "read by one process, default settings"),
        (f"{main.objects_rate:,.0f}", "objects a second"),
        (f"{result.first_byte.percentile(50) * 1000:.1f} ms", "to the first byte"),
        (f"{main.cpu_per_object * 1e6:,.0f} µs", "processor time for each object"),
    ]
    cards = [
        ("Requests in flight", _rates({f"{number}": run for number, run in result.by_concurrency.items()})),
        ("Worker processes", _rates({"1": main, **{str(number): run for number, run in result.by_workers.items()}})),
        ("Latency, one request at a time", _latency(result.single)),
        ("Latency, 16 in flight", _latency(result.loaded)),
        ("By size of the objects", _rates(result.by_class or {"all": main})),
        ("The floor of this machine", _floor(result)),
        ("All figures", _table(result)),
        ("This measurement", _about(result)),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>osst bench {uri}</title><style>{_STYLE}</style></head><body><main>"
        f'<h1>{uri}</h1><p class="soft">{_sample(result)}</p>'
        f'<div class="figures">{"".join(_figure(*figure) for figure in figures)}</div>'
        f'<div class="card verdict"><p><b>Limited by {_text(result.limit.what)}</b>: {_text(result.limit.text)}.</p>'
        f"<p>{_recommended(result)}</p></div>"
        f'<div class="grid">{"".join(_card(*card) for card in cards)}</div>'
        "</main></body></html>\n"
    )


def _text(text: str) -> str:
    return html.escape(printable(text))


def _figure(value: str, text: str) -> str:
    return f'<div class="card"><div class="big">{_text(value)}</div><p class="soft">{_text(text)}</p></div>'


def _card(title: str, content: str) -> str:
    return f'<section class="card"><h2>{_text(title)}</h2>{content}</section>'


def _sample(result: Result) -> str:
    more = "at least " if result.sample.more else ""
    return f"{more}{len(result.sample.rows):,} objects; half of them have up to {human(result.sample.median)}"


def _recommended(result: Result) -> str:
    if not result.recommended:
        return "<strong>Keep the default settings</strong>: nothing that was tried is faster."
    return "<br>".join(
        f"<strong>{_text(one.setting)}={one.value}</strong>: {one.rate / (one.default or 1):.2f} times the default; "
        f"{_text(one.text)}."
        for one in result.recommended
    )


def _rates(runs: dict[str, Measured]) -> str:
    # One unit for all bars of a plot.
    unit, name = (1e9, "GB/s") if max(run.rate for run in runs.values()) >= _GB_FROM else (1e6, "MB/s")
    items = [(label, run.rate, f"{run.rate / unit:.2f} {name}") for label, run in runs.items()]
    return bars(items, "rates: " + ", ".join(f"{label}: {text}" for label, _, text in items))


def _latency(run: Measured) -> str:
    marks = {f"p{percent}": run.percentile(percent) for percent in PERCENTILES}
    text = " · ".join(f"{name} {value * 1000:.1f} ms" for name, value in marks.items())
    plot = histogram(run.latencies, [*marks.values()], f"latencies: {text}")
    return f'<p class="soft">{_text(text)}</p>{plot}'


def _table(result: Result) -> str:
    runs = {"default settings": result.main}
    runs |= {f"objects {name}": run for name, run in result.by_class.items()}
    runs |= {f"{number} in flight": run for number, run in result.by_concurrency.items()}
    runs |= {f"{number} workers": run for number, run in result.by_workers.items()}
    if result.written is not None:
        runs["writing, 16 in flight"] = result.written
    rows = "".join(
        f"<tr><td>{_text(name)}</td><td>{run.objects_rate:,.0f}</td><td>{run.rate / 1e9:.3f}</td>"
        f"<td>{run.cpu_per_object * 1e6:,.0f}</td><td>{run.cores:.2f}</td></tr>"
        for name, run in runs.items()
    )
    return f"<table><tr><th></th><th>objects/s</th><th>GB/s</th><th>µs CPU</th><th>cores</th></tr>{rows}</table>"


def _floor(result: Result) -> str:
    floor = result.floor
    items = [
        ("receiving", floor.receive_cpu, f"{floor.receive_cpu:.2f} s"),
        ("and CRC-64", floor.cpu_per_gb, f"{floor.cpu_per_gb:.2f} s"),
        ("this package", result.main.cpu_per_gb, f"{result.main.cpu_per_gb:.2f} s"),
    ]
    text = f"Processor time for 10<sup>9</sup> bytes: {result.cpu_over_floor:.1f} times the floor."
    return f'<p class="soft">{text}</p>{bars(items, "processor time for 10**9 bytes")}'


def _about(result: Result) -> str:
    lines = [
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {platform.machine()}, Linux {platform.release()}",
        f"osstorchconnector {__version__}, Python {platform.python_version()}",
        f"Traffic: {human(result.traffic)}",
        f"Busy processors of the machine during the main run: {result.main.busy:.0%}",
        f"Requests that were sent again: {result.main.retries}, {result.main.throttled} of them after throttling",
    ]
    if result.short:
        lines.append(f"{len(result.short)} runs used their part of the traffic up early")
    return "".join(f'<p class="soft">{_text(line)}</p>' for line in lines)
