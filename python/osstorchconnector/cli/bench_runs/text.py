"""The result as lines for a terminal."""

from collections.abc import Iterator

from osstorchconnector.cli.bench_runs.benchmark import Result
from osstorchconnector.cli.bench_runs.measured import PERCENTILES, Measured
from osstorchconnector.cli.output import human


def lines(result: Result) -> Iterator[str]:
    """Yield the lines of a result."""
    more = "at least " if result.sample.more else ""
    count = len(result.sample.rows)
    yield f"{result.sample.uri}: {more}{count:,} objects; half of them have up to {human(result.sample.median)}"
    yield ""
    yield f"{'':<26} {'objects/s':>10} {'GB/s':>8} {'CPU/object':>12} {'cores':>6}"
    yield _row("default settings", result.main)
    for name, run in result.by_class.items():
        yield _row(f"  {name}", run)
    for number, run in result.by_concurrency.items():
        yield _row(f"{number} in flight", run)
    for number, run in result.by_workers.items():
        yield _row(f"{number} workers", run)
    if result.written is not None:
        yield _row("writing, 16 in flight", result.written)
    yield ""
    yield f"{'latency':<26} " + " ".join(f"{f'p{percent}':>9}" for percent in PERCENTILES) + f" {'max':>9}"
    for name, run in (
        ("first byte", result.first_byte),
        ("one at a time", result.single),
        ("16 in flight", result.loaded),
    ):
        shown = [run.percentile(percent) for percent in PERCENTILES] + [max(run.latencies, default=0.0)]
        yield f"{name:<26} " + " ".join(f"{value * 1000:>6.1f} ms" for value in shown)
    yield ""
    floor = result.floor
    yield (
        f"floor: {floor.receive / 1e9:.1f} GB/s through one loopback connection, {floor.checksum / 1e9:.1f} GB/s of "
        f"CRC-64 on one processor; reading needs {result.cpu_over_floor:.1f} times the processor time of both"
    )
    yield f"limited by {result.limit.what}: {result.limit.text}"
    for one in result.recommended:
        gain = one.rate / one.default if one.default else 0.0
        yield f"recommended: {one.setting}={one.value}, {gain:.2f} times the default: {one.text}"
    if not result.recommended:
        yield "recommended: the defaults: nothing that was tried is faster"
    yield f"traffic: {human(result.traffic)}"
    if result.short:
        yield f"  {len(result.short)} runs used their part of it up early; a higher --traffic measures longer"


def _row(name: str, run: Measured) -> str:
    return (
        f"{name:<26} {run.objects_rate:>10,.0f} {run.rate / 1e9:>8.3f} {run.cpu_per_object * 1e6:>9,.0f} us "
        f"{run.cores:>6.2f}"
    )
